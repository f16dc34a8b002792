// The family of direct preference losses. A unit is a pair, chosen first; for KTO one answer.
//
// With pi and ref the summed log-probabilities of an answer's trained tokens under the policy and the
// reference, d = pi - ref and Delta = d_chosen - d_rejected. The reference comes as the token column
// "reference_logp". Every loss is a mean over units.
#ifndef TANREN_STAGES_LOSSES_PREFERENCE_LOSSES_H_
#define TANREN_STAGES_LOSSES_PREFERENCE_LOSSES_H_

#include <string>
#include <vector>

#include "stages/losses/primitives.h"

namespace tanren {

// reward_*: beta d, the implicit reward; accuracy: share of pairs with Delta > 0; margin: beta Delta; logp_*:
// mean log-probability of a token.
inline std::vector<std::string> PairMetrics() {
  return {"accuracy", "margin", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected"};
}

template <class T>
struct PairScores {
  T chosen = 0, rejected = 0;  // d of each answer, or whatever a loss compares
  TANREN_HOST_DEVICE T delta() const { return chosen - rejected; }
};

template <class T>
TANREN_HOST_DEVICE T TokensOf(const SegmentStats<T>& segment) {
  return AtLeastOne(segment.trained_tokens);
}

template <class T>
TANREN_HOST_DEVICE void AddPairMetrics(const SegmentStats<T>* stats, const PairScores<T>& scores, T beta,
                                       T scale, T* metrics) {
  metrics[0] += scores.delta() > T(0) ? scale : scores.delta() == T(0) ? scale / T(2) : T(0);
  metrics[1] += scale * beta * scores.delta();
  metrics[2] += scale * beta * scores.chosen;
  metrics[3] += scale * beta * scores.rejected;
  metrics[4] += scale * stats[0].logp_sum / TokensOf(stats[0]);
  metrics[5] += scale * stats[1].logp_sum / TokensOf(stats[1]);
}

template <class T>
TANREN_HOST_DEVICE PairScores<T> LogRatios(const SegmentStats<T>* stats) {
  return {stats[0].logp_sum - stats[0].column_sums[0], stats[1].logp_sum - stats[1].column_sums[0]};
}

// DPO (Rafailov et al. 2023); with label smoothing s conservative DPO (Mitchell 2023):
//   -(1-s) log sigmoid(beta Delta) - s log sigmoid(-beta Delta)
// kReferenceFree: the reference counts as uniform, so d = pi.
template <bool kReferenceFree>
struct DpoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() {
    return kReferenceFree ? std::vector<std::string>{} : std::vector<std::string>{"reference_logp"};
  }
  static std::vector<std::string> SegmentColumns() { return {}; }
  static std::vector<std::string> Metrics() { return PairMetrics(); }

  double beta = 0.1;
  double label_smoothing = 0;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T b = static_cast<T>(beta), s = static_cast<T>(label_smoothing);
    PairScores<T> scores = {stats[0].logp_sum, stats[1].logp_sum};
    if constexpr (!kReferenceFree) scores = LogRatios(stats);
    const T x = b * scores.delta();
    const T slope = scale * b * (-(T(1) - s) * Sigmoid(-x) + s * Sigmoid(x));
    seeds[0].logp_sum = slope;
    seeds[1].logp_sum = -slope;
    AddPairMetrics(stats, scores, b, scale, metrics);
    return scale * (-(T(1) - s) * LogSigmoid(x) - s * LogSigmoid(-x));
  }
};

// Robust DPO (Chowdhury et al. 2024), unbiased under labels that are wrong with probability s < 1/2:
//   [-(1-s) log sigmoid(beta Delta) + s log sigmoid(-beta Delta)] / (1 - 2 s)
struct RobustDpoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {"reference_logp"}; }
  static std::vector<std::string> SegmentColumns() { return {}; }
  static std::vector<std::string> Metrics() { return PairMetrics(); }

  double beta = 0.1;
  double label_smoothing = 0.1;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const T b = static_cast<T>(beta), s = static_cast<T>(label_smoothing);
    const T units = T(1) / static_cast<T>(normalizers.units);
    const T scale = units / (T(1) - T(2) * s);
    const PairScores<T> scores = LogRatios(stats);
    const T x = b * scores.delta();
    const T slope = scale * b * (-(T(1) - s) * Sigmoid(-x) - s * Sigmoid(x));
    seeds[0].logp_sum = slope;
    seeds[1].logp_sum = -slope;
    AddPairMetrics(stats, scores, b, units, metrics);
    return scale * (-(T(1) - s) * LogSigmoid(x) + s * LogSigmoid(-x));
  }
};

// IPO (Azar et al. 2024): (Delta - 1/(2 beta))^2, with d summed over an answer's tokens or averaged (`mean`).
struct IpoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {"reference_logp"}; }
  static std::vector<std::string> SegmentColumns() { return {}; }
  static std::vector<std::string> Metrics() { return PairMetrics(); }

  double beta = 0.1;
  bool mean = true;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T b = static_cast<T>(beta);
    const T chosen = mean ? T(1) / TokensOf(stats[0]) : T(1);
    const T rejected = mean ? T(1) / TokensOf(stats[1]) : T(1);
    PairScores<T> scores = LogRatios(stats);
    scores.chosen *= chosen;
    scores.rejected *= rejected;
    const T error = scores.delta() - T(1) / (T(2) * b);
    seeds[0].logp_sum = scale * T(2) * error * chosen;
    seeds[1].logp_sum = -scale * T(2) * error * rejected;
    AddPairMetrics(stats, scores, b, scale, metrics);
    return scale * error * error;
  }
};

// SimPO (Meng et al. 2024): -log sigmoid(beta (mean logp_chosen - mean logp_rejected) - gamma).
struct SimpoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {}; }
  static std::vector<std::string> SegmentColumns() { return {}; }
  static std::vector<std::string> Metrics() { return PairMetrics(); }

  double beta = 2;
  double gamma = 0.5;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T b = static_cast<T>(beta);
    const PairScores<T> scores = {stats[0].logp_sum / TokensOf(stats[0]),
                                  stats[1].logp_sum / TokensOf(stats[1])};
    const T x = b * scores.delta() - static_cast<T>(gamma);
    const T slope = -scale * b * Sigmoid(-x);
    seeds[0].logp_sum = slope / TokensOf(stats[0]);
    seeds[1].logp_sum = -slope / TokensOf(stats[1]);
    AddPairMetrics(stats, scores, b, scale, metrics);
    return -scale * LogSigmoid(x);
  }
};

// ORPO (Hong et al. 2024): mean NLL of the chosen answer's tokens - lambda log sigmoid(log odds ratio), where
// an answer's probability is exp(mean logp) and log odds = m - log(1 - e^m).
struct OrpoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {}; }
  static std::vector<std::string> SegmentColumns() { return {}; }
  static std::vector<std::string> Metrics() { return PairMetrics(); }

  double lambda = 0.1;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T l = static_cast<T>(lambda);
    const T chosen = BelowZero(stats[0].logp_sum / TokensOf(stats[0]));
    const T rejected = BelowZero(stats[1].logp_sum / TokensOf(stats[1]));
    const PairScores<T> odds = {chosen - Log1mExp(chosen), rejected - Log1mExp(rejected)};
    const T slope = -scale * l * Sigmoid(-odds.delta());
    // d odds / d m = 1 / (1 - e^m)
    seeds[0].logp_sum = (-scale + slope / -std::expm1(chosen)) / TokensOf(stats[0]);
    seeds[1].logp_sum = -slope / -std::expm1(rejected) / TokensOf(stats[1]);
    AddPairMetrics(stats, odds, l, scale, metrics);
    return scale * (-chosen - l * LogSigmoid(odds.delta()));
  }

 private:
  // An answer of probability 1 has infinite odds; in floats it occurs.
  template <class T>
  TANREN_HOST_DEVICE static T BelowZero(T mean) {
    return mean < T(-1e-6) ? mean : T(-1e-6);
  }
};

// KTO (Ethayarajh et al. 2024). Segment columns: "label", 1 good and 0 bad; "z0", the KL estimate over
// mismatched completions of the whole step, computed before and without a gradient.
//   weight (1 - sigmoid(beta (d - z0))) for good answers, weight (1 - sigmoid(beta (z0 - d))) for bad ones
struct KtoFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {"reference_logp"}; }
  static std::vector<std::string> SegmentColumns() { return {"label", "z0"}; }
  // Sums of beta d over good and bad answers, in shares of all units, and the share of good ones.
  static std::vector<std::string> Metrics() { return {"reward_good", "reward_bad", "good"}; }

  double beta = 0.1;
  double desirable = 1;
  double undesirable = 1;

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers,
                                  SegmentSeed<T>* seeds, T* metrics) const {
    const bool good = stats[0].segment_columns[0] > T(0.5);
    const T sign = good ? T(1) : T(-1);
    const T scale = static_cast<T>(good ? desirable : undesirable) / static_cast<T>(normalizers.units);
    const T b = static_cast<T>(beta);
    const T d = stats[0].logp_sum - stats[0].column_sums[0];
    const T x = sign * b * (d - stats[0].segment_columns[1]);
    seeds[0].logp_sum = -scale * Sigmoid(x) * Sigmoid(-x) * sign * b;
    metrics[good ? 0 : 1] += b * d / static_cast<T>(normalizers.units);
    if (good) metrics[2] += T(1) / static_cast<T>(normalizers.units);
    return scale * Sigmoid(-x);
  }
};

}  // namespace tanren

#endif  // TANREN_STAGES_LOSSES_PREFERENCE_LOSSES_H_
