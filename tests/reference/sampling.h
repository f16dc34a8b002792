// The distribution that SampleTokens draws from, by sorting the whole vocabulary in double.
#ifndef TANREN_TESTS_REFERENCE_SAMPLING_H_
#define TANREN_TESTS_REFERENCE_SAMPLING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace tanren::reference {

struct SortedDistribution {
  std::vector<int32_t> order;       // kept tokens, the most likely first
  std::vector<double> probability;  // of each kept token, in the same order; sums to 1
  std::vector<double> logp;         // of every token of the vocabulary, before top-k and top-p
};

inline SortedDistribution SortDistribution(const std::vector<float>& logits, double temperature,
                                           int64_t top_k, double top_p) {
  const int64_t vocab = static_cast<int64_t>(logits.size());
  SortedDistribution result;
  result.order.resize(vocab);
  std::iota(result.order.begin(), result.order.end(), 0);
  std::stable_sort(result.order.begin(), result.order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const double max = logits[result.order[0]];
  std::vector<double> weight(vocab);
  for (int64_t i = 0; i < vocab; ++i) {
    // Infinite logits share all the mass.
    weight[i] = std::isinf(max) ? (logits[i] == max ? 1.0 : 0.0) : std::exp((logits[i] - max) / temperature);
  }
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  for (int64_t i = 0; i < vocab; ++i) result.logp.push_back(std::log(weight[i] / total));
  if (top_k > 0 && top_k < vocab) result.order.resize(top_k);
  double kept = 0;
  for (int32_t id : result.order) kept += weight[id];
  if (top_p < 1) {
    double sum = 0;
    size_t count = 0;
    while (count < result.order.size() && (count == 0 || sum < top_p * kept))
      sum += weight[result.order[count++]];
    result.order.resize(count);
    kept = sum;
  }
  for (int32_t id : result.order) result.probability.push_back(weight[id] / kept);
  return result;
}

// A logit as the repetition penalty leaves it (Keskar et al. 2019); an infinite penalty forbids the token.
inline double PenalizedLogit(double logit, double penalty) {
  if (std::isinf(penalty)) return -std::numeric_limits<double>::infinity();
  return logit > 0 ? logit / penalty : logit * penalty;
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_SAMPLING_H_
