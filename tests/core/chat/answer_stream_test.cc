#include "core/chat/answer_stream.h"

#include <gtest/gtest.h>

#include "core/base/status.h"
#include "core/tokenizer/simple_vocabularies.h"

namespace tanren {
namespace {

class AnswerStreamTest : public testing::Test {
 protected:
  AnswerStreamTest() : tokenizer_(*MakeByteTokenizer({"<|endoftext|>"})) {}

  std::vector<int32_t> Ids(std::string_view text) const { return *tokenizer_->Encode(text); }

  // What is shown after each of the tokens, "|" between; and what Finish adds.
  std::string Shown(const std::vector<int32_t>& tokens, const std::vector<std::vector<int32_t>>& stops,
                    std::string_view whole) const {
    AnswerStream stream(*tokenizer_, stops);
    std::string all;
    for (size_t n = 1; n <= tokens.size(); ++n) all += stream.Next(std::span(tokens).first(n)) + "|";
    return all + stream.Finish(whole);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(AnswerStreamTest, ShowsWholeCharactersOnly) {
  EXPECT_EQ(Shown(Ids("ab"), {}, "ab"), "a|b|");
  EXPECT_EQ(Shown(Ids("a鍛b"), {}, "a鍛b"), "a|||鍛|b|");
  EXPECT_EQ(Shown(Ids("\xf0\x9f\x98\x80"), {}, "\xf0\x9f\x98\x80"), "|||\xf0\x9f\x98\x80|");
  // An answer that ends within a character.
  EXPECT_EQ(Shown(Ids("a\xe9\x8d"), {}, "a\xe9\x8d"), "a|||\xe9\x8d");
}

TEST_F(AnswerStreamTest, HoldsBackWhatMayBeAStop) {
  const std::vector<std::vector<int32_t>> stops = {Ids("<end>"), Ids("\n")};
  EXPECT_EQ(Shown(Ids("ok<end>"), stops, "ok"), "o|k||||||");
  EXPECT_EQ(Shown(Ids("ok\n"), stops, "ok"), "o|k||");
  EXPECT_EQ(Shown(Ids("a<ex"), stops, "a<ex"), "a|||<ex|");
  // Cut off where a stop might have begun.
  EXPECT_EQ(Shown(Ids("a<e"), stops, "a<e"), "a|||<e");
  // The stop's first token again.
  EXPECT_EQ(Shown(Ids("<<end>"), stops, "<"), "|<|||||");
}

TEST_F(AnswerStreamTest, ShowsAllWhereTheDecoderChangedItsMind) {
  const std::vector<std::vector<int32_t>> stops;
  AnswerStream stream(*tokenizer_, stops);
  EXPECT_EQ(stream.Next(Ids("one")), "one");
  EXPECT_EQ(stream.Finish("two"), "\ntwo");
}

}  // namespace
}  // namespace tanren
