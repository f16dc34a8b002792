// A suite over cases, answered by scripted models.
#ifndef TANREN_TESTS_CORE_EVALUATION_EVALUATED_H_
#define TANREN_TESTS_CORE_EVALUATION_EVALUATED_H_

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/evaluation/report.h"
#include "core/evaluation/runner.h"
#include "tests/core/evaluation/fake_model.h"

namespace tanren {

// A place for a test's files.
inline std::string Folder() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  const std::string folder = testing::TempDir() + "tanren_runner_" + info->name();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

// A suite over cases, run with scripted models.
class Evaluated {
 public:
  Evaluated(const std::string& yaml, const std::string& lines) : folder_(Folder()) {
    std::ofstream(folder_ + "/cases.jsonl") << lines;
    const auto suite = LoadSuiteText("checkpoint: x\n" + yaml, "s.yaml",
                                     std::vector<std::string>{"tests.0.cases=" + folder_ + "/cases.jsonl"});
    EXPECT_TRUE(suite.ok()) << suite.status();
    suite_ = *suite;
    result_.suite = &suite_;
  }

  absl::Status Run(FakeModel* model, FakeModel* versus = nullptr) {
    CaseOptions read;
    read.answers_required = true;
    const config::TestConfig& test = suite_.tests(0);
    auto cases = ReadCases(test.cases(), read);
    if (!cases.ok()) return cases.status();
    TestResult& out = result_.tests.emplace_back();
    out.test = &test;
    out.cases = *cases;
    if (absl::Status gates = CheckGatesAgainstCases(suite_, result_.tests); !gates.ok()) return gates;
    const auto planned = PlanSequenceTokens(suite_, {*cases}, prompts_, model->context);
    if (!planned.ok()) return planned.status();
    RunnerOptions options{solo_.get(), &suite_, &prompts_, model, versus, &trace_};
    Runner runner(options);
    for (const config::StrategyConfig& config : test.strategies()) {
      const Strategy strategy = ResolveStrategy(suite_, test, config);
      auto record = runner.Run(test, out.cases, strategy);
      if (!record.ok()) return record.status();
      out.strategies.push_back({strategy, *std::move(record)});
    }
    return absl::OkStatus();
  }

  Figures figures(size_t strategy) const {
    const TestResult& test = result_.tests[0];
    return FiguresOf(suite_, *test.test, test.strategies[strategy].strategy, test.cases,
                     test.strategies[strategy].record, AllOf(test.cases));
  }
  double figure(size_t strategy, const std::string& name) const {
    return FindFigure(figures(strategy), name).value_or(NAN);
  }

  std::string folder_;
  config::SuiteConfig suite_;
  PromptModel prompts_ = BytesPrompts();
  std::unique_ptr<Comm> solo_ = MakeSoloComm("world");
  Trace trace_{""};
  SuiteResult result_;
};

// Answers "ADD" questions like "2+3" rightly in `right` of every four samples.
inline FakeModel Adder(int64_t right) {
  return FakeModel([right](const std::string& prompt, int64_t sample) {
    const size_t at = prompt.rfind('+');
    const int sum = (prompt[at - 1] - '0') + (prompt[at + 1] - '0');
    const int said = sample % 4 < right ? sum : sum + 1;
    const std::string text = std::to_string(said);
    return std::string() + prompt[at - 1] + "+" + prompt[at + 1] + "=" + text + "\n#### " + text + "\x03";
  });
}

inline constexpr const char* kSums =
    "{\"question\": \"2+3\", \"answer\": 5, \"difficulty\": \"easy\", \"kind\": \"a\"}\n"
    "{\"question\": \"4+4\", \"answer\": \"8\", \"difficulty\": \"hard\", \"kind\": \"a\"}\n";

inline constexpr const char* kStrategies = R"(
tests:
  - name: sums
    cases: x
    strategies:
      - name: greedy
      - {name: vote, parts: [sample: {n: 8, temperature: 1}, vote: {}], curve: [1, 4, 8]}
      - {name: first, parts: [sample: {n: 8, temperature: 1}, select: {}]}
)";

}  // namespace tanren

#endif  // TANREN_TESTS_CORE_EVALUATION_EVALUATED_H_
