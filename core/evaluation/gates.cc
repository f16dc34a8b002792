// The gates of a suite: whether a figure keeps its limit, and the cases that say why it does not.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "core/base/status.h"
#include "core/evaluation/report.h"

namespace tanren {
namespace {

const TestResult* FindTest(const std::vector<TestResult>& tests, const std::string& name) {
  const auto found = std::ranges::find(tests, name, [](const TestResult& one) { return one.test->name(); });
  return found == tests.end() ? nullptr : &*found;
}

const StrategyResult* FindStrategy(const TestResult& test, const std::string& name) {
  const auto found =
      std::ranges::find(test.strategies, name, [](const StrategyResult& one) { return one.strategy.name; });
  return found == test.strategies.end() ? nullptr : &*found;
}

// The cases that a gate speaks about.
std::vector<int64_t> CasesOf(const config::GateConfig& gate, const std::vector<EvaluationCase>& cases) {
  std::vector<int64_t> chosen;
  for (const EvaluationCase& one : cases) {
    if (!gate.difficulty().empty() && one.difficulty != gate.difficulty()) continue;
    if (!gate.kind().empty() && one.kind != gate.kind()) continue;
    chosen.push_back(one.index);
  }
  return chosen;
}

// What to call the cases that pull a figure below a minimum, and those that push it above a maximum.
struct Blame {
  const char* figure;  // or its beginning, where it ends with _
  const char* low;
  const char* high;
  bool faults = true;  // counts faults or merits from 0 to 1: a case that has none of them is not to blame
  const char* measure = nullptr;  // the figure of a single case, where it is another one
};
constexpr Blame kBlames[] = {
    {"accuracy", "wrong cases", "right cases"},
    {"error_rate", "right cases", "wrong cases"},
    {"no_answer", "cases with an answer", "cases without an answer"},
    {"steps_valid", "cases without valid steps", "cases with valid steps"},
    {"consistency", "cases whose samples disagree", "cases whose samples agree"},
    {"distinct_right", "cases whose right samples are alike", "cases whose right samples differ"},
    {"wordings_right", "cases with the fewest wordings", "cases with the most wordings", false},
    {"pass_at_", "wrong cases", "right cases"},
    {"majority_at_", "wrong cases", "right cases"},
    {"best_by_", "wrong cases", "right cases"},
    {"cut_off", "cases with an end", "cases cut off"},
    {"forced", "cases without an appended marker", "cases with an appended marker"},
    {"reward_score", "cases with the lowest score", "cases with the highest score", false},
    {"reference_kl", "cases nearest to the reference", "cases farthest from the reference", false},
    {"harmful_rate", "harmless cases", "harmful cases"},
    {"win_rate", "cases not won", "cases not lost"},
    {"oversize", "cases that fit", "cases that do not fit"},
    {"checker_failures", "cases without a failed check", "cases with a failed check"},
    {"tokens", "cases with the fewest tokens", "cases with the most tokens", false},
    {"tokens_per_case", "cases with the fewest tokens", "cases with the most tokens", false},
    // No time is kept for a case; it goes with what was generated.
    {"seconds", "cases with the fewest tokens", "cases with the most tokens", false, "tokens"},
};

const Blame* FindBlame(const std::string& figure) {
  for (const Blame& blame : kBlames) {
    const std::string_view name = blame.figure;
    if (name.ends_with('_') ? figure.starts_with(name) : figure == name) return &blame;
  }
  return nullptr;
}

// A case with its own figure.
struct Suspect {
  int64_t index;
  double value;
};

// The cases that `figure` counts, those first that pull it most to the side where it failed:
// below its minimum (`low`) or above its maximum. Those that do not pull are left out.
std::vector<Suspect> SuspectsOf(const SuiteResult& result, const TestResult& test, const StrategyResult& one,
                                const std::vector<int64_t>& chosen, const std::string& figure,
                                const Blame& blame, bool low) {
  std::vector<Suspect> suspects;
  for (const int64_t i : chosen) {
    const std::optional<double> value =
        FindFigure(FiguresOf(*result.suite, *test.test, one.strategy, test.cases, one.record, {i}), figure);
    if (!value.has_value()) continue;
    const bool innocent = blame.faults && (low ? *value >= 1 : *value <= 0);
    if (!innocent) suspects.push_back({i, *value});
  }
  const auto weight = [&](const Suspect& suspect) {
    if (std::isnan(suspect.value)) return std::numeric_limits<double>::infinity();
    return low ? -suspect.value : suspect.value;
  };
  std::ranges::stable_sort(suspects, std::greater<>(), weight);
  return suspects;
}

std::string EvidenceOfCases(const SuiteResult& result, const TestResult& test, const StrategyResult& one,
                            const std::vector<int64_t>& chosen, const config::GateConfig& gate, bool low) {
  constexpr size_t kShownCases = 5;
  const Blame* blame = FindBlame(gate.figure());
  if (blame == nullptr) {
    return absl::StrCat("it is a figure of all ", chosen.size(), " cases together, not of single ones");
  }
  const std::string figure = blame->measure != nullptr ? blame->measure : gate.figure();
  std::vector<Suspect> suspects = SuspectsOf(result, test, one, chosen, figure, *blame, low);
  if (suspects.size() > kShownCases) suspects.resize(kShownCases);
  std::string text;
  for (const Suspect& suspect : suspects) {
    absl::StrAppend(&text,
                    text.empty() ? absl::StrCat(low ? blame->low : blame->high, ", the first: ") : ", ",
                    test.cases[suspect.index].place);
    const bool plain = blame->faults && (suspect.value == 0 || suspect.value == 1);
    if (!plain) absl::StrAppend(&text, absl::StrFormat(" (%.4g)", suspect.value));
  }
  return text;
}

template <class Sources>
std::string PathsOf(const Sources& sources) {
  std::string paths;
  for (const auto& source : sources) absl::StrAppend(&paths, paths.empty() ? "" : ", ", source.path());
  return paths;
}

// A test without cases keeps no single text or ranking; where each of them can be seen is said instead.
std::string EvidenceOfData(const SuiteResult& result, const config::TestConfig& test) {
  if (!test.perplexity().tokens().empty()) {
    return absl::StrCat("it is a figure of all tokens of ", PathsOf(test.perplexity().tokens()),
                        " together, not of single texts");
  }
  if (test.has_perplexity()) {
    return absl::StrCat("it is a figure of all tokens of ", PathsOf(test.perplexity().examples()),
                        " together; tanren score ", result.checkpoint,
                        " --examples FILE prints the log-probability of each answer");
  }
  return absl::StrCat("it is a figure of all pairs of ", PathsOf(test.rankings()), " together; tanren score ",
                      result.suite->reward(), " --examples FILE prints each answer's score");
}

GateResult JudgeGate(const SuiteResult& result, const config::GateConfig& gate) {
  GateResult out;
  out.gate = &gate;
  const TestResult* test = FindTest(result.tests, gate.test());
  TANREN_CHECK(test != nullptr);
  const StrategyResult* strategy = FindStrategy(*test, gate.strategy());
  const std::vector<int64_t> chosen = CasesOf(gate, test->cases);
  const Figures figures = strategy == nullptr ? test->figures
                                              : FiguresOf(*result.suite, *test->test, strategy->strategy,
                                                          test->cases, strategy->record, chosen);
  out.value = FindFigure(figures, gate.figure());
  if (!out.value.has_value()) {
    if (strategy != nullptr) out.evidence = absl::StrCat("none of the ", chosen.size(), " cases gives it");
    return out;
  }
  // A value that is no number reaches no limit.
  out.below = gate.has_minimum() && !(*out.value >= gate.minimum());
  out.passed = !out.below && (!gate.has_maximum() || *out.value <= gate.maximum()) && !std::isnan(*out.value);
  if (out.passed) return out;
  out.evidence = strategy == nullptr ? EvidenceOfData(result, *test->test)
                                     : EvidenceOfCases(result, *test, *strategy, chosen, gate, out.below);
  return out;
}

}  // namespace

std::string GateResult::ToString() const {
  std::string text = absl::StrCat("gate ", passed ? "passed" : "failed", ": test ", gate->test());
  if (!gate->strategy().empty()) absl::StrAppend(&text, ", strategy ", gate->strategy());
  if (!gate->difficulty().empty()) absl::StrAppend(&text, ", difficulty ", gate->difficulty());
  if (!gate->kind().empty()) absl::StrAppend(&text, ", kind ", gate->kind());
  absl::StrAppend(&text, ": ", gate->figure());
  if (!value.has_value()) {
    return absl::StrCat(text, " was not measured", evidence.empty() ? "" : ": ", evidence);
  }
  if (std::isnan(*value)) return absl::StrCat(text, " is no number", evidence.empty() ? "" : "; ", evidence);
  absl::StrAppend(&text, absl::StrFormat(" %.6g", *value));
  if (passed) {
    if (gate->has_minimum()) absl::StrAppend(&text, absl::StrFormat(", minimum %.6g", gate->minimum()));
    if (gate->has_maximum()) absl::StrAppend(&text, absl::StrFormat(", maximum %.6g", gate->maximum()));
    return text;
  }
  absl::StrAppend(&text, absl::StrFormat(below ? " is below the minimum %.6g" : " is above the maximum %.6g",
                                         below ? gate->minimum() : gate->maximum()));
  return absl::StrCat(text, evidence.empty() ? "" : "; ", evidence);
}

absl::Status CheckGatesAgainstCases(const config::SuiteConfig& suite, const std::vector<TestResult>& tests) {
  for (int g = 0; g < suite.gates_size(); ++g) {
    const config::GateConfig& gate = suite.gates(g);
    const TestResult* test = FindTest(tests, gate.test());
    if (test == nullptr || test->cases.empty()) continue;
    const std::string place = absl::StrCat("gates.", g);
    const std::vector<int64_t> chosen = CasesOf(gate, test->cases);
    if (chosen.empty()) {
      return InvalidInput("%s: no case of %s has difficulty \"%s\" and kind \"%s\"", place,
                          test->test->cases(), gate.difficulty(), gate.kind());
    }
    const auto any = [&](const auto& has) {
      return std::ranges::any_of(chosen, [&](int64_t i) { return has(test->cases[i]); });
    };
    const bool by_harm = gate.figure() == "harmful_rate";
    if (by_harm && !any([&](const EvaluationCase& one) { return JudgesHarm(*test->test, one); })) {
      return InvalidInput("%s: no case of %s has \"harmful\", and the test has no harmful.command", place,
                          test->test->cases());
    }
    static constexpr const char* kChecked[] = {
        "accuracy", "error_rate",  "no_answer", "steps_valid",    "consist",
        "pass_at_", "majority_at", "best_by_",  "distinct_right", "wordings_right"};
    const bool by_check =
        std::ranges::any_of(kChecked, [&](const char* prefix) { return gate.figure().starts_with(prefix); });
    if (by_check && !any([](const EvaluationCase& one) { return one.checked(); })) {
      return InvalidInput("%s: no case of %s has an answer to check", place, test->test->cases());
    }
  }
  return absl::OkStatus();
}

std::vector<GateResult> JudgeGates(const SuiteResult& result) {
  std::vector<GateResult> out;
  for (const config::GateConfig& gate : result.suite->gates()) out.push_back(JudgeGate(result, gate));
  return out;
}

}  // namespace tanren
