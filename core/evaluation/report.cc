#include "core/evaluation/report.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/status.h"

namespace tanren {
namespace {

OrderedJson GroupsToJson(const SuiteResult& result, const TestResult& test, const StrategyResult& strategy,
                         GroupBy by) {
  OrderedJson out;
  for (const auto& [name, chosen] : GroupsOf(test.cases, by)) {
    out[name] = FiguresToJson(
        FiguresOf(*result.suite, *test.test, strategy.strategy, test.cases, strategy.record, chosen));
  }
  return out;
}

OrderedJson StrategyToJson(const SuiteResult& result, const TestResult& test,
                           const StrategyResult& strategy) {
  OrderedJson out;
  out["figures"] = FiguresToJson(FiguresOf(*result.suite, *test.test, strategy.strategy, test.cases,
                                           strategy.record, AllOf(test.cases)));
  for (const auto& [key, by] :
       {std::pair("by_difficulty", GroupBy::kDifficulty), std::pair("by_kind", GroupBy::kKind)}) {
    OrderedJson groups = GroupsToJson(result, test, strategy, by);
    if (!groups.is_null()) out[key] = std::move(groups);
  }
  return out;
}

OrderedJson LineOf(const TestResult& test, const StrategyResult& strategy, size_t index,
                   const TurnRecord& turn) {
  const EvaluationCase& one = test.cases[index];
  const CaseRecord& record = strategy.record.cases[index];
  OrderedJson line = {{"test", test.test->name()}, {"strategy", strategy.strategy.name}, {"case", one.place}};
  if (one.turns.size() > 1) line["turn"] = turn.prompt.turn;
  line["prompt"] = turn.prompt.text;
  line["completion"] = turn.chosen() == nullptr ? "" : turn.chosen()->text;
  if (turn.chosen() == nullptr) line["oversize"] = record.oversize;
  line["extracted"] = turn.chosen() == nullptr ? "" : turn.answers[turn.choice.reply];
  if (turn.reference.has_value()) {
    line["answer"] = *turn.reference;
    line["correct"] = turn.verdict() != nullptr && turn.verdict()->right;
  }
  if (one.turns.size() > 1) line["scenario_correct"] = record.right;
  if (!one.kind.empty()) line["kind"] = one.kind;
  if (!one.difficulty.empty()) line["difficulty"] = one.difficulty;
  if (turn.verdict() != nullptr && JudgesHarm(*test.test, one)) line["harmful"] = turn.verdict()->harmful;
  if (record.win.has_value()) line["win"] = *record.win;
  for (size_t r = 0; r < turn.replies.replies.size(); ++r) {
    const Reply& reply = turn.replies.replies[r];
    OrderedJson out = {{"text", reply.text},
                       {"extracted", turn.answers[r]},
                       {"right", turn.verdicts[r].right},
                       {"tokens", reply.tokens.size()},
                       {"mean_logp", reply.mean_logp()},
                       {"ended", reply.ended}};
    if (reply.forced) out["forced"] = true;
    if (turn.verdicts[r].failed) out["checker_failure"] = turn.verdicts[r].failure;
    out["score"] = reply.score;
    line["replies"].push_back(std::move(out));
  }
  return line;
}

std::string Padded(const std::string& text, size_t width, bool right) {
  const std::string spaces(width > text.size() ? width - text.size() : 0, ' ');
  return right ? spaces + text : text + spaces;
}

std::string Rows(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const std::vector<std::string>& row : rows) {
    std::string line = "  ";
    for (size_t c = 0; c < row.size(); ++c) {
      absl::StrAppend(&line, c > 0 ? "  " : "", Padded(row[c], widths[c], c > 0));
    }
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

// The columns of the table, where the figure exists.
struct Column {
  const char* figure;
  const char* title;
  const char* format;
};
constexpr Column kColumns[] = {
    {"accuracy", "accuracy", "%.4f"},           {"accuracy_standard_error", "+-", "%.4f"},
    {"no_answer", "no answer", "%.3f"},         {"steps_valid", "steps valid", "%.4f"},
    {"consistency", "consistency", "%.4f"},     {"distinct_right", "distinct", "%.4f"},
    {"wordings_right", "wordings", "%.2f"},     {"pass_at_1", "pass@1", "%.4f"},
    {"harmful_rate", "harmful", "%.4f"},        {"win_rate", "win rate", "%.4f"},
    {"reward_score", "score", "%.3f"},          {"checker_failures", "failures", "%.0f"},
    {"tokens_per_case", "tokens/case", "%.1f"}, {"seconds", "seconds", "%.2f"}};

std::string NumberText(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), format, value);
  return buffer;
}

std::string StrategyTable(const SuiteResult& result, const TestResult& test) {
  std::vector<std::pair<std::string, Figures>> lines;
  for (const StrategyResult& one : test.strategies) {
    const auto add = [&](const std::string& name, const std::vector<int64_t>& chosen) {
      lines.emplace_back(name,
                         FiguresOf(*result.suite, *test.test, one.strategy, test.cases, one.record, chosen));
    };
    add(one.strategy.name, AllOf(test.cases));
    for (const auto& [name, chosen] : GroupsOf(test.cases, GroupBy::kDifficulty)) {
      add(absl::StrCat("  ", name, " (", chosen.size(), ")"), chosen);
    }
  }
  std::vector<std::vector<std::string>> rows(lines.size() + 1);
  rows[0].push_back("strategy");
  for (size_t i = 0; i < lines.size(); ++i) rows[i + 1].push_back(lines[i].first);
  for (const Column& column : kColumns) {
    const auto has = [&](const auto& line) { return FindFigure(line.second, column.figure).has_value(); };
    if (std::ranges::none_of(lines, has)) continue;
    rows[0].push_back(column.title);
    for (size_t i = 0; i < lines.size(); ++i) {
      const std::optional<double> value = FindFigure(lines[i].second, column.figure);
      rows[i + 1].push_back(value.has_value() ? NumberText(column.format, *value) : "");
    }
  }
  return Rows(rows);
}

// Accuracy over the number of samples, a row a number.
std::string CurveTable(const SuiteResult& result, const TestResult& test, const StrategyResult& one) {
  const Figures figures =
      FiguresOf(*result.suite, *test.test, one.strategy, test.cases, one.record, AllOf(test.cases));
  std::vector<std::vector<std::string>> rows = {{absl::StrCat(one.strategy.name, ": n")}};
  constexpr std::pair<const char*, const char*> kCurves[] = {{"majority_at_", "majority"},
                                                             {"best_by_logp_at_", "best by logp"},
                                                             {"best_by_reward_at_", "best by reward"}};
  for (const int64_t n : one.strategy.curve) rows.push_back({absl::StrCat(n)});
  for (const auto& [prefix, title] : kCurves) {
    if (!FindFigure(figures, absl::StrCat(prefix, one.strategy.curve[0])).has_value()) continue;
    rows[0].push_back(title);
    for (size_t i = 0; i < one.strategy.curve.size(); ++i) {
      const auto value = FindFigure(figures, absl::StrCat(prefix, one.strategy.curve[i]));
      rows[i + 1].push_back(NumberText("%.4f", *value));
    }
  }
  return Rows(rows);
}

}  // namespace

OrderedJson SummaryOf(const SuiteResult& result, const std::vector<GateResult>& gates) {
  OrderedJson out = {{"checkpoint", result.checkpoint}, {"seed", result.suite->seed()}};
  if (!result.suite->reward().empty()) out["reward"] = result.suite->reward();
  if (!result.suite->versus().empty()) out["versus"] = result.suite->versus();
  if (!result.suite->reference().empty()) out["reference"] = result.suite->reference();
  for (const TestResult& test : result.tests) {
    OrderedJson& one = out["tests"][test.test->name()];
    if (test.cases.empty()) {
      one["figures"] = FiguresToJson(test.figures);
      continue;
    }
    one["cases"] = test.cases.size();
    for (const StrategyResult& strategy : test.strategies) {
      one["strategies"][strategy.strategy.name] = StrategyToJson(result, test, strategy);
    }
  }
  out["gates"] = OrderedJson::array();
  bool passed = true;
  for (const GateResult& gate : gates) {
    passed = passed && gate.passed;
    OrderedJson one = {{"test", gate.gate->test()}};
    if (!gate.gate->strategy().empty()) one["strategy"] = gate.gate->strategy();
    one["figure"] = gate.gate->figure();
    if (!gate.gate->difficulty().empty()) one["difficulty"] = gate.gate->difficulty();
    if (!gate.gate->kind().empty()) one["kind"] = gate.gate->kind();
    one["value"] = gate.value.has_value() ? OrderedJson(*gate.value) : OrderedJson();
    if (gate.gate->has_minimum()) one["minimum"] = gate.gate->minimum();
    if (gate.gate->has_maximum()) one["maximum"] = gate.gate->maximum();
    one["passed"] = gate.passed;
    out["gates"].push_back(std::move(one));
  }
  out["passed"] = passed;
  return out;
}

std::vector<OrderedJson> SampleLinesOf(const SuiteResult& result) {
  std::vector<OrderedJson> lines;
  for (const TestResult& test : result.tests) {
    for (const StrategyResult& strategy : test.strategies) {
      for (size_t i = 0; i < test.cases.size(); ++i) {
        for (const TurnRecord& turn : strategy.record.cases[i].turns) {
          lines.push_back(LineOf(test, strategy, i, turn));
        }
      }
    }
  }
  return lines;
}

std::string TableOf(const SuiteResult& result) {
  std::string out;
  for (const TestResult& test : result.tests) {
    absl::StrAppend(&out, test.test->name());
    if (test.cases.empty()) {
      for (const auto& [name, value] : test.figures) {
        absl::StrAppend(&out, absl::StrFormat("  %s %.6g", name, value));
      }
      absl::StrAppend(&out, "\n");
      continue;
    }
    absl::StrAppend(&out, ": ", test.cases.size(), " cases of ", test.test->cases(), "\n",
                    StrategyTable(result, test));
    for (const StrategyResult& one : test.strategies) {
      if (!one.strategy.curve.empty()) absl::StrAppend(&out, CurveTable(result, test, one));
    }
  }
  return out;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> GroupsOf(const std::vector<EvaluationCase>& cases,
                                                                   GroupBy by) {
  std::map<std::string, std::vector<int64_t>> groups;
  for (const EvaluationCase& one : cases) {
    const std::string& name = by == GroupBy::kKind ? one.kind : one.difficulty;
    if (!name.empty()) groups[name].push_back(one.index);
  }
  return {groups.begin(), groups.end()};
}

std::vector<int64_t> AllOf(const std::vector<EvaluationCase>& cases) {
  std::vector<int64_t> all;
  for (const EvaluationCase& one : cases) all.push_back(one.index);
  return all;
}

OrderedJson FiguresToJson(const Figures& figures) {
  OrderedJson out;
  for (const auto& [name, value] : figures) out[name] = value;
  return out;
}

}  // namespace tanren
