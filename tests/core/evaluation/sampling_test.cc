#include "core/evaluation/sampling.h"

#include <set>

#include "gmock/gmock.h"
#include "tests/core/evaluation/fake_model.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> TextsOf(const Replies& replies) {
  std::vector<std::string> texts;
  for (const Reply& reply : replies.replies) texts.push_back(reply.text);
  return texts;
}

config::SampleConfig Samples(int64_t n, int64_t max_tokens) {
  config::SampleConfig config;
  config.set_n(n);
  config.set_temperature(n > 1 ? 1 : 0);
  config.set_max_tokens(max_tokens);
  config.set_seed(1);
  return config;
}

TEST(SampleReplies, GivesEachPromptItsSamplesInOrder) {
  FakeModel model([](const std::string& prompt, int64_t sample) {
    return prompt + "! #### " + std::to_string(sample) + "\x03";
  });
  const std::vector<Prompt> prompts = {PromptOf("a", 0), PromptOf("b", 1)};
  const auto replies = SampleReplies(model, BytesForm(), Samples(2, 50), prompts);
  ASSERT_TRUE(replies.ok()) << replies.status();
  EXPECT_THAT(TextsOf((*replies)[0]), ElementsAre("a! #### 0", "a! #### 1"));
  EXPECT_THAT(TextsOf((*replies)[1]), ElementsAre("b! #### 0", "b! #### 1"));
  const Reply& reply = (*replies)[0].replies[0];
  EXPECT_TRUE(reply.ended);
  EXPECT_EQ(reply.chosen_tokens, 10);  // with the end of turn
  EXPECT_DOUBLE_EQ(reply.logp, -10);
  EXPECT_EQ((*replies)[0].generated_tokens, 20);
  EXPECT_EQ(std::set<uint64_t>(model.streams.begin(), model.streams.end()).size(), 4U);
}

TEST(SampleReplies, TheFirstOfManySamplesAreThoseOfFewer) {
  const auto streams_of = [](int64_t n) {
    FakeModel model([](const std::string&, int64_t) { return "x\x03"; });
    EXPECT_TRUE(
        SampleReplies(model, BytesForm(), Samples(n, 50), std::vector<Prompt>{PromptOf("q", 7)}).ok());
    return model.streams;
  };
  const std::vector<uint64_t> many = streams_of(8), few = streams_of(3);
  EXPECT_EQ(std::vector<uint64_t>(many.begin(), many.begin() + 3), few);
}

// Also of what goes on behind an appended marker.
TEST(SampleReplies, AsksForAnswersThatDoNotRepeatThemselves) {
  const auto repetitions_of = [](const config::SampleConfig& config) {
    FakeModel model([](const std::string& prompt, int64_t) {
      return std::string(prompt.ends_with("\n#### ") ? "42\x03" : "thinking and thinking");
    });
    EXPECT_TRUE(SampleReplies(model, BytesForm(), config, std::vector<Prompt>{PromptOf("q")}).ok());
    return model.repetitions;
  };
  config::SampleConfig config = Samples(2, 50);
  config.set_thinking_tokens(10);
  for (const RepetitionOptions& one : repetitions_of(config)) EXPECT_FALSE(one.on());
  config.set_repetition_penalty(1.25);
  config.set_no_repeat_ngram(3);
  const std::vector<RepetitionOptions> asked = repetitions_of(config);
  ASSERT_EQ(asked.size(), 4U);
  for (const RepetitionOptions& one : asked) {
    EXPECT_EQ(one.penalty, 1.25F);
    EXPECT_EQ(one.no_repeat_ngram, 3);
  }
}

// Discouraged tokens are another distribution, and a KL divergence measured on it would be wrong.
TEST(SampleReplies, DrawsFromTheModelOnlyWithoutRepetitionOptions) {
  const config::SampleConfig plain = Samples(2, 50);
  EXPECT_TRUE(DrawsFromModel(plain));
  config::SampleConfig config = plain;
  config.set_repetition_penalty(1.25);
  EXPECT_FALSE(DrawsFromModel(config));
  config = plain;
  config.set_no_repeat_ngram(3);
  EXPECT_FALSE(DrawsFromModel(config));
}

TEST(SampleReplies, CutsAnAnswerToTheRoomThatThePromptLeaves) {
  FakeModel model([](const std::string&, int64_t) { return std::string(100, 'x'); });
  model.context = 10;
  const auto replies =
      SampleReplies(model, BytesForm(), Samples(1, 50), std::vector<Prompt>{PromptOf("1234567")});
  ASSERT_TRUE(replies.ok());
  EXPECT_EQ((*replies)[0].replies[0].text, "xxx");
  EXPECT_FALSE((*replies)[0].replies[0].ended);
}

TEST(SampleReplies, ForcesTheMarkerWhenTheBudgetIsUsedUp) {
  FakeModel model([](const std::string& prompt, int64_t) {
    return prompt.ends_with("\n#### ") ? std::string("42\x03")
                                       : std::string("let me think and think and think");
  });
  config::SampleConfig config = Samples(1, 100);
  config.set_thinking_tokens(12);
  const auto replies = SampleReplies(model, BytesForm(), config, std::vector<Prompt>{PromptOf("q")});
  ASSERT_TRUE(replies.ok());
  const Reply& reply = (*replies)[0].replies[0];
  EXPECT_EQ(reply.text, "let me think\n#### 42");
  EXPECT_TRUE(reply.forced);
  EXPECT_TRUE(reply.ended);
  EXPECT_EQ(reply.chosen_tokens, 12 + 3);  // the marker was not the model's choice
  EXPECT_EQ((*replies)[0].generated_tokens, 15);
}

TEST(SampleReplies, LeavesAReplyCutOffWhereTheMarkerHasNoRoom) {
  const auto reply_in = [](int64_t context) {
    FakeModel model([](const std::string& prompt, int64_t) {
      return std::string(prompt.ends_with("\n#### ") ? "42\x03" : "let me think and think and think");
    });
    model.context = context;
    config::SampleConfig config = Samples(1, 100);
    config.set_thinking_tokens(12);
    const auto replies = SampleReplies(model, BytesForm(), config, std::vector<Prompt>{PromptOf("q")});
    EXPECT_TRUE(replies.ok()) << replies.status();
    return (*replies)[0].replies[0];
  };
  // 1 token of the prompt, 12 of the reply, 6 of the marker.
  const Reply cut = reply_in(19);
  EXPECT_EQ(cut.text, "let me think");
  EXPECT_FALSE(cut.forced || cut.ended);
  const Reply forced = reply_in(20);
  EXPECT_EQ(forced.text, "let me think\n#### 4");
  EXPECT_TRUE(forced.forced);
}

TEST(SampleReplies, LeavesAnswersAloneThatEndOrHaveBegunToAnswer) {
  FakeModel model([](const std::string& prompt, int64_t) {
    if (prompt.starts_with("short")) return std::string("no idea\x03");
    const std::string all = "so #### 123456789\x03";
    return all.substr(prompt.size() - std::string("long").size());
  });
  config::SampleConfig config = Samples(1, 100);
  config.set_thinking_tokens(10);
  const std::vector<Prompt> prompts = {PromptOf("short", 0), PromptOf("long", 1)};
  const auto replies = SampleReplies(model, BytesForm(), config, prompts);
  ASSERT_TRUE(replies.ok());
  EXPECT_THAT(TextsOf((*replies)[0]), ElementsAre("no idea"));
  EXPECT_THAT(TextsOf((*replies)[1]), ElementsAre("so #### 123456789"));
  EXPECT_FALSE((*replies)[0].replies[0].forced);
  EXPECT_FALSE((*replies)[1].replies[0].forced);
}

config::BeamConfig Beams(int64_t width, int64_t samples) {
  config::BeamConfig config;
  config.set_width(width);
  config.set_samples(samples);
  config.set_max_tokens(100);
  config.set_seed(1);
  return config;
}

// Two ways at each of two lines, "a" or "b", then the end. 'a' is likelier in the first line, 'b' is what the
// reward model likes.
FakeModel TwoLines() {
  FakeModel model([](const std::string& prompt, int64_t sample) {
    const int64_t lines = std::count(prompt.begin(), prompt.end(), '\n');
    if (lines == 2) return std::string("end\x03");
    return std::string(sample % 2 == 0 ? "a" : "b") + "\n";
  });
  model.logp = [](char c) { return c == 'b' ? -2.0F : -1.0F; };
  return model;
}

TEST(SearchReplies, KeepsTheLikeliestPartialAnswers) {
  FakeModel model = TwoLines();
  const auto replies = SearchReplies(model, BytesForm(), Beams(2, 2), std::vector<Prompt>{PromptOf("q")});
  ASSERT_TRUE(replies.ok()) << replies.status();
  // After two lines: aa -4, ab and ba -5, bb -6; of equals the one that came first.
  EXPECT_THAT(TextsOf((*replies)[0]), ElementsAre("a\na\nend", "a\nb\nend"));
  EXPECT_TRUE((*replies)[0].replies[0].ended);
  EXPECT_DOUBLE_EQ((*replies)[0].replies[0].logp, -8);
  // 2 lines of 2 tokens, then 4 of 2, then 4 ends of 4 tokens, thrown away or not.
  EXPECT_EQ((*replies)[0].generated_tokens, 4 + 8 + 16);
}

TEST(SearchReplies, FollowsTheRewardModel) {
  FakeModel model = TwoLines();
  model.score = [](const std::string& text) {
    return static_cast<double>(std::count(text.begin(), text.end(), 'b'));
  };
  config::BeamConfig config = Beams(2, 2);
  config.set_score(config::BeamConfig::reward);
  const auto replies = SearchReplies(model, BytesForm(), config, std::vector<Prompt>{PromptOf("q")});
  ASSERT_TRUE(replies.ok());
  EXPECT_EQ((*replies)[0].replies[0].text, "b\nb\nend");
  EXPECT_DOUBLE_EQ((*replies)[0].replies[0].score, 2);
}

TEST(SearchReplies, MergesEqualBeamsAndEndsAtItsBounds) {
  FakeModel model([](const std::string&, int64_t) { return std::string("same\n"); });
  config::BeamConfig config = Beams(4, 3);
  config.set_max_steps(5);
  auto replies = SearchReplies(model, BytesForm(), config, std::vector<Prompt>{PromptOf("q")});
  ASSERT_TRUE(replies.ok());
  ASSERT_EQ((*replies)[0].replies.size(), 1U);  // one distinct answer
  EXPECT_EQ((*replies)[0].replies[0].text, "same\nsame\nsame\nsame\nsame\n");
  EXPECT_FALSE((*replies)[0].replies[0].ended);
  config.set_max_tokens(12);
  replies = SearchReplies(model, BytesForm(), config, std::vector<Prompt>{PromptOf("q")});
  ASSERT_TRUE(replies.ok());
  EXPECT_EQ((*replies)[0].replies[0].text, "same\nsame\nsa");
}

}  // namespace
}  // namespace tanren
