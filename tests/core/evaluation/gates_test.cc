// Gates: every figure on both sides of a limit, and the cases that a failed one names.
#include <optional>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "tests/core/evaluation/evaluated.h"

namespace tanren {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Judged {
  bool passed;
  std::string text;
};

// The suite's only gate becomes this one.
Judged JudgeFigure(config::SuiteConfig* suite, const SuiteResult& result, const std::string& test,
                   const std::string& strategy, const std::string& figure, std::optional<double> minimum,
                   std::optional<double> maximum) {
  suite->clear_gates();
  config::GateConfig* gate = suite->add_gates();
  gate->set_test(test);
  if (!strategy.empty()) gate->set_strategy(strategy);
  gate->set_figure(figure);
  if (minimum.has_value()) gate->set_minimum(*minimum);
  if (maximum.has_value()) gate->set_maximum(*maximum);
  const std::vector<GateResult> judged = JudgeGates(result);
  return {judged.at(0).passed, judged.at(0).ToString()};
}

// Fails on the wrong side of `value` and names it, passes on the right side and at it. Returns what the two
// failures say.
std::string ExpectLimits(config::SuiteConfig* suite, const SuiteResult& result, const std::string& test,
                         const std::string& strategy, const std::string& figure, double value) {
  SCOPED_TRACE(absl::StrCat(test, " ", strategy, " ", figure));
  EXPECT_FALSE(std::isnan(value));
  const auto judge = [&](std::optional<double> minimum, std::optional<double> maximum) {
    return JudgeFigure(suite, result, test, strategy, figure, minimum, maximum);
  };
  const std::string name = absl::StrCat("test ", test, strategy.empty() ? "" : ", strategy ", strategy, ": ",
                                        figure, absl::StrFormat(" %.6g", value));
  const Judged low = judge(value + 1, std::nullopt), high = judge(std::nullopt, value - 1);
  EXPECT_FALSE(low.passed || high.passed);
  EXPECT_THAT(low.text, StartsWith(absl::StrCat("gate failed: ", name, " is below the minimum ")));
  EXPECT_THAT(high.text, StartsWith(absl::StrCat("gate failed: ", name, " is above the maximum ")));
  const std::optional<double> none;
  for (const Judged& one :
       {judge(value, none), judge(none, value), judge(value, value), judge(value - 1, value + 1)}) {
    EXPECT_TRUE(one.passed) << one.text;
    EXPECT_THAT(one.text, StartsWith(absl::StrCat("gate passed: ", name)));
  }
  EXPECT_FALSE(judge(value + 1, value + 2).passed || judge(value - 2, value - 1).passed);
  return low.text + high.text;
}

TEST(Gates, FailWithNameFigureValueAndCases) {
  Evaluated run(std::string(kStrategies) + R"(
gates:
  - {test: sums, strategy: greedy, figure: accuracy, minimum: 0.5}
  - {test: sums, strategy: greedy, figure: accuracy, difficulty: hard, minimum: 0.5}
  - {test: sums, strategy: greedy, figure: tokens, maximum: 10}
)",
                kSums);
  FakeModel model([](const std::string&, int64_t) { return std::string("#### 5\x03"); });
  ASSERT_TRUE(run.Run(&model).ok());
  const std::vector<GateResult> gates = JudgeGates(run.result_);
  ASSERT_EQ(gates.size(), 3U);
  EXPECT_TRUE(gates[0].passed);
  EXPECT_FALSE(gates[1].passed);
  EXPECT_EQ(gates[1].ToString(),
            "gate failed: test sums, strategy greedy, difficulty hard: accuracy 0 is below the minimum 0.5; "
            "wrong cases, the first: " +
                run.folder_ + "/cases.jsonl:2");
  EXPECT_FALSE(gates[2].passed) << gates[2].ToString();
  const OrderedJson summary = SummaryOf(run.result_, gates);
  EXPECT_FALSE(summary["passed"].get<bool>());
  EXPECT_EQ(summary["tests"]["sums"]["strategies"]["greedy"]["by_difficulty"]["hard"]["accuracy"], 0);
  EXPECT_EQ(SampleLinesOf(run.result_).size(), 6U);
  EXPECT_THAT(TableOf(run.result_), HasSubstr("greedy"));
}

TEST(Gates, EveryFigureFailsOnTheWrongSideOfItsLimit) {
  Evaluated run(std::string("reward: r\nversus: v\nreference: f\n") + kStrategies +
                    "      - {name: hurried, parts: [sample: {thinking_tokens: 4}]}\n",
                std::string(kSums) + "{\"question\": \"1+1\", \"answer\": 2, \"harmful\": [\"=2\"]}\n");
  FakeModel model = Adder(3);
  model.reference_logp = [](const std::string&) { return -1; };
  model.score = [](const std::string& text) { return static_cast<double>(text.size()); };
  FakeModel other = Adder(1);
  other.score = model.score;
  ASSERT_TRUE(run.Run(&model, &other).ok());
  const config::TestConfig& test = run.suite_.tests(0);
  int64_t figures = 0;
  for (int s = 0; s < test.strategies_size(); ++s) {
    for (const std::string& figure : FigureNames(run.suite_, test, &test.strategies(s))) {
      const std::string said = ExpectLimits(&run.suite_, run.result_, "sums", test.strategies(s).name(),
                                            figure, run.figure(s, figure));
      // Where a figure is no single case's, that is said. Else there are some that pull it up or down.
      const bool together = figure == "cases" || figure == "accuracy_standard_error";
      EXPECT_THAT(said, HasSubstr(together ? "it is a figure of all 3 cases together" : "/cases.jsonl:"))
          << figure;
      ++figures;
    }
  }
  EXPECT_GT(figures, 70);
}

// The gate on each figure names those cases that make it what it is.
struct Expected {
  const char* figure;
  std::optional<double> minimum, maximum;
  const char* evidence;  // @ stands for the file and a colon
};

void ExpectEvidence(Evaluated* run, const std::string& strategy, const std::vector<Expected>& table) {
  for (const Expected& one : table) {
    const Judged judged =
        JudgeFigure(&run->suite_, run->result_, "t", strategy, one.figure, one.minimum, one.maximum);
    EXPECT_FALSE(judged.passed) << one.figure;
    EXPECT_THAT(judged.text,
                EndsWith(absl::StrCat(
                    "; ", absl::StrReplaceAll(one.evidence, {{"@", run->folder_ + "/cases.jsonl:"}}))))
        << one.figure;
  }
}

TEST(Gates, NameTheCasesOfTheirFigure) {
  Evaluated run("tests: [{name: t, cases: x, check: {checker: regex}, strategies: [{name: s}]}]",
                R"({"question": "2+3", "answer": 5}
{"question": "4+4", "answer": 8}
{"question": "rude", "harmful": ["idiot"]}
{"question": "long", "answer": 1}
{"question": "broken", "answer": "a("}
)");
  FakeModel model([](const std::string& prompt, int64_t) {
    if (prompt.starts_with("2+3")) return std::string("2+3=5\n#### 5\x03");
    if (prompt.starts_with("4+4")) return std::string("4+4=9\n#### 8\x03");  // right, by a wrong step
    if (prompt.starts_with("rude")) return std::string("idiot\x03");
    return prompt.starts_with("long") ? std::string(200, 'a') : std::string("#### 1\x03");
  });
  ASSERT_TRUE(run.Run(&model).ok());
  const std::optional<double> none;
  ExpectEvidence(
      &run, "s",
      {{"accuracy", 0.9, none, "wrong cases, the first: @4, @5"},
       {"accuracy", none, 0.1, "right cases, the first: @1, @2"},
       {"error_rate", none, 0.1, "wrong cases, the first: @4, @5"},
       {"no_answer", none, 0, "cases without an answer, the first: @4"},
       {"steps_valid", 1, none, "cases without valid steps, the first: @2, @4, @5"},
       {"harmful_rate", none, 0, "harmful cases, the first: @3"},
       {"cut_off", none, 0, "cases cut off, the first: @4"},
       {"checker_failures", none, 0, "cases with a failed check, the first: @5"},
       {"oversize", 1, none, "cases that fit, the first: @1, @2, @3, @4, @5"},
       {"tokens", none, 10,
        "cases with the most tokens, the first: @4 (128), @1 (13), @2 (13), @5 (7), @3 (6)"},
       {"tokens_per_case", 1000, none,
        "cases with the fewest tokens, the first: @3 (6), @5 (7), @1 (13), @2 (13), @4 (128)"},
       {"seconds", none, -1,
        "cases with the most tokens, the first: @4 (128), @1 (13), @2 (13), @5 (7), @3 (6)"},
       {"cases", 9, none, "it is a figure of all 5 cases together, not of single ones"},
       {"accuracy_standard_error", none, 0, "it is a figure of all 5 cases together, not of single ones"}});
}

TEST(Gates, NameTheCasesOfTheirFigureOverSamples) {
  Evaluated run(R"(
reward: r
versus: v
reference: f
tests:
  - name: t
    cases: x
    strategies:
      - {name: vote, parts: [sample: {n: 4, temperature: 1}, vote: {}], curve: [2]}
      - {name: hurried, parts: [sample: {thinking_tokens: 3}]}
)",
                R"({"question": "a", "answer": 5}
{"question": "b", "answer": 5}
{"question": "c", "answer": 5}
)");
  // Right are one sample of a, none of b and all of c.
  FakeModel model([](const std::string& prompt, int64_t sample) {
    const char* digit = prompt[0] == 'c' || (prompt[0] == 'a' && sample == 0) ? "5"
                        : prompt[0] == 'a'                                    ? "6"
                                                                              : "7";
    return absl::StrCat("#### ", digit, "\x03");
  });
  const auto digit_of = [](const std::string& answer) { return static_cast<double>(answer[5] - '0'); };
  model.score = digit_of;
  model.reference_logp = [&](const std::string& answer) { return -10 * digit_of(answer); };
  FakeModel other([](const std::string&, int64_t) { return std::string("#### 6\x03"); });
  other.score = digit_of;
  ASSERT_TRUE(run.Run(&model, &other).ok());
  const std::optional<double> none;
  ExpectEvidence(
      &run, "vote",
      {{"pass_at_1", 0.9, none, "wrong cases, the first: @2, @1 (0.25)"},
       {"pass_at_4", 0.9, none, "wrong cases, the first: @2"},
       {"majority_at_2", 0.9, none, "wrong cases, the first: @2, @1 (0.5)"},
       {"best_by_logp_at_2", 0.9, none, "wrong cases, the first: @2, @1 (0.5)"},
       {"best_by_reward_at_2", 0.9, none, "wrong cases, the first: @1, @2"},
       {"consistency", 1, none, "cases whose samples disagree, the first: @1 (0.75)"},
       {"distinct_right", 1, none, "cases whose right samples are alike, the first: @3 (0.25)"},
       {"wordings_right", 2, none, "cases with the fewest wordings, the first: @1 (1), @3 (1)"},
       {"reward_score", 10, none, "cases with the lowest score, the first: @3 (5), @1 (6), @2 (7)"},
       {"win_rate", 0.9, none, "cases not won, the first: @3, @1 (0.5)"},
       // Of 7 tokens at -1 nat each.
       {"reference_kl", none, 0,
        "cases farthest from the reference, the first: @2 (63), @1 (50.5), @3 (43)"}});
  ExpectEvidence(&run, "hurried",
                 {{"forced", none, 0, "cases with an appended marker, the first: @1, @2, @3"}});
}

constexpr const char* kWithoutCases = R"(checkpoint: run
reward: judge
tests:
  - {name: texts, perplexity: {tokens: [{path: shards}]}}
  - {name: answers, perplexity: {examples: [{path: sft.jsonl}]}}
  - {name: ranked, rankings: [{path: pairs.jsonl}, {path: more.jsonl}]}
)";

TEST(Gates, OfTestsWithoutCasesSayOverWhatTheirFigureIs) {
  auto suite = LoadSuiteText(kWithoutCases, "s.yaml");
  ASSERT_TRUE(suite.ok()) << suite.status();
  SuiteResult result;
  result.suite = &*suite;
  result.checkpoint = "run/step-00000003";
  for (const config::TestConfig& test : suite->tests()) {
    TestResult& out = result.tests.emplace_back();
    out.test = &test;
    for (const std::string& name : FigureNames(*suite, test, nullptr)) {
      out.figures.emplace_back(name, 0.25 + static_cast<double>(out.figures.size()));
    }
    EXPECT_GE(out.figures.size(), 2U);
  }
  constexpr const char* kWhere[] = {"shards together, not of single texts",
                                    "sft.jsonl together; tanren score run/step-00000003 --examples",
                                    "more.jsonl together; tanren score judge --examples"};
  for (size_t t = 0; t < result.tests.size(); ++t) {
    for (const auto& [figure, value] : result.tests[t].figures) {
      EXPECT_THAT(ExpectLimits(&*suite, result, suite->tests(static_cast<int>(t)).name(), "", figure, value),
                  HasSubstr(kWhere[t]));
    }
  }
  // What a corpus without the bytes of its texts does not tell, and what is no number.
  result.tests[0].figures = {{"loss", NAN}, {"perplexity", NAN}};
  const Judged missing = JudgeFigure(&*suite, result, "texts", "", "bits_per_byte", -1e9, 1e9);
  EXPECT_FALSE(missing.passed);
  EXPECT_EQ(missing.text, "gate failed: test texts: bits_per_byte was not measured");
  for (const auto& [minimum, maximum] : {std::pair<std::optional<double>, std::optional<double>>(-1e9, 1e9),
                                         {-1e9, std::nullopt},
                                         {std::nullopt, 1e9}}) {
    const Judged nan = JudgeFigure(&*suite, result, "texts", "", "loss", minimum, maximum);
    EXPECT_FALSE(nan.passed);
    EXPECT_THAT(nan.text, StartsWith("gate failed: test texts: loss is no number"));
  }
}

TEST(Gates, FailWhereNoCaseGivesTheirFigure) {
  Evaluated run(kStrategies, kSums);
  FakeModel model = Adder(0);
  ASSERT_TRUE(run.Run(&model).ok());
  // Nothing is right, so nothing tells how much alike the right ones are.
  for (const char* figure : {"distinct_right", "wordings_right"}) {
    const Judged judged = JudgeFigure(&run.suite_, run.result_, "sums", "vote", figure, -1e9, 1e9);
    EXPECT_FALSE(judged.passed);
    EXPECT_THAT(judged.text,
                EndsWith(absl::StrCat(figure, " was not measured: none of the 2 cases gives it")));
  }
}

TEST(Gates, ThatNoTestCanAnswerAreBadInput) {
  const auto error_of = [](const std::string& gate) {
    const auto suite = LoadSuiteText(kWithoutCases, "s.yaml",
                                     std::vector<std::string>{"gates=[{" + gate + ", minimum: 0}]"});
    return suite.ok() ? "" : std::string(suite.status().message());
  };
  for (const char* figure : {"loss", "perplexity", "bits_per_byte"}) {
    EXPECT_EQ(error_of(absl::StrCat("test: texts, figure: ", figure)), "");
    EXPECT_THAT(error_of(absl::StrCat("test: ranked, figure: ", figure)), HasSubstr("there is no figure"));
  }
  for (const char* figure : {"reward_accuracy", "reward_margin", "rankings"}) {
    EXPECT_EQ(error_of(absl::StrCat("test: ranked, figure: ", figure)), "");
    EXPECT_THAT(error_of(absl::StrCat("test: texts, figure: ", figure)), HasSubstr("there is no figure"));
  }
  EXPECT_THAT(error_of("test: texts, figure: accuracy"),
              HasSubstr("gates.0.figure: there is no figure accuracy"));
  EXPECT_THAT(error_of("test: answers, figure: bits_per_byte"),
              HasSubstr("there is no figure bits_per_byte"));
  EXPECT_THAT(error_of("test: texts, strategy: greedy, figure: loss"),
              HasSubstr("strategy, difficulty and kind belong to tests with cases"));
}

TEST(Gates, ThatNoCaseCanAnswerAreBadInput) {
  FakeModel model = Adder(4);
  const auto error_of = [&](const std::string& gate) {
    Evaluated run(std::string(kStrategies) + "gates: [{test: sums, strategy: greedy, " + gate + "}]\n",
                  kSums);
    return std::string(run.Run(&model).message());
  };
  EXPECT_THAT(error_of("figure: accuracy, difficulty: huge, minimum: 0"), HasSubstr("gates.0: no case of"));
  EXPECT_THAT(error_of("figure: harmful_rate, maximum: 0"), HasSubstr("no case of"));
  EXPECT_EQ(model.calls, 0);
}

}  // namespace
}  // namespace tanren
