// Runs the strategies of a test over its cases, turn by turn and part by part.
#ifndef TANREN_CORE_EVALUATION_RUNNER_H_
#define TANREN_CORE_EVALUATION_RUNNER_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/comm/comm.h"
#include "core/evaluation/answer_model.h"
#include "core/evaluation/figures.h"
#include "core/evaluation/prompts.h"
#include "core/evaluation/sampling.h"
#include "core/evaluation/trace.h"

namespace tanren {

// Everything outlives the runner.
struct RunnerOptions {
  Comm* world = nullptr;  // checks are dealt to its ranks
  const config::SuiteConfig* suite = nullptr;
  const PromptModel* prompts = nullptr;
  AnswerModel* model = nullptr;
  AnswerModel* versus = nullptr;  // null without
  const Trace* trace = nullptr;   // written by rank 0
};

class Runner {
 public:
  explicit Runner(const RunnerOptions& options);

  // One strategy over all cases. Collective; the same on every rank. Strategies that draw the same answers
  // from the same prompts share them, and each counts their cost. InvalidArgument names the case; a prompt of
  // a later turn that does not fit is one, unless suite.oversize counts it.
  absl::StatusOr<StrategyRecord> Run(const config::TestConfig& test, const std::vector<EvaluationCase>& cases,
                                     const Strategy& strategy);

  // Outputs of one part for traced inputs. For parts that need no model, the options may hold no model and no
  // prompts. Collective.
  absl::StatusOr<std::vector<OrderedJson>> Replay(const config::TestConfig& test, const Strategy& strategy,
                                                  const std::string& part,
                                                  const std::vector<TraceLine>& lines);

 private:
  struct Drawn {
    std::vector<Replies> replies;
    double seconds = 0;
  };
  struct Chain;

  absl::StatusOr<StrategyRecord> RunChain(Chain& chain, const std::vector<EvaluationCase>& cases);
  absl::Status RunTurn(Chain& chain, const std::vector<EvaluationCase>& cases, size_t turn,
                       StrategyRecord* record);
  // The turns of this round that have a prompt with room, in the order of their cases.
  absl::StatusOr<std::vector<TurnRecord*>> MakePrompts(Chain& chain, const std::vector<EvaluationCase>& cases,
                                                       size_t turn, StrategyRecord* record);
  absl::StatusOr<Drawn> Draw(Chain& chain, std::span<const Prompt> prompts);
  absl::StatusOr<std::vector<Verdicts>> CheckAll(const AnswerChecker& checker,
                                                 const std::vector<Checkable>& inputs);
  void CompareWith(const StrategyRecord& other, StrategyRecord* record) const;
  absl::StatusOr<std::vector<OrderedJson>> ReplayCheck(const config::TestConfig& test,
                                                       const Strategy& strategy,
                                                       const std::vector<TraceLine>& lines);
  absl::Status WriteTrace(Chain& chain);

  RunnerOptions options_;
  std::vector<std::vector<int32_t>> line_ends_;
  std::map<std::string, Drawn> drawn_;  // by all that decides it
  std::string drawn_test_;              // the test that they belong to
};

// Tokens of the longest prompt with its answer over all cases and strategies of a suite; all of
// `context_tokens` where a conversation grows by replies. `tests` have their cases. InvalidArgument for a
// case that cannot be rendered and, unless suite.oversize counts it, one whose prompt leaves no room in the
// context.
absl::StatusOr<int64_t> PlanSequenceTokens(const config::SuiteConfig& suite,
                                           const std::vector<std::vector<EvaluationCase>>& tests,
                                           const PromptModel& prompts, int64_t context_tokens);

// Prompts of a case before anything is generated: those of its turns, with empty replies between them.
// InvalidArgument as Prompter::Render.
absl::StatusOr<std::vector<Prompt>> RenderCase(const Prompter& prompter, const EvaluationCase& one);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_RUNNER_H_
