// What the models say of a rollout's answers.
#ifndef TANREN_STAGES_RL_ROLLOUT_SCORES_H_
#define TANREN_STAGES_RL_ROLLOUT_SCORES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "stages/rl/rollout.h"

namespace tanren {

// Of one answer; vectors run over its trained tokens and are empty for models that are absent.
struct AnswerScores {
  std::vector<float> old_logp;  // the policy's, on the packing that will be trained
  std::vector<float> reference_logp;
  std::vector<float> values;  // the critic's, before each token
  float last_value = 0;       // the critic's after the last token
  float reward = 0;           // the reward model's, not normalised
};

// Scores with the reward model of that name only, or with all others: the policy, and those of reference and
// critic that the engine has. Each data rank scores its own micro-batches and the results are gathered: the
// same on every rank. Collective.
enum class ScoreWith { kReward, kOthers };
absl::StatusOr<std::vector<AnswerScores>> ScoreRollout(Engine& engine, const Rollout& rollout, ScoreWith with,
                                                       float temperature,
                                                       const std::string& reward_model = "reward");

}  // namespace tanren

#endif  // TANREN_STAGES_RL_ROLLOUT_SCORES_H_
