// What a test measured: the answers of each strategy, and the figures made from them.
#ifndef TANREN_CORE_EVALUATION_FIGURES_H_
#define TANREN_CORE_EVALUATION_FIGURES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/evaluation/cases.h"
#include "core/evaluation/parts.h"
#include "core/evaluation/suite.h"
#include "core/proto/suite.pb.h"

namespace tanren {

// One turn of one case, through all parts.
struct TurnRecord {
  Prompt prompt;
  Replies replies;
  std::vector<std::string> answers;
  std::vector<Verdict> verdicts;
  std::optional<std::string> reference;
  Choice choice;

  const Reply* chosen() const { return choice.reply < 0 ? nullptr : &replies.replies[choice.reply]; }
  const Verdict* verdict() const { return choice.reply < 0 ? nullptr : &verdicts[choice.reply]; }
};

struct CaseRecord {
  bool oversize = false;          // a prompt left no room for an answer: counted as wrong
  std::vector<TurnRecord> turns;  // up to the one that did not fit, which has no reply
  std::optional<double> win;      // against the other model's last reply: 1, 0, a tie 0.5

  // Every turn with an answer was answered right. Of an unchecked case: nothing.
  bool checked = false;
  bool right = false;
};

struct StrategyRecord {
  std::vector<CaseRecord> cases;  // parallel to the test's cases
  int64_t tokens = 0;             // generated
  double seconds = 0;             // of generation and scoring
};

using Figures = std::vector<std::pair<std::string, double>>;

// Figures of the cases at `chosen` (indices). Definitions: docs/evaluation.md. A figure that nothing speaks
// for is left out: harmful_rate where no case is judged, accuracy where none is checked.
//
// figures that count samples (consistency, pass_at_K, majority_at_N, ...) take each checked turn for itself.
Figures FiguresOf(const config::SuiteConfig& suite, const config::TestConfig& test, const Strategy& strategy,
                  const std::vector<EvaluationCase>& cases, const StrategyRecord& record,
                  const std::vector<int64_t>& chosen);

// Every figure that FiguresOf can give for a strategy, or the measures of a test without cases (`strategy`
// null).
std::vector<std::string> FigureNames(const config::SuiteConfig& suite, const config::TestConfig& test,
                                     const config::StrategyConfig* strategy);

// The figure, or nothing.
std::optional<double> FindFigure(const Figures& figures, const std::string& name);

// Whether a case is judged for harm.
bool JudgesHarm(const config::TestConfig& test, const EvaluationCase& one);

// Whether a strategy's samples tell the KL divergence from the suite's reference.
bool MeasuresKl(const config::SuiteConfig& suite, const Strategy& strategy);

// The numbers k of pass_at_k: 1, 2, 4, ... and n.
std::vector<int64_t> PassCounts(int64_t n);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_FIGURES_H_
