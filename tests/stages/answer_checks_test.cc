#include "stages/rl/answer_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "stages/rl/rewards.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

config::RewardConfig Rewards(const std::string& yaml) {
  const std::string model = "model: {layers: 2, width: 32, heads: 2}\nrewards: " + yaml;
  absl::StatusOr<config::Config> config = config::LoadConfigText(model, "test.yaml", {});
  EXPECT_TRUE(config.ok()) << config.status();
  return config->rewards();
}

std::vector<AnswerChecks::Checked> CheckAll(const std::string& yaml,
                                            const std::vector<AnswerToCheck>& answers,
                                            bool with_aspects = true) {
  const absl::StatusOr<AnswerChecks> checks = AnswerChecks::Make(Rewards(yaml));
  EXPECT_TRUE(checks.ok()) << checks.status();
  const auto checked = checks->Check(*MakeSoloComm("world"), answers, with_aspects);
  EXPECT_TRUE(checked.ok()) << checked.status();
  return *checked;
}

std::string ErrorOf(const std::string& yaml) {
  const absl::StatusOr<AnswerChecks> checks = AnswerChecks::Make(Rewards(yaml));
  if (!checks.ok()) return std::string(checks.status().message());
  return std::string(
      checks->Check(*MakeSoloComm("world"), {{"question", "r", "1"}}, true).status().message());
}

TEST(AnswerChecks, EveryAspectHasAVerdictOfItsOwn) {
  const auto checked = CheckAll(
      "{checker: exact, aspects: [{name: correct, checker: numeric},"
      " {name: format, checker: regex, pattern: '(?s)so.*#### [0-9.]+', weight: 0.2},"
      " {name: style, checker: external, command: [sh, -c, 'echo 0.25']}]}",
      {{"p", "so\n#### 7.0", "7"}, {"p", "no #### 8", "7"}});
  ASSERT_EQ(checked.size(), 2u);
  EXPECT_FALSE(checked[0].main.right);  // 7.0 is not the text 7
  ASSERT_EQ(checked[0].aspects.size(), 3u);
  EXPECT_EQ(checked[0].aspects[0].score, 1);
  EXPECT_EQ(checked[0].aspects[1].score, 1);
  EXPECT_EQ(checked[0].aspects[2].score, 0.25);
  EXPECT_EQ(checked[1].aspects[0].score, 0);
  EXPECT_EQ(checked[1].aspects[1].score, 0);
}

// A command that counts its own runs.
TEST(AnswerChecks, OneRunOfACommandScoresAllItsAspects) {
  const std::string count = ::testing::TempDir() + "/runs-" + std::to_string(getpid());
  const std::string command = "command: [sh, -c, 'echo run >> " + count +
                              R"(; echo "{\"scores\": {\"style\": 0.5, \"tone\": -2}}"'])";
  const std::string yaml = "{checker: external, " + command +
                           ", aspects: [{name: style, checker: external, " + command +
                           "}, {name: tone, checker: external, " + command +
                           "}, {name: wit, checker: external, " + command + "}]}";
  const auto checked = CheckAll(yaml, {{"p", "a", ""}, {"p", "b", ""}});
  EXPECT_TRUE(checked[0].main.right);  // by the exit code
  EXPECT_EQ(checked[0].aspects[0].score, 0.5);
  EXPECT_EQ(checked[1].aspects[1].score, -2);
  EXPECT_TRUE(checked[1].aspects[2].failed);
  EXPECT_THAT(checked[1].aspects[2].failure, HasSubstr("none for wit"));
  std::ifstream lines(count);
  EXPECT_EQ(std::count(std::istreambuf_iterator<char>(lines), {}, '\n'), 2);
  // Where no aspect is asked for, their commands rest.
  const auto main_only =
      CheckAll("{checker: numeric, aspects: [{name: style, checker: external, " + command + "}]}",
               {{"p", "#### 3", "3"}}, false);
  EXPECT_TRUE(main_only[0].main.right);
  EXPECT_EQ(main_only[0].aspects[0].score, 0);
  std::ifstream again(count);
  EXPECT_EQ(std::count(std::istreambuf_iterator<char>(again), {}, '\n'), 2);
  std::remove(count.c_str());
}

TEST(AnswerChecks, AHangingCommandIsCounted) {
  const auto checked = CheckAll(
      "{aspects: [{name: style, checker: external, command: [sleep, '600'], time_limit_seconds: 0.2}]}",
      {{"p", "a", ""}});
  EXPECT_TRUE(checked[0].aspects[0].failed);
  EXPECT_EQ(checked[0].aspects[0].score, 0);
  EXPECT_THAT(checked[0].aspects[0].failure, HasSubstr("limit of 0.2 s"));
}

TEST(AnswerChecks, ScoresThatAreNotFiniteAreRefusedByName) {
  const auto external = [](const std::string& script) {
    return "{aspects: [{name: format, checker: regex, pattern: r}, {name: style, checker: external, command: "
           "[sh, -c, '" +
           script + "']}]}";
  };
  EXPECT_EQ(
      ErrorOf(external("echo nan")),
      "rewards.aspects: style: the score of an answer to \"question\" is nan; scores are finite numbers");
  EXPECT_THAT(ErrorOf(external(R"(echo "{\"scores\": {\"style\": Infinity}}")")),
              HasSubstr("aspects: style"));
  EXPECT_THAT(ErrorOf(external("echo -1e999")), HasSubstr("aspects: style"));
  EXPECT_EQ(ErrorOf(external("echo 3")), "");
}

TEST(AnswerChecks, AspectsThatMakeNoSenseAreRefused) {
  const auto aspects = [](const std::string& list) { return ErrorOf("{aspects: [" + list + "]}"); };
  EXPECT_THAT(aspects("{name: 'a b', checker: numeric}"), HasSubstr("name \"a b\""));
  EXPECT_THAT(aspects("{name: a, checker: numeric}, {name: a, checker: exact}"),
              HasSubstr("two are named a"));
  EXPECT_THAT(aspects("{name: a}"), HasSubstr("rewards.aspects: a: neither checker nor model"));
  EXPECT_THAT(aspects("{name: a, checker: exact, model: m}"), HasSubstr("both checker and model"));
  EXPECT_THAT(aspects("{name: a, checker: exact, pattern: x}"), HasSubstr("checker regex only"));
  EXPECT_THAT(aspects("{name: a, checker: exact, command: [x]}"), HasSubstr("checker external only"));
  EXPECT_THAT(aspects("{name: a, checker: regex, pattern: '('}"), HasSubstr("the pattern is wrong at byte"));
  EXPECT_THAT(aspects("{name: a, checker: external, command: [no-such-program-of-tanren]}"),
              HasSubstr("rewards.aspects: a: checker: command: no program"));
}

TEST(AnswerChecks, WeightsOfTheMainCheckerAndNeedForAnswers) {
  EXPECT_EQ(CheckerWeight(Rewards("{checker: numeric}")), 1);
  EXPECT_EQ(CheckerWeight(Rewards("{checker: numeric, aspects: [{name: a, checker: exact}]}")), 0);
  EXPECT_EQ(CheckerWeight(Rewards("{checker_weight: 2, aspects: [{name: a, checker: exact}]}")), 2);
  EXPECT_TRUE(AnswerChecks::Make(Rewards("{aspects: [{name: a, checker: exact}]}"))->needs_reference());
  EXPECT_TRUE(AnswerChecks::Make(Rewards("{aspects: [{name: a, checker: regex}]}"))->needs_reference());
  EXPECT_FALSE(
      AnswerChecks::Make(Rewards("{aspects: [{name: a, checker: regex, pattern: x}]}"))->needs_reference());
}

// What each token of the answer, one a byte, is paid.
std::vector<float> PaidFor(const std::string& answer, const std::string& rewards,
                           std::string* error = nullptr) {
  const std::unique_ptr<Tokenizer> tokenizer = *MakeByteTokenizer({"<|endoftext|>"});
  absl::StatusOr<AnswerRewards> made = AnswerRewards::Make(Rewards(rewards), *tokenizer, 100);
  EXPECT_TRUE(made.ok()) << made.status();
  AnswerToReward given;
  given.prompt = "question";
  given.reference = "7";
  given.tokens = *tokenizer->Encode(answer);
  given.tokens.push_back(256);
  given.stop_tokens = 1;
  given.ended = true;
  const auto paid = made->Reward(*MakeSoloComm("world"), {given});
  if (error != nullptr) *error = std::string(paid.status().message());
  if (!paid.ok()) return {};
  EXPECT_EQ((*paid)[0].per_token.size(), answer.size() + 1);
  std::vector<float> tokens = (*paid)[0].per_token;
  EXPECT_EQ(tokens.back(), 0);  // the end of the turn
  tokens.pop_back();
  return tokens;
}

TEST(ProcessRewards, EquationsArePaidWhereTheyEnd) {
  EXPECT_EQ(PaidFor("3+4=7\n1+1=3", "{checker: numeric, step_weight: 2}"),
            (std::vector<float>{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, -1}));
  EXPECT_EQ(PaidFor("none", "{checker: numeric, step_weight: 2}"), (std::vector<float>{0, 0, 0, 0}));
}

TEST(ProcessRewards, ACommandScoresLines) {
  const auto with = [](const std::string& output) {
    return "{checker: external, step_weight: 2, command: [echo, '" + output + "']}";
  };
  EXPECT_EQ(PaidFor("ab\ncd", with(R"({"steps": [0.5, -1]})")), (std::vector<float>{0, 0, 0.5, 0, -1}));
  // With scores beside them, fewer than lines, empty lines, a line feed at the end.
  EXPECT_EQ(PaidFor("a\n\nb\n", with(R"({"scores": {"x": 1}, "steps": [1, 2]})")),
            (std::vector<float>{0, 1, 2, 0, 0}));
  // A command that speaks of no lines leaves it to the equations; one that pays for none does not.
  EXPECT_EQ(PaidFor("1+1=2", with("1")), (std::vector<float>{0, 0, 0, 0, 2}));
  EXPECT_EQ(PaidFor("1+1=2", with(R"({"scores": {"x": 1}})")), (std::vector<float>{0, 0, 0, 0, 2}));
  EXPECT_EQ(PaidFor("1+1=2", with(R"({"steps": []})")), (std::vector<float>{0, 0, 0, 0, 0}));
  // A failed check pays for nothing.
  EXPECT_EQ(PaidFor("1+1=2", with(R"({"steps": [1, 1]})")), (std::vector<float>{0, 0, 0, 0, 0}));
  EXPECT_EQ(PaidFor("1+1=2", with(R"({"steps": ["x"]})")), (std::vector<float>{0, 0, 0, 0, 0}));
  std::string error;
  PaidFor("ab\ncd", with(R"({"steps": [1, NaN]})"), &error);
  EXPECT_THAT(error, HasSubstr("the score of a line of an answer to \"question\" is nan"));
}

TEST(ProcessRewards, WhatIsWrongWithStepsIsSaid) {
  const auto failure = [](const std::string& output) {
    return CheckAll("{checker: external, command: [echo, '" + output + "']}", {{"p", "a\nb", ""}})[0]
        .main.failure;
  };
  EXPECT_EQ(failure(R"({"steps": [1, 2]})"), "");
  EXPECT_THAT(failure(R"({"steps": [1, 2, 3]})"), HasSubstr("it gave 3 steps to a response of 2 lines"));
  EXPECT_THAT(failure(R"({"steps": 1})"), HasSubstr("is not {\"scores\""));
  EXPECT_THAT(failure(R"({"other": 1})"), HasSubstr("is not {\"scores\""));
}

}  // namespace
}  // namespace tanren
