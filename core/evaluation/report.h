// What a suite leaves behind: summary.json, samples.jsonl, a table, and the verdict of its gates.
#ifndef TANREN_CORE_EVALUATION_REPORT_H_
#define TANREN_CORE_EVALUATION_REPORT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/evaluation/figures.h"

namespace tanren {

struct StrategyResult {
  Strategy strategy;
  StrategyRecord record;
};

struct TestResult {
  const config::TestConfig* test = nullptr;
  std::vector<EvaluationCase> cases;
  std::vector<StrategyResult> strategies;
  Figures figures;  // of a test without cases
};

struct SuiteResult {
  const config::SuiteConfig* suite = nullptr;
  std::string checkpoint;  // the step directory that answered
  std::vector<TestResult> tests;
};

struct GateResult {
  const config::GateConfig* gate = nullptr;
  std::optional<double> value;  // nothing: it was not measured
  bool passed = false;
  bool below = false;  // failed below the minimum, else above the maximum
  // Of a gate that failed: the first cases that pull its figure to that side, the worst in front, each with
  // its own figure where that is more than yes or no ("harmful cases, the first: talks.jsonl:3, ..", "cases
  // with the most tokens, the first: heldout.jsonl:9 (512), .."), or why no case can be named.
  std::string evidence;
  // "gate failed: test T, strategy S: accuracy 0.4 is below the minimum 0.9; wrong cases, the first:
  // heldout.jsonl:3, ..".
  std::string ToString() const;
};

// Gates that name figures which these cases cannot give: no case has the difficulty or the kind, is checked,
// or is judged for harm. InvalidArgument; to be called before anything is generated.
absl::Status CheckGatesAgainstCases(const config::SuiteConfig& suite, const std::vector<TestResult>& tests);

// In the order of the suite's gates. A figure that is missing after all fails its gate.
std::vector<GateResult> JudgeGates(const SuiteResult& result);

// {"checkpoint", "seed", "tests": {NAME: {"cases", "strategies": {NAME: {"figures", "by_difficulty",
// "by_kind"}}}}, "gates": [..], "passed"}; a test without cases has "figures" itself.
OrderedJson SummaryOf(const SuiteResult& result, const std::vector<GateResult>& gates);

// The per-case log: a line for each turn of each case and strategy, with every reply.
std::vector<OrderedJson> SampleLinesOf(const SuiteResult& result);

// For the console.
std::string TableOf(const SuiteResult& result);

// The cases of one difficulty or kind, for each that occurs, in the order of their names.
enum class GroupBy { kDifficulty, kKind };
std::vector<std::pair<std::string, std::vector<int64_t>>> GroupsOf(const std::vector<EvaluationCase>& cases,
                                                                   GroupBy by);
std::vector<int64_t> AllOf(const std::vector<EvaluationCase>& cases);

OrderedJson FiguresToJson(const Figures& figures);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_REPORT_H_
