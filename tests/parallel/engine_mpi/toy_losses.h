// Losses that exist to prove the contract: a pairwise sequence loss, a scalar-head sequence loss, and a token
// loss that reads a column.
#ifndef TANREN_TESTS_PARALLEL_ENGINE_MPI_TOY_LOSSES_H_
#define TANREN_TESTS_PARALLEL_ENGINE_MPI_TOY_LOSSES_H_

#include <cmath>
#include <string>
#include <vector>

#include "core/loss/functor.h"

namespace tanren {

template <class T>
T Softplus(T x) {
  return x > T(0) ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

// -log sigmoid(beta (a - b)) over the two segments of a unit, a and b their sums of logp.
struct PairFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {}; }
  static std::vector<std::string> SegmentColumns() { return {}; }
  static std::vector<std::string> Metrics() { return {"accuracy"}; }
  double beta = 0.1;

  template <class T>
  T operator()(int64_t, const SegmentStats<T>* stats, const Normalizers& normalizers, SegmentSeed<T>* seeds,
               T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T margin = static_cast<T>(beta) * (stats[0].logp_sum - stats[1].logp_sum);
    const T slope = -scale * static_cast<T>(beta) / (T(1) + std::exp(margin));
    seeds[0].logp_sum = slope;
    seeds[1].logp_sum = -slope;
    metrics[0] = margin > T(0) ? scale : T(0);
    return scale * Softplus(-margin);
  }
};

// -log sigmoid(first - second) over scores, pulled by a target column: + (score - target)^2 / 2 a segment.
struct ScoreFunctor {
  static constexpr uint32_t kStatistics = kValue;
  static std::vector<std::string> Columns() { return {}; }
  static std::vector<std::string> SegmentColumns() { return {"target"}; }
  static std::vector<std::string> Metrics() { return {}; }

  template <class T>
  T operator()(int64_t segments, const SegmentStats<T>* stats, const Normalizers& normalizers,
               SegmentSeed<T>* seeds, T*) const {
    const T scale = T(1) / static_cast<T>(normalizers.units);
    const T margin = stats[0].value - stats[1].value;
    const T slope = -scale / (T(1) + std::exp(margin));
    seeds[0].value = slope;
    seeds[1].value = -slope;
    T loss = scale * Softplus(-margin);
    for (int64_t s = 0; s < segments; ++s) {
      const T error = stats[s].value - stats[s].segment_columns[0];
      seeds[s].value += scale * error;
      loss += scale * error * error / T(2);
    }
    return loss;
  }
};

// Token losses on the scalar head and the entropy together: (value - return)^2 / 2 - c H - w logp.
struct ActorCriticFunctor {
  static constexpr uint32_t kStatistics = kLogp | kLse | kEntropy | kValue;
  static std::vector<std::string> Columns() { return {"return", "w"}; }
  static std::vector<std::string> Metrics() { return {"entropy"}; }

  template <class T>
  T operator()(const TokenStats<T>& stats, const T* columns, const Normalizers& normalizers,
               TokenStats<T>* seed, T* metrics) const {
    const T scale = T(1) / static_cast<T>(normalizers.trained_tokens);
    const T error = stats.value - columns[0];
    seed->value = scale * error;
    seed->entropy = -scale * T(0.1);
    seed->logp = -scale * columns[1];
    seed->lse = scale * T(0.02) * stats.lse;
    metrics[0] = scale * stats.entropy;
    return scale * (error * error / T(2) - T(0.1) * stats.entropy - columns[1] * stats.logp +
                    T(0.01) * stats.lse * stats.lse);
  }
};

// The mean policy ratio against the column of old log-probabilities: exactly 1 on-policy.
struct RatioFunctor {
  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {"old_logp"}; }
  static std::vector<std::string> Metrics() { return {"not_one"}; }

  template <class T>
  T operator()(const TokenStats<T>& stats, const T* columns, const Normalizers&, TokenStats<T>* seed,
               T* metrics) const {
    const T ratio = std::exp(stats.logp - columns[0]);
    seed->logp = ratio;
    metrics[0] = ratio == T(1) ? T(0) : T(1);
    return ratio;
  }
};

}  // namespace tanren

#endif  // TANREN_TESTS_PARALLEL_ENGINE_MPI_TOY_LOSSES_H_
