#include "core/evaluation/parts.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using By = Strategy::Choice;

TEST(Extract, TakesWhatStandsBehindTheLastMarker) {
  const ReplyTexts texts = {{"#### 1\n#### 2 apples\nbye", "no marker", ""}};
  EXPECT_THAT(Extract("####", true, texts).answers, ElementsAre("2 apples", "", ""));
  EXPECT_THAT(Extract("", true, {{"first 3, then 4."}}).answers, ElementsAre("4"));
  EXPECT_THAT(Extract("", false, {{" all of it "}}).answers, ElementsAre("all of it"));
}

Verdicts Judge(const config::CheckConfig& check, const Checkable& input,
               const config::HarmfulConfig& harmful = {}) {
  const auto checker = AnswerChecker::Make(check, harmful);
  EXPECT_TRUE(checker.ok()) << checker.status();
  return checker->Check(input);
}

TEST(Check, JudgesTheExtractedAnswerAndTheSteps) {
  Checkable input{
      "2+2=?", "4", {}, {"2+2=4\n#### 4", "2+3=4\n#### 4", "2+2=5\n#### 5", "none"}, {"4", "4", "5", ""}};
  const Verdicts out = Judge({}, input);
  ASSERT_EQ(out.verdicts.size(), 4U);
  EXPECT_TRUE(out.verdicts[0].right && out.verdicts[0].steps_valid);
  EXPECT_TRUE(out.verdicts[1].right && !out.verdicts[1].steps_valid);
  EXPECT_FALSE(out.verdicts[2].right || out.verdicts[3].right);
  EXPECT_FALSE(out.verdicts[3].failed);
}

TEST(Check, FindsHarmByPatternAndByProgram) {
  Checkable input{
      "q", std::nullopt, {"secret|pass\\w+"}, {"the\nPassword", "the\npassword is x", "fine"}, {"", "", ""}};
  Verdicts out = Judge({}, input);
  EXPECT_FALSE(out.verdicts[0].harmful);
  EXPECT_TRUE(out.verdicts[1].harmful);
  EXPECT_FALSE(out.verdicts[2].harmful || out.verdicts[2].right);
  config::HarmfulConfig harmful;
  for (const char* word : {"grep", "-q", "fine"}) harmful.add_command(word);
  out = Judge({}, input, harmful);
  EXPECT_FALSE(out.verdicts[0].harmful);
  EXPECT_TRUE(out.verdicts[1].harmful && out.verdicts[2].harmful);
  input.harmful = {"("};
  out = Judge({}, input);
  EXPECT_TRUE(out.verdicts[0].failed);
  EXPECT_THAT(out.verdicts[0].failure, HasSubstr("harmful: the pattern is wrong"));
}

TEST(Check, AJudgementOfHarmThatFailsCountsAsHarmful) {
  const Checkable input{"q", "1", {}, {"#### 1"}, {"1"}};
  const Verdict fine = Judge({}, input).verdicts[0];
  EXPECT_FALSE(fine.harmful || fine.failed || fine.harm_failed);
  for (const char* program : {"exit 3", "sleep 60", "kill -9 $$", "echo nan"}) {
    config::HarmfulConfig harmful;
    for (const char* word : {"sh", "-c", program}) harmful.add_command(word);
    harmful.set_time_limit_seconds(0.2);
    const Verdict verdict = Judge({}, input, harmful).verdicts[0];
    EXPECT_TRUE(verdict.harmful && verdict.failed && verdict.harm_failed) << program;
    EXPECT_TRUE(verdict.right) << program;
    EXPECT_THAT(verdict.failure, HasSubstr("harmful: ")) << program;
  }
  const Checkable slow{"q", std::nullopt, {"(a+)+$"}, {std::string(40, 'a') + "b"}, {""}};
  const Verdict verdict = Judge({}, slow).verdicts[0];
  EXPECT_TRUE(verdict.harmful && verdict.harm_failed);
  // Both failures are told.
  const Verdict both = Judge({}, {"q", "one", {"("}, {"#### 1"}, {"1"}}).verdicts[0];
  EXPECT_THAT(both.failure, HasSubstr("not a number"));
  EXPECT_THAT(both.failure, HasSubstr("; harmful: the pattern is wrong"));
}

TEST(Check, FindsHarmInAReplyThatIsCutInsideACharacter) {
  const Checkable input{"q", std::nullopt, {"secret"}, {"the secret \xe2\x82", "fine \xe2\x82"}, {"", ""}};
  const Verdicts out = Judge({}, input);
  EXPECT_TRUE(out.verdicts[0].harmful);
  EXPECT_FALSE(out.verdicts[0].failed);
  EXPECT_FALSE(out.verdicts[1].harmful);
}

TEST(Check, AProgramThatHangsIsAFailure) {
  config::CheckConfig check;
  check.set_checker(config::CheckConfig::external);
  check.add_command("sleep");
  check.add_command("60");
  check.set_time_limit_seconds(0.2);
  const Verdicts out = Judge(check, {"q", "1", {}, {"#### 1"}, {"1"}});
  EXPECT_TRUE(out.verdicts[0].failed);
  EXPECT_FALSE(out.verdicts[0].right);
  EXPECT_NE(out.verdicts[0].failure, "");
}

TEST(VoteAndSelect, ChooseByCountScoreAndLikelihood) {
  const Ballot ballot = {{"1", "2", "2.0", "3"}, {-1, -3, -3, -0.1}, {0, 0, 0.1, 5}};
  EXPECT_EQ(Choose(By::kMajority, ballot).reply, 1);
  EXPECT_EQ(Choose(By::kVoteByReward, ballot).reply, 3);  // e^5 against 1 + e^0.1
  EXPECT_EQ(Choose(By::kVoteByLogp, ballot).reply, 3);    // 0.90 against 2 * 0.05
  EXPECT_EQ(Choose(By::kFirst, ballot).reply, 0);
  EXPECT_EQ(Choose(By::kBestByReward, ballot).reply, 3);
  EXPECT_EQ(Choose(By::kBestByLogp, ballot).reply, 3);
  for (const By by : {By::kMajority, By::kVoteByReward, By::kFirst, By::kBestByReward}) {
    EXPECT_EQ(Choose(by, {}).reply, -1);
  }
}

// A value is equal to what became of it when both give the same JSON.
template <class T>
void ExpectRoundTrip(const T& value) {
  const std::string text = DumpJson(ToJson(value));
  T back;
  const absl::Status read = FromJson(OrderedJson::parse(text), &back);
  ASSERT_TRUE(read.ok()) << read;
  EXPECT_EQ(DumpJson(ToJson(back)), text);
  T damaged;
  EXPECT_FALSE(FromJson(OrderedJson::parse("{\"turn\": []}"), &damaged).ok());
  EXPECT_FALSE(FromJson(OrderedJson::parse("3"), &damaged).ok());
}

TEST(Json, EveryTypeComesBack) {
  Question question{3, 1, {{MessageRole::kSystem, "s"}, {MessageRole::kAssistant, "a"}}, "q", {{"k", 1.5}}};
  ExpectRoundTrip(question);
  ExpectRoundTrip(Prompt{3, 1, "text\n", true, {1, 2, 3}});
  Reply reply{{4, 5}, "x", -0.1234567890123, 2, true, false, 1e-17};
  ExpectRoundTrip(Replies{{reply, reply}, 9});
  ExpectRoundTrip(ReplyTexts{{"a", ""}});
  ExpectRoundTrip(Answers{{"1"}});
  ExpectRoundTrip(Checkable{"p", "1", {"x"}, {"t"}, {"a"}});
  ExpectRoundTrip(Checkable{"p", std::nullopt, {}, {}, {}});
  ExpectRoundTrip(Verdicts{{{true, true, false, false, false, ""}, {false, false, true, true, true, "why"}}});
  ExpectRoundTrip(Ballot{{"1"}, {-0.5}, {2}});
  ExpectRoundTrip(Choice{1});
}

TEST(Json, RefusesPromptsThatNoCaseHas) {
  const auto error_of = [](const Prompt& prompt) {
    Prompt back;
    return std::string(FromJson(ToJson(prompt), &back).message());
  };
  EXPECT_EQ(error_of({kMaxCases - 1, kMaxTurns - 1, "", false, {1}}), "");
  EXPECT_THAT(error_of({kMaxCases, 0, "", false, {1}}), HasSubstr("case is 16777216"));
  EXPECT_THAT(error_of({-1, 0, "", false, {1}}), HasSubstr("case is -1"));
  EXPECT_THAT(error_of({0, 256, "", false, {1}}), HasSubstr("turn is 256"));
  EXPECT_THAT(error_of({0, -1, "", false, {1}}), HasSubstr("turn is -1"));
  EXPECT_THAT(error_of({0, 0, "", false, {}}), HasSubstr("tokens is empty"));
}

TEST(Json, KeepsNumbersToTheLastBit) {
  Reply reply;
  reply.logp = -1.0 / 3;
  reply.score = std::nextafter(1.0, 2.0);
  Replies back;
  ASSERT_TRUE(FromJson(OrderedJson::parse(DumpJson(ToJson(Replies{{reply}, 0}))), &back).ok());
  EXPECT_EQ(back.replies[0].logp, reply.logp);
  EXPECT_EQ(back.replies[0].score, reply.score);
}

}  // namespace
}  // namespace tanren
