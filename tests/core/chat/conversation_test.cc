#include "core/chat/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/status.h"
#include "core/tokenizer/simple_vocabularies.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

// Template plain over bytes: a message of n bytes has n + 1 tokens.
class ConversationTest : public testing::Test {
 protected:
  ConversationTest()
      : tokenizer_(*MakeByteTokenizer({"<|endoftext|>"})),
        chat_(*ChatTemplate::Make(ChatTemplateKind::kPlain, *tokenizer_)) {}

  std::string TextOf(const Conversation::Prompt& prompt) const { return *tokenizer_->Decode(prompt.ids); }

  std::unique_ptr<Tokenizer> tokenizer_;
  ChatTemplate chat_;
};

TEST_F(ConversationTest, GrowsAndIsTakenBack) {
  Conversation talk(chat_, 100);
  EXPECT_FALSE(talk.Undo());
  EXPECT_FALSE(talk.TakeBackAnswer());
  talk.SetSystem("be kind");
  talk.Ask("hello");
  EXPECT_TRUE(talk.asked());
  EXPECT_FALSE(talk.TakeBackAnswer());
  EXPECT_EQ(TextOf(*talk.MakePrompt(10)), "be kind\nhello\n");
  talk.Answer("hi");
  talk.Ask("bye");
  EXPECT_EQ(TextOf(*talk.MakePrompt(10)), "be kind\nhello\nhi<|endoftext|>bye\n");
  EXPECT_EQ(talk.MakePrompt(10)->answer_tokens, 10);
  talk.Answer("so long");
  EXPECT_EQ(talk.messages(), (std::vector<Message>{{MessageRole::kSystem, "be kind"},
                                                   {MessageRole::kUser, "hello"},
                                                   {MessageRole::kAssistant, "hi"},
                                                   {MessageRole::kUser, "bye"},
                                                   {MessageRole::kAssistant, "so long"}}));
  EXPECT_TRUE(talk.TakeBackAnswer());
  EXPECT_TRUE(talk.asked());
  EXPECT_TRUE(talk.Undo());  // the question without an answer
  EXPECT_EQ(talk.messages().size(), 3u);
  EXPECT_TRUE(talk.Undo());  // a question with its answer
  EXPECT_EQ(talk.messages().size(), 1u);
  talk.Ask("anew");
  talk.Clear();
  EXPECT_EQ(talk.messages(), (std::vector<Message>{{MessageRole::kSystem, "be kind"}}));
}

TEST_F(ConversationTest, LeavesOutTheOldestExchangesOnly) {
  Conversation talk(chat_, 20);
  talk.SetSystem("s");  // 2 tokens
  for (const char* question : {"aaa", "bbb", "ccc"}) {
    talk.Ask(question);  // 4 tokens
    talk.Answer("x");    // 2 tokens
  }
  talk.Ask("ddd");
  // 2 + 6 + 6 + 4 = 18 leave 2; all four would be 24.
  absl::StatusOr<Conversation::Prompt> prompt = talk.MakePrompt(2);
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->left_out, 1);
  EXPECT_EQ(TextOf(*prompt), "s\nbbb\nx<|endoftext|>ccc\nx<|endoftext|>ddd\n");
  EXPECT_EQ(talk.MakePrompt(3)->left_out, 2);
  // No more than a quarter of the context is kept free, and the answer has what is left.
  prompt = talk.MakePrompt(1000);
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->left_out, 2);
  EXPECT_EQ(prompt->answer_tokens, 8);
  EXPECT_EQ(talk.messages().size(), 8u);
}

TEST_F(ConversationTest, RefusesWhatLeavesNoRoom) {
  Conversation talk(chat_, 10);
  talk.Ask("12345678");  // 9 tokens
  EXPECT_EQ(talk.MakePrompt(5)->answer_tokens, 1);
  talk.Undo();
  talk.Ask("123456789");
  EXPECT_THAT(talk.MakePrompt(5).status().message(), HasSubstr("a message of 10 tokens"));
}

}  // namespace
}  // namespace tanren
