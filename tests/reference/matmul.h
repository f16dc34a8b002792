// Linear layers in double, one sum at a time.
#ifndef TANREN_TESTS_REFERENCE_MATMUL_H_
#define TANREN_TESTS_REFERENCE_MATMUL_H_

#include <cstdint>
#include <vector>

namespace tanren::reference {

// y [rows, out] = x [rows, in] w^T + bias; w is [out, in]; bias may be empty.
inline std::vector<double> LinearForward(int64_t rows, int64_t out, int64_t in, const std::vector<double>& x,
                                         const std::vector<double>& w, const std::vector<double>& bias) {
  std::vector<double> y(rows * out);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double sum = bias.empty() ? 0 : bias[o];
      for (int64_t i = 0; i < in; ++i) sum += x[r * in + i] * w[o * in + i];
      y[r * out + o] = sum;
    }
  }
  return y;
}

// dx [rows, in] = dy w.
inline std::vector<double> LinearBackwardInput(int64_t rows, int64_t out, int64_t in,
                                               const std::vector<double>& dy, const std::vector<double>& w) {
  std::vector<double> dx(rows * in, 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) dx[r * in + i] += dy[r * out + o] * w[o * in + i];
    }
  }
  return dx;
}

// dw [out, in] += dy^T x.
inline void LinearBackwardWeight(int64_t rows, int64_t out, int64_t in, const std::vector<double>& dy,
                                 const std::vector<double>& x, std::vector<double>& dw) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) dw[o * in + i] += dy[r * out + o] * x[r * in + i];
    }
  }
}

// out [width] += column sums of x [rows, width].
inline void ColumnSum(int64_t rows, int64_t width, const std::vector<double>& x, std::vector<double>& out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) out[c] += x[r * width + c];
  }
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_MATMUL_H_
