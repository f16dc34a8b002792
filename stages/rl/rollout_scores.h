// What the models say of a rollout's answers.
#ifndef TANREN_STAGES_RL_ROLLOUT_SCORES_H_
#define TANREN_STAGES_RL_ROLLOUT_SCORES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "stages/reward_model/reward_scale.h"
#include "stages/rl/rollout.h"

namespace tanren {

// Of one answer; vectors run over its trained tokens and are empty for models that are absent.
struct AnswerScores {
  std::vector<float> old_logp;  // the policy's, on the packing that will be trained
  std::vector<float> reference_logp;
  std::vector<float> values;  // the critic's, before each token
  float last_value = 0;       // the critic's after the last token
};

// Scores with the policy, and with those of reference and critic that the engine has. Each data rank scores
// its own micro-batches and the results are gathered: the same on every rank. Collective.
absl::StatusOr<std::vector<AnswerScores>> ScoreRollout(Engine& engine, const Rollout& rollout,
                                                       float temperature);

// The log-probability that the engine's model `name` gives each answer at temperature 1, summed over its
// trained tokens. Gathered as above. Collective.
absl::StatusOr<std::vector<double>> AnswerLogp(Engine& engine, const Rollout& rollout,
                                               const std::string& name);

// What the engine's model `name` gives each answer, not normalised: its scalar head at the end, and the
// answer's log-probability where `likelihood` says so. Gathered as above. Collective.
absl::StatusOr<std::vector<float>> ScoreRewards(Engine& engine, const Rollout& rollout,
                                                const std::string& name, const LikelihoodTerm& likelihood);

}  // namespace tanren

#endif  // TANREN_STAGES_RL_ROLLOUT_SCORES_H_
