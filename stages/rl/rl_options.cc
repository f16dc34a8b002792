#include "stages/rl/rl_options.h"

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "stages/losses/policy_losses.h"

namespace tanren {
namespace {

using config::RlConfig;

RlAlgorithm AlgorithmOf(RlConfig::Algorithm algorithm) {
  switch (algorithm) {
    case RlConfig::ppo:
      return RlAlgorithm::kPpo;
    case RlConfig::grpo:
      return RlAlgorithm::kGrpo;
    case RlConfig::rloo:
      return RlAlgorithm::kRloo;
    case RlConfig::dapo:
      return RlAlgorithm::kDapo;
    case RlConfig::gspo:
      return RlAlgorithm::kGspo;
  }
  return RlAlgorithm::kPpo;
}

KlEstimator EstimatorOf(RlConfig::KlEstimator estimator, bool in_reward) {
  switch (estimator) {
    case RlConfig::k1:
      return KlEstimator::kK1;
    case RlConfig::k2:
      return KlEstimator::kK2;
    case RlConfig::k3:
      return KlEstimator::kK3;
    default:
      return in_reward ? KlEstimator::kK1 : KlEstimator::kK3;
  }
}

absl::Status CheckTogether(const RlOptions& options, const RlConfig& rl) {
  if (!options.kl_in_reward && options.kl_coefficient > 0 && options.kl_estimator == KlEstimator::kK1) {
    return InvalidInput(
        "rl.kl_estimator: k1 in the loss has an expected gradient of zero; use k3, or rl.kl_in: reward");
  }
  if (options.kl_target > 0 && !(options.kl_in_reward && options.kl_coefficient > 0)) {
    return InvalidInput(
        "rl.kl_target: %g, but only a KL in the reward adapts; set rl.kl_in: reward and rl.kl_coefficient "
        "above 0, or rl.kl_target: 0",
        options.kl_target);
  }
  if (options.algorithm == RlAlgorithm::kGspo && !options.kl_in_reward && options.kl_coefficient > 0) {
    return InvalidInput("rl.kl_in: loss is not defined for gspo, whose loss is of whole answers; use reward");
  }
  if (options.algorithm == RlAlgorithm::kGspo && options.entropy > 0) {
    return InvalidInput("rl.entropy: %g, but gspo's loss is of whole answers; set it to 0", options.entropy);
  }
  if (!options.has_critic() && options.samples < 2) {
    return InvalidInput("rollout.samples: %d, but %s compares answers to one prompt; use at least 2",
                        options.samples, RlConfig::Algorithm_Name(rl.algorithm()));
  }
  if (options.dual_clip > 0 && options.dual_clip <= 1) {
    return InvalidInput("rl.dual_clip: %g; a bound of the ratio is above 1, or 0 for none",
                        options.dual_clip);
  }
  return absl::OkStatus();
}

template <bool kReference, bool kEntropy>
std::unique_ptr<Loss> MakeTokenLoss(const RlOptions& options) {
  PolicyFunctor<kReference, kEntropy> functor;
  functor.clip_low = options.clip_low;
  functor.clip_high = options.clip_high;
  functor.dual_clip = options.dual_clip;
  functor.kl_coefficient = kReference ? options.kl_coefficient : 0;
  functor.kl_estimator = options.kl_estimator;
  functor.entropy_coefficient = options.entropy;
  return std::make_unique<TokenLossOf<PolicyFunctor<kReference, kEntropy>>>(functor,
                                                                            options.sampling.temperature);
}

}  // namespace

absl::StatusOr<RlOptions> RlOptions::FromConfig(const config::Config& config) {
  const RlConfig& rl = config.rl();
  if (config.rewards().shuffle() && config.rewards().step_weight() > 0) {
    return InvalidInput(
        "rewards.shuffle: answers of different lengths cannot change their rewards of steps; set "
        "rewards.step_weight (%g) to 0",
        config.rewards().step_weight());
  }
  RlOptions options;
  options.algorithm = AlgorithmOf(rl.algorithm());
  const bool ppo = options.algorithm == RlAlgorithm::kPpo;
  const bool gspo = options.algorithm == RlAlgorithm::kGspo;
  const bool dapo = options.algorithm == RlAlgorithm::kDapo;
  options.prompts = config.rollout().prompts();
  options.samples = config.rollout().samples() > 0 ? config.rollout().samples() : ppo ? 1 : 8;
  options.max_tokens = config.rollout().max_tokens();
  options.sampling.temperature = static_cast<float>(config.rollout().temperature());
  options.sampling.top_k = static_cast<int32_t>(config.rollout().top_k());
  options.sampling.top_p = static_cast<float>(config.rollout().top_p());
  options.repetition.penalty = static_cast<float>(config.rollout().repetition_penalty());
  options.repetition.no_repeat_ngram = static_cast<int32_t>(config.rollout().no_repeat_ngram());
  options.sampling.seed = static_cast<uint64_t>(config.seed());
  options.epochs = rl.epochs() > 0 ? rl.epochs() : ppo ? 4 : 1;
  options.minibatches = rl.minibatches();
  options.clip_low = rl.clip_low() > 0 ? rl.clip_low() : gspo ? 3e-4 : 0.2;
  options.clip_high = rl.clip_high() > 0 ? rl.clip_high() : gspo ? 4e-4 : dapo ? 0.28 : 0.2;
  options.dual_clip = rl.dual_clip();
  options.value_clip = rl.value_clip();
  options.gamma = rl.gamma();
  options.lambda = rl.lambda();
  options.whiten = rl.whiten();
  options.entropy = rl.entropy();
  options.kl_in_reward = rl.kl_in() == RlConfig::usual_place
                             ? ppo || options.algorithm == RlAlgorithm::kRloo || gspo
                             : rl.kl_in() == RlConfig::reward;
  options.kl_estimator = EstimatorOf(rl.kl_estimator(), options.kl_in_reward);
  options.kl_coefficient = rl.kl_coefficient() >= 0 ? rl.kl_coefficient() : ppo ? 0.05 : 0;
  options.kl_target = rl.kl_target();
  options.kl_horizon = rl.kl_horizon();
  options.stop_kl = rl.stop_kl();
  if (rl.critic_learning_rate() > 0 && config.optimizer().learning_rate() > 0) {
    options.critic_rate_ratio = rl.critic_learning_rate() / config.optimizer().learning_rate();
  }
  options.critic_warmup_steps = rl.critic_warmup_steps();
  options.sequence_mean = rl.aggregate() == RlConfig::sequence_mean;
  options.scale_advantages = rl.scale_advantages();
  options.drop_equal_groups =
      rl.drop_equal_groups() == RlConfig::by_algorithm ? dapo : rl.drop_equal_groups() == RlConfig::yes;
  options.sampling_rounds = rl.sampling_rounds();
  TANREN_RETURN_IF_ERROR(CheckTogether(options, rl));
  return options;
}

std::unique_ptr<Loss> MakePolicyLoss(const RlOptions& options) {
  if (options.algorithm == RlAlgorithm::kGspo) {
    return std::make_unique<SequenceLossOf<GspoFunctor>>(GspoFunctor{options.clip_low, options.clip_high},
                                                         options.sampling.temperature);
  }
  const bool reference = !options.kl_in_reward && options.kl_coefficient > 0;
  if (reference)
    return options.entropy > 0 ? MakeTokenLoss<true, true>(options) : MakeTokenLoss<true, false>(options);
  return options.entropy > 0 ? MakeTokenLoss<false, true>(options) : MakeTokenLoss<false, false>(options);
}

}  // namespace tanren
