// Losses of reinforcement learning: the clipped policy loss, GSPO's, and the critic's.
//
// Token columns: "weight", "old_logp" (of the policy that sampled, on the same packing), "advantage", and
// "reference_logp" where the KL stands in the loss. r = exp(logp - old_logp). Token losses are means by
// weight over the whole step: weights of 1 give DAPO's token mean, weights of 1 / tokens of the answer the
// mean over answers.
#ifndef TANREN_STAGES_LOSSES_POLICY_LOSSES_H_
#define TANREN_STAGES_LOSSES_POLICY_LOSSES_H_

#include <string>
#include <vector>

#include "stages/losses/primitives.h"
#include "stages/rl/advantages.h"

namespace tanren {

// max(-A r, -A clip(r, 1 - low, 1 + high)), for A < 0 at most -A dual_clip (0: no bound): Schulman et al.
// 2017, Yu et al. 2025, Ye et al. 2020. `slope` is the derivative by log r.
template <class T>
struct ClippedPolicy {
  T loss = 0;
  T slope = 0;
  bool clipped = false;
};
template <class T>
TANREN_HOST_DEVICE ClippedPolicy<T> ClipPolicy(T advantage, T ratio, T low, T high, T dual_clip) {
  ClippedPolicy<T> out;
  const T free = -advantage * ratio;
  const T bounded = -advantage * Clip(ratio, T(1) - low, T(1) + high);
  out.clipped = bounded > free;
  out.loss = out.clipped ? bounded : free;
  out.slope = out.clipped ? T(0) : free;
  if (dual_clip > T(0) && advantage < T(0) && out.loss > -advantage * dual_clip) {
    out.loss = -advantage * dual_clip;
    out.slope = 0;
    out.clipped = true;
  }
  return out;
}

template <bool kReference, bool kEntropyBonus>
struct PolicyFunctor {
  static constexpr uint32_t kStatistics = uint32_t{kLogp} | (kEntropyBonus ? uint32_t{kEntropy} : 0u);
  static std::vector<std::string> Columns() {
    std::vector<std::string> columns = {"weight", "old_logp", "advantage"};
    if (kReference) columns.push_back("reference_logp");
    return columns;
  }
  // approx_kl: k3 of old to new, (r - 1) - log r, exactly 0 on-policy. kl: the estimate in the loss.
  static std::vector<std::string> Metrics() {
    std::vector<std::string> metrics = {"policy_loss", "ratio", "clip_fraction", "approx_kl"};
    if (kReference) metrics.push_back("kl");
    if (kEntropyBonus) metrics.push_back("entropy");
    return metrics;
  }

  double clip_low = 0.2, clip_high = 0.2, dual_clip = 0;
  double kl_coefficient = 0;
  KlEstimator kl_estimator = KlEstimator::kK3;
  double entropy_coefficient = 0;

  template <class T>
  TANREN_HOST_DEVICE T operator()(const TokenStats<T>& stats, const T* columns,
                                  const Normalizers& normalizers, TokenStats<T>* seed, T* metrics) const {
    const T scale = columns[0] / static_cast<T>(normalizers.trained_weight);
    const T log_ratio = stats.logp - columns[1];
    const T ratio = std::exp(log_ratio);
    const ClippedPolicy<T> policy = ClipPolicy(columns[2], ratio, static_cast<T>(clip_low),
                                               static_cast<T>(clip_high), static_cast<T>(dual_clip));
    T loss = policy.loss;
    seed->logp = scale * policy.slope;
    metrics[0] = scale * policy.loss;
    metrics[1] = scale * ratio;
    metrics[2] = policy.clipped ? scale : T(0);
    metrics[3] = scale * (std::expm1(log_ratio) - log_ratio);
    if constexpr (kReference) {
      const T c = static_cast<T>(kl_coefficient);
      const T d = stats.logp - columns[3];
      T kl = d, slope = 1;
      if (kl_estimator == KlEstimator::kK2) kl = d * d / T(2), slope = d;
      if (kl_estimator == KlEstimator::kK3) kl = std::expm1(-d) + d, slope = -std::expm1(-d);
      loss += c * kl;
      seed->logp += scale * c * slope;
      metrics[4] = scale * kl;
    }
    if constexpr (kEntropyBonus) {
      const T c = static_cast<T>(entropy_coefficient);
      loss -= c * stats.entropy;
      seed->entropy = -scale * c;
      metrics[kReference ? 5 : 4] = scale * stats.entropy;
    }
    return scale * loss;
  }
};

// GSPO (Zheng et al. 2025): the ratio of an answer is exp of its tokens' mean log-ratio; mean over answers.
// Units of one segment, token column "old_logp", segment column "advantage".
struct GspoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {"old_logp"}; }
  static std::vector<std::string> SegmentColumns() { return {"advantage"}; }
  static std::vector<std::string> Metrics() { return {"policy_loss", "ratio", "clip_fraction", "approx_kl"}; }

  double clip_low = 3e-4, clip_high = 4e-4;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T tokens = AtLeastOne(stats[0].trained_tokens);
    const T log_ratio = (stats[0].logp_sum - stats[0].column_sums[0]) / tokens;
    const T ratio = std::exp(log_ratio);
    const ClippedPolicy<T> policy = ClipPolicy(stats[0].segment_columns[0], ratio, static_cast<T>(clip_low),
                                               static_cast<T>(clip_high), T(0));
    seeds[0].logp_sum = scale * policy.slope / tokens;
    metrics[0] = scale * policy.loss;
    metrics[1] = scale * ratio;
    metrics[2] = policy.clipped ? scale : T(0);
    metrics[3] = scale * (std::expm1(log_ratio) - log_ratio);
    return scale * policy.loss;
  }
};

// The critic: 1/2 max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2), mean by weight; clip 0: no
// clipping. Columns "weight", "return", "old_value".
struct ValueFunctor {
  static constexpr uint32_t kStatistics = kValue;
  static std::vector<std::string> Columns() { return {"weight", "return", "old_value"}; }
  // value_error: mean square of V - R.
  static std::vector<std::string> Metrics() { return {"value_error", "value_clip_fraction"}; }

  double clip = 0.2;

  template <class T>
  TANREN_HOST_DEVICE T operator()(const TokenStats<T>& stats, const T* columns,
                                  const Normalizers& normalizers, TokenStats<T>* seed, T* metrics) const {
    const T scale = columns[0] / static_cast<T>(normalizers.trained_weight);
    const T c = static_cast<T>(clip);
    const T free = stats.value - columns[1];
    const T moved = stats.value - columns[2];
    const T bounded = columns[2] + Clip(moved, -c, c) - columns[1];
    // Inside the range both errors are one but for rounding, which must not decide over the gradient.
    const bool outside = c > T(0) && (moved > c || moved < -c);
    const bool clipped = outside && bounded * bounded > free * free;
    seed->value = clipped ? T(0) : scale * free;
    metrics[0] = scale * free * free;
    metrics[1] = clipped ? scale : T(0);
    const T error = clipped ? bounded : free;
    return scale * error * error / T(2);
  }
};

}  // namespace tanren

#endif  // TANREN_STAGES_LOSSES_POLICY_LOSSES_H_
