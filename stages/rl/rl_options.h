// The options of stage rl with every default filled in.
#ifndef TANREN_STAGES_RL_RL_OPTIONS_H_
#define TANREN_STAGES_RL_RL_OPTIONS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "core/loss/loss.h"
#include "kernels/sampling.h"
#include "stages/rl/advantages.h"

namespace tanren {

namespace config {
class Config;
}

enum class RlAlgorithm { kPpo, kGrpo, kRloo, kDapo, kGspo };

struct RlOptions {
  RlAlgorithm algorithm = RlAlgorithm::kPpo;
  int64_t prompts = 0;
  int64_t samples = 0;  // answers to a prompt
  int64_t max_tokens = 0;
  kernels::SamplingParams sampling;
  RepetitionOptions repetition;
  int64_t epochs = 0;
  int64_t minibatches = 0;
  double clip_low = 0, clip_high = 0, dual_clip = 0, value_clip = 0;
  double gamma = 0, lambda = 0;
  bool whiten = false;
  double entropy = 0;
  bool kl_in_reward = false;
  KlEstimator kl_estimator = KlEstimator::kK1;
  double kl_coefficient = 0;  // 0: no reference model
  double kl_target = 0, kl_horizon = 0;
  double stop_kl = 0;
  double critic_rate_ratio = 1;  // critic's learning rate by the policy's
  int64_t critic_warmup_steps = 0;
  bool sequence_mean = false;
  bool scale_advantages = true;
  bool drop_equal_groups = false;
  int64_t sampling_rounds = 1;  // at most, of one rollout

  bool has_critic() const { return algorithm == RlAlgorithm::kPpo; }

  // InvalidArgument names the keys that do not go together.
  static absl::StatusOr<RlOptions> FromConfig(const config::Config& config);
};

// The policy's loss. Columns: weight, old_logp, advantage and, with the KL in the loss, reference_logp; GSPO
// takes old_logp and the segment column advantage.
std::unique_ptr<Loss> MakePolicyLoss(const RlOptions& options);

}  // namespace tanren

#endif  // TANREN_STAGES_RL_RL_OPTIONS_H_
