// Flat sums, AdamW and embedding in double.
#ifndef TANREN_TESTS_REFERENCE_ELEMENTWISE_H_
#define TANREN_TESTS_REFERENCE_ELEMENTWISE_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace tanren::reference {

inline double SumOfSquares(const std::vector<double>& x) {
  double sum = 0;
  for (double value : x) sum += value * value;
  return sum;
}

struct AdamWState {
  std::vector<double> w, m, v;
};
// One step as torch.optim.AdamW writes it.
inline void AdamW(double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
                  int64_t step, const std::vector<double>& g, AdamWState& state) {
  const double correction1 = 1 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(beta2, static_cast<double>(step));
  for (size_t i = 0; i < g.size(); ++i) {
    state.w[i] *= 1 - learning_rate * weight_decay;
    state.m[i] += (g[i] - state.m[i]) * (1 - beta1);
    state.v[i] = state.v[i] * beta2 + g[i] * g[i] * (1 - beta2);
    const double denominator = std::sqrt(state.v[i]) / std::sqrt(correction2) + epsilon;
    state.w[i] -= learning_rate / correction1 * (state.m[i] / denominator);
  }
}

// y [tokens, width] += scale * table[id - first_id] where the shard holds the id.
inline void EmbeddingForward(int64_t width, const std::vector<int32_t>& ids, int64_t first_id, int64_t rows,
                             const std::vector<double>& table, double scale, std::vector<double>& y) {
  for (size_t t = 0; t < ids.size(); ++t) {
    const int64_t row = ids[t] - first_id;
    if (row < 0 || row >= rows) continue;
    for (int64_t c = 0; c < width; ++c) y[t * width + c] += scale * table[row * width + c];
  }
}

inline void EmbeddingBackward(int64_t width, const std::vector<int32_t>& ids, int64_t first_id, int64_t rows,
                              const std::vector<double>& dy, double scale, std::vector<double>& dtable) {
  for (size_t t = 0; t < ids.size(); ++t) {
    const int64_t row = ids[t] - first_id;
    if (row < 0 || row >= rows) continue;
    for (int64_t c = 0; c < width; ++c) dtable[row * width + c] += scale * dy[t * width + c];
  }
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_ELEMENTWISE_H_
