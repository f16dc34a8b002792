// What `tanren eval` left behind (docs/evaluation.md): figures, gates, and the answers that were wrong.
#ifndef TANREN_CORE_REPORT_EVALUATION_LOG_H_
#define TANREN_CORE_REPORT_EVALUATION_LOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tanren {

struct GateVerdict {
  std::string test, strategy, figure;
  std::string of;  // the difficulty and kind of the cases that count; "" for all
  std::optional<double> value, minimum, maximum;
  bool passed = false;
};

struct FigureRow {
  std::string label;  // "greedy", "greedy, harder"
  std::vector<std::pair<std::string, double>> figures;
};

struct WrongAnswer {
  std::string of;  // test, strategy, difficulty and kind, as far as they are known
  std::string prompt, completion, extracted, expected;
};

struct EvaluationLog {
  static constexpr size_t kMaxWrong = 50;

  std::string name;        // of the files, for people
  std::string checkpoint;  // that answered; "" where unknown
  std::vector<FigureRow> rows;
  std::vector<GateVerdict> gates;
  int64_t checked = 0, wrong = 0;        // lines of the per-case log that have a verdict
  std::vector<WrongAnswer> first_wrong;  // kMaxWrong of them
  int64_t damaged_lines = 0;

  bool empty() const { return rows.empty() && gates.empty() && checked == 0 && damaged_lines == 0; }
};

// Adds the figures and gates of `tanren eval --summary`, or of a suite's summary.json. False, and nothing is
// added, where the file is neither, cannot be read or is larger than 16 MiB.
bool AddEvaluationSummary(const std::string& path, EvaluationLog* log);

// Adds the verdicts of `tanren eval --out`, or of a suite's samples.jsonl. Lines without a verdict are passed
// over. False where the file cannot be opened.
bool AddAnswers(const std::string& path, EvaluationLog* log);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_EVALUATION_LOG_H_
