#include "core/report/html_evaluation.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/report/html_escape.h"
#include "core/report/html_scale.h"
#include "core/report/html_table.h"

namespace tanren {
namespace {

constexpr size_t kMaxFigureColumns = 40;

// What a figure is measured in, by its name (docs/evaluation.md).
Unit UnitOf(std::string_view name) {
  static constexpr std::string_view kShares[] = {
      "accuracy",       "error_rate", "no_answer",    "steps_valid", "consistency",    "majority",
      "distinct_right", "win_rate",   "harmful_rate", "cut_off",     "forced",         "best_of_n",
      "weighted_vote",  "pass_at_",   "majority_at_", "best_by_",    "reward_accuracy"};
  const auto begins = [&](std::string_view share) { return name.starts_with(share); };
  if (name == "tokens") return Unit::kCount;
  if (name == "seconds") return Unit::kSeconds;
  return std::ranges::any_of(kShares, begins) ? Unit::kShare : Unit::kNumber;
}

std::string Shown(const std::optional<double>& value, std::string_view figure) {
  return value.has_value() ? FormatFigure(*value, UnitOf(figure)) : "";
}

std::string GateTable(const std::vector<GateVerdict>& gates) {
  HtmlTable table("lllllrrr", {"gate", "test", "strategy", "figure", "of", "value", "at least", "at most"});
  for (const GateVerdict& gate : gates) {
    table.Add({gate.passed ? "<span class=\"good\">✓ passed</span>" : "<span class=\"bad\">✗ failed</span>",
               HtmlText(gate.test), HtmlText(gate.strategy), HtmlText(gate.figure),
               gate.of.empty() ? "all" : HtmlText(gate.of),
               gate.value.has_value() ? Shown(gate.value, gate.figure) : "not measured",
               Shown(gate.minimum, gate.figure), Shown(gate.maximum, gate.figure)});
  }
  return table.Render();
}

// One row for each part of the cases, one column for each figure.
std::string FigureTable(const std::vector<FigureRow>& rows) {
  std::vector<std::string> names;
  for (const FigureRow& row : rows) {
    for (const auto& [name, value] : row.figures) {
      if (std::ranges::find(names, name) == names.end() && names.size() < kMaxFigureColumns)
        names.push_back(name);
    }
  }
  std::vector<std::string> titles = {"of"};
  titles.insert(titles.end(), names.begin(), names.end());
  HtmlTable table("l" + std::string(names.size(), 'r'), titles);
  for (const FigureRow& row : rows) {
    std::vector<std::string> cells = {HtmlText(row.label)};
    for (const std::string& name : names) {
      const auto found = std::ranges::find(row.figures, name, &std::pair<std::string, double>::first);
      cells.push_back(found == row.figures.end() ? "" : FormatFigure(found->second, UnitOf(name)));
    }
    table.Add(std::move(cells));
  }
  return table.Render();
}

std::string WrongAnswers(const EvaluationLog& log) {
  if (log.checked == 0) return "";
  const std::string count = absl::StrCat(log.wrong, " of ", log.checked, " answers wrong");
  if (log.wrong == 0) return absl::StrCat("<p>", count, ".</p>\n");
  HtmlTable table("tlltl", {"question", "expected", "answered", "the whole answer", "of"});
  for (const WrongAnswer& wrong : log.first_wrong) {
    table.Add({HtmlLines(wrong.prompt), HtmlText(wrong.expected, 400), HtmlText(wrong.extracted, 400),
               HtmlLines(wrong.completion), HtmlText(wrong.of, 400)});
  }
  const bool all = log.wrong == static_cast<int64_t>(log.first_wrong.size());
  return HtmlDetails(
      absl::StrCat("Wrong answers: ", count, all ? "" : absl::StrCat(", the first ", log.first_wrong.size())),
      table.Render());
}

}  // namespace

std::string HtmlEvaluation(const EvaluationLog& log, int level) {
  std::string out =
      absl::StrCat("<h", level, ">Evaluation <small>", HtmlText(log.name), "</small></h", level, ">\n");
  if (!log.checkpoint.empty()) {
    absl::StrAppend(&out, "<p class=\"dim\">answered by ", HtmlText(log.checkpoint), "</p>\n");
  }
  if (!log.gates.empty()) absl::StrAppend(&out, GateTable(log.gates));
  if (!log.rows.empty()) absl::StrAppend(&out, FigureTable(log.rows));
  return absl::StrCat(out, WrongAnswers(log));
}

std::string HtmlGateCount(const std::vector<EvaluationLog>& logs) {
  int64_t passed = 0, all = 0;
  for (const EvaluationLog& log : logs) {
    all += static_cast<int64_t>(log.gates.size());
    passed += std::ranges::count_if(log.gates, &GateVerdict::passed);
  }
  if (all == 0) return "";
  return absl::StrCat("<span class=\"", passed == all ? "good\">✓ " : "bad\">✗ ", passed, "/", all,
                      "</span>");
}

}  // namespace tanren
