// Scalar references of layer and root-mean-square normalisation, for proving the kernels.
#ifndef TANREN_TESTS_REFERENCE_NORM_H_
#define TANREN_TESTS_REFERENCE_NORM_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace tanren::reference {

template <class Real>
struct NormOutput {
  std::vector<Real> y, mean, rstd;
};

// y = (x - mean) rstd * weight + bias; the mean is taken as zero for the root-mean-square form.
template <class Real>
NormOutput<Real> Norm(bool centered, int64_t rows, int64_t width, Real epsilon, const std::vector<Real>& x,
                      const std::vector<Real>& weight, const std::vector<Real>& bias) {
  NormOutput<Real> out{std::vector<Real>(rows * width), std::vector<Real>(rows), std::vector<Real>(rows)};
  for (int64_t r = 0; r < rows; ++r) {
    const Real* row = x.data() + r * width;
    Real mean = 0, squares = 0;
    for (int64_t i = 0; centered && i < width; ++i) mean += row[i] / width;
    for (int64_t i = 0; i < width; ++i) squares += (row[i] - mean) * (row[i] - mean);
    const Real rstd = 1 / std::sqrt(squares / width + epsilon);
    for (int64_t i = 0; i < width; ++i) {
      out.y[r * width + i] = (row[i] - mean) * rstd * weight[i] + (bias.empty() ? Real(0) : bias[i]);
    }
    out.mean[r] = mean;
    out.rstd[r] = rstd;
  }
  return out;
}

template <class Real>
struct NormGradients {
  std::vector<Real> dx, dweight, dbias;
};

template <class Real>
NormGradients<Real> NormGradient(bool centered, int64_t rows, int64_t width, Real epsilon,
                                 const std::vector<Real>& x, const std::vector<Real>& weight,
                                 const std::vector<Real>& dy) {
  const NormOutput<Real> forward = Norm<Real>(centered, rows, width, epsilon, x, weight, {});
  NormGradients<Real> out{std::vector<Real>(rows * width), std::vector<Real>(width),
                          std::vector<Real>(width)};
  for (int64_t r = 0; r < rows; ++r) {
    const Real mean = forward.mean[r], rstd = forward.rstd[r];
    Real sum = 0, weighted = 0;  // of g and of g * normal
    for (int64_t i = 0; i < width; ++i) {
      const Real normal = (x[r * width + i] - mean) * rstd, grad = dy[r * width + i];
      out.dweight[i] += grad * normal;
      out.dbias[i] += grad;
      sum += grad * weight[i];
      weighted += grad * weight[i] * normal;
    }
    for (int64_t i = 0; i < width; ++i) {
      const Real normal = (x[r * width + i] - mean) * rstd;
      const Real centre = centered ? sum / width : Real(0);
      out.dx[r * width + i] = rstd * (dy[r * width + i] * weight[i] - centre - normal * weighted / width);
    }
  }
  return out;
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_NORM_H_
