#include "core/evaluation/suite.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSuite = R"(checkpoint: run
out: out
tests:
  - name: sums
    cases: sums.jsonl
    prompt: {zero_shot: "Think."}
    strategies:
      - name: greedy
      - name: vote
        parts:
          - prompt: {zero_shot: "Think twice."}
          - sample: {n: 8, temperature: 1}
          - extract: {}
          - check: {checker: exact, marker: "A:"}
          - vote: {by: logp}
        curve: [1, 8]
gates:
  - {test: sums, strategy: vote, figure: majority_at_8, minimum: 0.5}
)";

std::string ErrorOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto suite = LoadSuiteText(text, "s.yaml", overrides);
  return suite.ok() ? "" : std::string(suite.status().message());
}

TEST(LoadSuite, FillsWhatAStrategyLeavesOut) {
  const auto suite = LoadSuiteText(kSuite, "s.yaml", std::vector<std::string>{"seed=7", "max_tokens=50"});
  ASSERT_TRUE(suite.ok()) << suite.status();
  const config::TestConfig& test = suite->tests(0);
  const Strategy greedy = ResolveStrategy(*suite, test, test.strategies(0));
  EXPECT_EQ(greedy.prompt.zero_shot(), "Think.");
  EXPECT_EQ(greedy.sample.seed(), 7);
  EXPECT_EQ(greedy.most_tokens(), 50);
  EXPECT_EQ(greedy.marker, "####");
  EXPECT_EQ(greedy.choice, Strategy::Choice::kFirst);
  const Strategy vote = ResolveStrategy(*suite, test, test.strategies(1));
  EXPECT_EQ(vote.prompt.zero_shot(), "Think twice.");
  EXPECT_EQ(vote.answers(), 8);
  EXPECT_EQ(vote.marker, "A:");
  EXPECT_EQ(vote.check.checker(), config::CheckConfig::exact);
  EXPECT_EQ(vote.choice, Strategy::Choice::kVoteByLogp);
  EXPECT_THAT(vote.curve, ElementsAre(1, 8));
}

TEST(LoadSuite, NamesMisspeltKeysWithTheirPlace) {
  const std::string error = ErrorOf("checkpoint: run\ntests:\n  - name: a\n    casses: x\n");
  EXPECT_THAT(error, HasSubstr("s.yaml:4:5: tests.0.casses: unknown key; did you mean tests.0.cases?"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts.1.sample.temprature=1"}),
              HasSubstr("did you mean tests.0.strategies.1.parts.1.sample.temperature?"));
  EXPECT_THAT(ErrorOf("tests: []"), HasSubstr("checkpoint: is required"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts.1.sample.top_p=1.5"}),
              HasSubstr("outside (0, 1]"));
}

TEST(LoadSuite, TakesRepetitionOptionsWithinTheBoundsOfRollouts) {
  const std::string sample = "tests.0.strategies.1.parts.1.sample.";
  const auto suite = LoadSuiteText(
      kSuite, "s.yaml",
      std::vector<std::string>{sample + "repetition_penalty=1.3", sample + "no_repeat_ngram=4"});
  ASSERT_TRUE(suite.ok()) << suite.status();
  const Strategy vote = ResolveStrategy(*suite, suite->tests(0), suite->tests(0).strategies(1));
  EXPECT_EQ(vote.sample.repetition_penalty(), 1.3);
  EXPECT_EQ(vote.sample.no_repeat_ngram(), 4);
  const Strategy greedy = ResolveStrategy(*suite, suite->tests(0), suite->tests(0).strategies(0));
  EXPECT_EQ(greedy.sample.repetition_penalty(), 1);
  EXPECT_EQ(greedy.sample.no_repeat_ngram(), 0);
  for (const char* penalty : {"0.5", "0", "100.1"}) {
    EXPECT_THAT(ErrorOf(kSuite, {sample + "repetition_penalty=" + penalty}), HasSubstr("outside [1, 100]"));
  }
  for (const char* length : {"-1", "1025"}) {
    EXPECT_THAT(ErrorOf(kSuite, {sample + "no_repeat_ngram=" + length}), HasSubstr("outside [0, 1024]"));
  }
  EXPECT_EQ(ErrorOf(kSuite, {sample + "repetition_penalty=100", sample + "no_repeat_ngram=1024"}), "");
  EXPECT_THAT(ErrorOf(kSuite, {sample + "no_repeat_ngram_size=4"}), HasSubstr("no_repeat_ngram?"));
  EXPECT_THAT(ErrorOf(kSuite, {"reference=r", sample + "no_repeat_ngram=4"}),
              HasSubstr("reference: needs a strategy that samples at temperature 1, without top_k, top_p, "
                        "repetition_penalty, no_repeat_ngram"));
}

TEST(LoadSuite, RefusesChainsThatMakeNoSense) {
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts.2={sample: {}}"}),
              HasSubstr("parts.2: holds 2 parts"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts=[vote: {}, sample: {}]"}),
              HasSubstr("sample cannot follow vote"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts=[sample: {}, beam: {}]"}),
              HasSubstr("beam cannot follow sample"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts.1.sample.temperature=0"}),
              HasSubstr("8 greedy answers are all the same"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.curve=[16]"}), HasSubstr("16 is more than the 8"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.parts.4.vote.by=reward"}),
              HasSubstr("reward: is needed by strategy vote"));
  EXPECT_THAT(ErrorOf(kSuite, {"versus=other"}), HasSubstr("is needed by versus"));
  EXPECT_THAT(ErrorOf(kSuite, {"reference=r", "tests.0.strategies.1.parts.1.sample.temperature=0.7"}),
              HasSubstr("reference: needs a strategy that samples at temperature 1"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.strategies.1.name=greedy"}), HasSubstr("name of an earlier one"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.name=a/b"}), HasSubstr("a name has"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.perplexity={}"}), HasSubstr("one of cases, perplexity and rankings"));
  EXPECT_THAT(ErrorOf(kSuite, {"tests.0.check.checker=external"}),
              HasSubstr("command: is required by checker external"));
}

TEST(LoadSuite, ChecksThatGatesNameWhatExists) {
  EXPECT_THAT(ErrorOf(kSuite, {"gates.0.figure=acuracy"}),
              HasSubstr("there is no figure acuracy; did you mean accuracy?"));
  EXPECT_THAT(ErrorOf(kSuite, {"gates.0.figure=win_rate"}), HasSubstr("there is no figure win_rate"));
  EXPECT_THAT(ErrorOf(kSuite, {"gates.0.strategy=greedy"}), HasSubstr("there is no figure majority_at_8"));
  EXPECT_THAT(ErrorOf(kSuite, {"gates.0.strategy=vore"}), HasSubstr("did you mean vote?"));
  EXPECT_THAT(ErrorOf(kSuite, {"gates.0.test=sum"}), HasSubstr("there is no test sum; did you mean sums?"));
  EXPECT_THAT(ErrorOf(kSuite, {"gates=[{test: sums, strategy: vote, figure: accuracy}]"}),
              HasSubstr("has no limit"));
  EXPECT_THAT(ErrorOf(kSuite, {"gates.0.figure=seconds", "gates.0.kind=add"}),
              HasSubstr("all cases together"));
}

TEST(LoadSuite, AGateMayBoundTheCalibrationOfARewardModel) {
  const std::string suite =
      "checkpoint: run\nreward: model\ntests: [{name: ranked, rankings: [{path: r.jsonl}]}]\n"
      "gates:\n  - {test: ranked, figure: reward_calibration_error, maximum: 0.1}\n"
      "  - {test: ranked, figure: reward_brier, maximum: 0.2}\n";
  EXPECT_EQ(ErrorOf(suite), "");
  EXPECT_THAT(ErrorOf(suite, {"gates.0.figure=calibration_error"}),
              HasSubstr("there is no figure calibration_error"));
}

}  // namespace
}  // namespace tanren
