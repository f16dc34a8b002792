#include "core/evaluation/runner.h"

#include <cmath>
#include <fstream>
#include <set>

#include "gmock/gmock.h"
#include "tests/core/evaluation/evaluated.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

TEST(Runner, FiguresOfVotesAndSamples) {
  Evaluated run(kStrategies, kSums);
  FakeModel model = Adder(3);
  ASSERT_TRUE(run.Run(&model).ok());
  EXPECT_EQ(run.figure(0, "accuracy"), 1);
  EXPECT_EQ(run.figure(1, "accuracy"), 1);
  EXPECT_EQ(run.figure(1, "pass_at_1"), 0.75);
  EXPECT_EQ(run.figure(1, "pass_at_8"), 1);
  EXPECT_DOUBLE_EQ(run.figure(1, "pass_at_2"), 1 - 2.0 / 8 * 1 / 7);  // not both of the two wrong ones
  EXPECT_EQ(run.figure(1, "consistency"), 0.75);
  EXPECT_EQ(run.figure(1, "majority_at_1"), 0.75);
  EXPECT_EQ(run.figure(1, "majority_at_8"), 1);
  EXPECT_EQ(run.figure(1, "steps_valid"), 1);
  EXPECT_EQ(run.figure(2, "accuracy"), 1);
  EXPECT_EQ(run.figure(0, "error_rate"), 0);
  EXPECT_TRUE(std::isnan(run.figure(0, "pass_at_1")));
  // "2+3=5\n#### 5" and the end are 13 tokens.
  EXPECT_EQ(run.figure(0, "tokens"), 26);
  EXPECT_EQ(run.figure(1, "tokens_per_case"), 104);
  // The samples of `vote` are those of `first`.
  EXPECT_EQ(model.calls, 2);
  EXPECT_EQ(run.figure(2, "tokens"), run.figure(1, "tokens"));
}

TEST(Runner, FiguresOfWordings) {
  // Right are six samples of the first case, in three texts, two of which differ in a number only; one of the
  // second; none of the third.
  Evaluated run(kStrategies, R"({"question": "@", "answer": 5}
{"question": "%", "answer": 5}
{"question": "~", "answer": 5}
)");
  FakeModel model([](const std::string& prompt, int64_t sample) {
    constexpr const char* kFirst[] = {"1 #### 5\x03", "2 #### 5\x03", "2 #### 5\x03",  "so #### 5\x03",
                                      "2 #### 5\x03", "2 #### 5\x03", "so #### 6\x03", "3 #### 7\x03"};
    const bool first = prompt.find('@') != std::string::npos;
    if (first) return std::string(kFirst[sample % 8]);
    return std::string(prompt.find('%') != std::string::npos && sample % 8 == 3 ? "#### 5\x03"
                                                                                : "#### 6\x03");
  });
  ASSERT_TRUE(run.Run(&model).ok());
  EXPECT_EQ(run.figure(1, "distinct_right"), 3.0 / 6);
  EXPECT_EQ(run.figure(1, "wordings_right"), (2.0 + 1) / 2);
  EXPECT_TRUE(std::isnan(run.figure(0, "distinct_right")));  // of one answer
  EXPECT_TRUE(std::isnan(run.figure(0, "wordings_right")));
}

TEST(Runner, EveryFigureIsOneThatGatesMayName) {
  Evaluated run(std::string("reward: r\nversus: v\nreference: f\n") + kStrategies, kSums);
  FakeModel model = Adder(3);
  model.reference_logp = [](const std::string&) { return -1; };
  model.score = [](const std::string& text) { return static_cast<double>(text.size()); };
  FakeModel other = Adder(1);
  other.score = model.score;
  ASSERT_TRUE(run.Run(&model, &other).ok());
  const config::TestConfig& test = run.suite_.tests(0);
  for (int s = 0; s < test.strategies_size(); ++s) {
    std::vector<std::string> given;
    for (const auto& [name, value] : run.figures(s)) given.push_back(name);
    given.push_back("harmful_rate");  // of cases that are judged for it
    const std::vector<std::string> known = FigureNames(run.suite_, test, &test.strategies(s));
    EXPECT_EQ(std::set<std::string>(given.begin(), given.end()),
              std::set<std::string>(known.begin(), known.end()));
  }
}

TEST(Runner, AScenarioIsRightWhenAllItsTurnsAre) {
  Evaluated run("tests: [{name: t, cases: x, strategies: [{name: s}]}]",
                "{\"turns\": [{\"user\": \"1+1\", \"answer\": 2}, {\"user\": \"thanks\"}, "
                "{\"user\": \"2+2\", \"answer\": 4}]}\n"
                "{\"turns\": [{\"user\": \"1+2\", \"answer\": 3}, {\"user\": \"3+3\", \"answer\": 7}]}\n");
  std::vector<std::string> seen;
  FakeModel model([&](const std::string& prompt, int64_t) {
    seen.push_back(prompt);
    const size_t at = prompt.rfind('+');
    return "#### " + std::to_string((prompt[at - 1] - '0') + (prompt[at + 1] - '0')) + "\x03";
  });
  ASSERT_TRUE(run.Run(&model).ok());
  // The replies are in the conversation.
  EXPECT_THAT(
      seen, ElementsAre("1+1\n", "1+2\n", "1+1\n#### 2<|endoftext|>thanks\n", "1+2\n#### 3<|endoftext|>3+3\n",
                        "1+1\n#### 2<|endoftext|>thanks\n#### 2<|endoftext|>2+2\n"));
  EXPECT_EQ(run.figure(0, "accuracy"), 0.5);
  EXPECT_TRUE(run.result_.tests[0].strategies[0].record.cases[0].right);
}

TEST(Runner, CountsOrRefusesPromptsThatDoNotFit) {
  const std::string lines =
      std::string(kSums) + "{\"question\": \"" + std::string(60, 'x') + "1+1\", \"answer\": 2}\n";
  FakeModel model = Adder(4);
  model.context = 40;
  Evaluated refused(kStrategies, lines);
  const absl::Status status = refused.Run(&model);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("cases.jsonl:3: a prompt of 64 tokens leaves no room for an answer in a context of 40"));
  EXPECT_EQ(model.calls, 0);
  Evaluated counted(std::string("oversize: count\n") + kStrategies, lines);
  ASSERT_TRUE(counted.Run(&model).ok());
  EXPECT_EQ(counted.figure(0, "oversize"), 1);
  EXPECT_DOUBLE_EQ(counted.figure(0, "accuracy"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(counted.figure(1, "pass_at_1"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(counted.figure(0, "no_answer"), 1.0 / 3);
}

TEST(Runner, RefusesCasesByName) {
  FakeModel model = Adder(4);
  const auto error_of = [&](const std::string& line) {
    Evaluated run(kStrategies, std::string(kSums) + line + "\n");
    return std::string(run.Run(&model).message());
  };
  EXPECT_THAT(error_of("{\"question\": \"1+1\"}"), HasSubstr("cases.jsonl:3: there is no field \"answer\""));
  EXPECT_THAT(error_of("{\"answer\": 1}"), HasSubstr("cases.jsonl:3: there is no question"));
  EXPECT_THAT(error_of("{\"question\": [], \"answer\": 1}"), HasSubstr("cases.jsonl:3: field \"question\""));
  EXPECT_THAT(error_of("{"), HasSubstr("cases.jsonl:3: not a JSON object"));
  EXPECT_THAT(error_of("{\"turns\": [{\"answer\": 1}]}"),
              HasSubstr("cases.jsonl:3: turn 1: there is no field"));
  EXPECT_THAT(error_of("{\"question\": \"1+1\", \"harmful\": [\"a(b\"]}"),
              HasSubstr("cases.jsonl:3: field \"harmful\": \"a(b\": the pattern is wrong at byte 3"));
  EXPECT_EQ(model.calls, 0);
}

TEST(Runner, WinsAgainstAnotherModelByScore) {
  Evaluated run("reward: r\nversus: v\ntests: [{name: t, cases: x, strategies: [{name: s}]}]",
                std::string(kSums) + "{\"question\": \"1+1\", \"answer\": 2}\n");
  const auto score = [](const std::string& text) { return static_cast<double>(text.size()); };
  FakeModel own([](const std::string& prompt, int64_t) {
    return prompt.starts_with("2+3") ? std::string("longer answer\x03") : std::string("short\x03");
  });
  FakeModel other([](const std::string& prompt, int64_t) {
    return prompt.starts_with("4+4") ? std::string("longer answer\x03") : std::string("short\x03");
  });
  own.score = other.score = score;
  ASSERT_TRUE(run.Run(&own, &other).ok());
  EXPECT_EQ(run.figure(0, "win_rate"), 0.5);  // won, lost, tied
  const auto& cases = run.result_.tests[0].strategies[0].record.cases;
  EXPECT_EQ(*cases[0].win + *cases[1].win * 10 + *cases[2].win * 100, 1 + 0 + 50);
}

// Byte by byte the model gives -1 nat: what it writes is as much likelier than the reference's as that.
TEST(Runner, MeasuresHowFarSamplesAreFromAReference) {
  Evaluated run(
      "reference: r\ntests: [{name: t, cases: x, strategies: [{name: greedy}, "
      "{name: own, parts: [sample: {n: 2, temperature: 1}]}, "
      "{name: cold, parts: [sample: {n: 2, temperature: 0.5}]}, "
      "{name: few, parts: [sample: {n: 2, temperature: 1, top_k: 5}]}]}]",
      "{\"question\": \"1+1\", \"answer\": 2}\n{\"question\": \"2+2\", \"answer\": 4}\n");
  FakeModel model(
      [](const std::string&, int64_t sample) { return std::string(sample == 0 ? "ab\x03" : "abcdef\x03"); });
  int64_t asked = 0;
  model.reference_logp = [&](const std::string& text) {
    ++asked;
    return -2.5 * static_cast<double>(text.size());
  };
  ASSERT_TRUE(run.Run(&model).ok());
  const double tokens = (TextOf({'a', 'b', Bytes().roles().end_of_text}).size() +
                         TextOf({'a', 'b', 'c', 'd', 'e', 'f', Bytes().roles().end_of_text}).size()) /
                        2.0;
  EXPECT_DOUBLE_EQ(run.figure(1, "reference_kl"), 2.5 * tokens - (3 + 7) / 2.0);
  for (const int s : {0, 2, 3}) EXPECT_TRUE(std::isnan(run.figure(s, "reference_kl"))) << s;
  EXPECT_EQ(asked, 4);
}

TEST(Runner, CountsHarm) {
  Evaluated run("tests: [{name: t, cases: x, strategies: [{name: s}]}]",
                std::string(kSums) + "{\"question\": \"1+1\", \"harmful\": [\"=2\"]}\n" +
                    "{\"question\": \"1+1\", \"harmful\": [\"never\"]}\n");
  FakeModel model = Adder(4);
  ASSERT_TRUE(run.Run(&model).ok());
  EXPECT_EQ(run.figure(0, "harmful_rate"), 0.5);
  EXPECT_EQ(run.figure(0, "accuracy"), 1);  // of the two that have an answer
}

TEST(Runner, CountsAsHarmfulWhatCouldNotBeJudged) {
  Evaluated run(
      "tests: [{name: t, cases: x, strategies: [{name: s}], harmful: {command: [sh, -c, exit 3]}}]\n"
      "gates: [{test: t, strategy: s, figure: harmful_rate, maximum: 0}]\n",
      kSums);
  FakeModel model = Adder(4);
  ASSERT_TRUE(run.Run(&model).ok());
  EXPECT_EQ(run.figure(0, "harmful_rate"), 1);
  EXPECT_EQ(run.figure(0, "checker_failures"), 2);
  EXPECT_EQ(run.figure(0, "accuracy"), 1);
  const GateResult gate = JudgeGates(run.result_)[0];
  EXPECT_FALSE(gate.passed);
  const std::string file = run.folder_ + "/cases.jsonl";
  EXPECT_EQ(
      gate.ToString(),
      "gate failed: test t, strategy s: harmful_rate 1 is above the maximum 0; harmful cases, the first: " +
          file + ":1, " + file + ":2");
}

TEST(Runner, FewShotExamplesStandInFrontButNeverTheQuestionItself) {
  Evaluated run("tests: [{name: t, cases: x, strategies: [{name: s}]}]", kSums);
  const std::string shots = run.folder_ + "/shots.jsonl";
  std::ofstream(shots) << "{\"prompt\": \"2+3\", \"completion\": \"five\"}\n"
                          "{\"prompt\": \"1+1\", \"completion\": \"two\"}\n"
                          "{\"prompt\": \"1+2\", \"completion\": \"three\"}\n";
  config::PromptConfig config;
  config.mutable_few_shot()->set_path(shots);
  config.mutable_few_shot()->set_k(1);
  config.set_zero_shot("Go.");
  Question question;
  question.text = "2+3";
  question.fields = {{"question", "2+3"}, {"prompt", "2+3"}};
  auto prompter = Prompter::Make(config, run.prompts_);
  ASSERT_TRUE(prompter.ok()) << prompter.status();
  EXPECT_EQ(TextOf(prompter->Render(question)->tokens), "1+1\ntwo<|endoftext|>2+3\nGo.\n");
  config.set_pattern("Q {prompt} A ");
  config.clear_zero_shot();
  prompter = Prompter::Make(config, run.prompts_);
  ASSERT_TRUE(prompter.ok());
  EXPECT_EQ(TextOf(prompter->Render(question)->tokens), "Q 1+1 A two\n\nQ 2+3 A ");
  EXPECT_EQ(prompter->Render(question)->text, "Q 2+3 A ");
  config.mutable_few_shot()->set_k(9);
  EXPECT_THAT(std::string(Prompter::Make(config, run.prompts_).status().message()),
              HasSubstr("has 3 examples; k is 9"));
}

TEST(TraceAndReplay, EveryPartGivesTheSameAgain) {
  Evaluated run(
      std::string(kStrategies) + "      - {name: beam, parts: [beam: {width: 2}, vote: {by: logp}]}\n",
      kSums);
  run.trace_ = Trace(run.folder_ + "/trace");
  FakeModel model = Adder(3);
  ASSERT_TRUE(run.Run(&model).ok());
  const config::TestConfig& test = run.suite_.tests(0);
  int64_t replayed = 0;
  for (const char* part : kTracedParts) {
    const auto found = FindTracedParts(run.folder_ + "/trace", part);
    ASSERT_TRUE(found.ok()) << part << ": " << found.status();
    for (const TracedPart& one : *found) {
      auto lines = ReadTrace(one.path);
      ASSERT_TRUE(lines.ok());
      EXPECT_EQ(lines->size(), 2U);
      Strategy strategy;
      for (const auto& config : test.strategies()) {
        if (config.name() == one.strategy) strategy = ResolveStrategy(run.suite_, test, config);
      }
      // Parts without a model run without one.
      RunnerOptions options{run.solo_.get(), &run.suite_, nullptr, nullptr, nullptr, &run.trace_};
      if (NeedsModel(part)) options.prompts = &run.prompts_;
      if (NeedsModel(part)) options.model = &model;
      Runner runner(options);
      const auto outputs = runner.Replay(test, strategy, part, *lines);
      ASSERT_TRUE(outputs.ok()) << outputs.status();
      EXPECT_EQ(CompareTrace(*lines, *outputs).different, 0) << CompareTrace(*lines, *outputs).first;
      (*lines)[1].output["reply"] = 77;
      EXPECT_EQ(CompareTrace(*lines, *outputs).different, 1);
      EXPECT_THAT(CompareTrace(*lines, *outputs).first, HasSubstr("case 1, turn 0: traced"));
      ++replayed;
    }
  }
  EXPECT_EQ(replayed, 4 * 5);
  EXPECT_EQ(FindTracedParts(run.folder_ + "/trace", "sums/vote/vote")->size(), 1U);
  EXPECT_FALSE(FindTracedParts(run.folder_ + "/trace", "sums/greedy/beam").ok());
  EXPECT_THAT(std::string(FindTracedParts(run.folder_ + "/trace", "vot").status().message()),
              HasSubstr("there is no part"));
}

}  // namespace
}  // namespace tanren
