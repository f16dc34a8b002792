// On top of support.h: inputs as doubles, tolerances against a double reference, finite differences, and
// sweeps over instruction sets and thread counts.
#ifndef TANREN_TESTS_KERNELS_TESTING_H_
#define TANREN_TESTS_KERNELS_TESTING_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/support.h"

namespace tanren::kernels::testing {

inline std::vector<double> NormalDoubles(int64_t count, double deviation = 1, double mean = 0) {
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> values(count);
  for (double& value : values) value = normal(Generator());
  return values;
}

template <class T>
std::vector<T> To(const std::vector<double>& values) {
  std::vector<T> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = static_cast<T>(static_cast<float>(values[i]));
  return result;
}

// The values as T holds them: what a reference must compute from.
template <class T>
std::vector<double> Rounded(const std::vector<double>& values) {
  return ToDoubles(To<T>(values));
}

// Normal numbers that T holds exactly.
template <class T>
std::vector<double> NormalOf(int64_t count, double deviation = 1, double mean = 0) {
  return Rounded<T>(NormalDoubles(count, deviation, mean));
}

// fp32: 1e-5 of the exact result. bf16: at most twice the error of the exact result rounded to bf16, which no
// kernel that stores bf16 can undercut.
template <class T>
double Tolerance(const std::vector<double>& expected) {
  return kDTypeOf<T> == DType::kF32 ? 1e-5 : 2 * RelativeError(To<T>(expected), expected) + 1e-6;
}

template <class T>
void ExpectNear(const std::vector<T>& actual, const std::vector<double>& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  EXPECT_LE(RelativeError(actual, expected), Tolerance<T>(expected)) << what;
}

// The gap between two vectors of doubles, in units of the larger norm.
inline double Gap(const std::vector<double>& a, const std::vector<double>& b) {
  double gap = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    gap += (a[i] - b.at(i)) * (a[i] - b[i]);
    norm += std::max(a[i] * a[i], b[i] * b[i]);
  }
  return norm > 0 ? std::sqrt(gap / norm) : 0;
}

// The gradient of f by x, by central differences; f reads x.
template <class Function>
std::vector<double> Differences(std::vector<double>& x, const Function& f, double step = 1e-5) {
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + step;
    const double above = f();
    x[i] = at - step;
    gradient[i] = (above - f()) / (2 * step);
    x[i] = at;
  }
  return gradient;
}

inline double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
  return sum;
}

// Runs body() once on every instruction set that was compiled and that this processor has.
template <class Body>
void ForEachInstructionSet(const Body& body) {
  for (const int64_t target : CompiledTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    const TargetScope scope(target);
    hwy::GetChosenTarget().Update(target);
    body();
  }
  hwy::GetChosenTarget().DeInit();
}

// body() returns a vector, which must be the same bit for bit with 1, 2 and 5 threads.
template <class Body>
void ExpectThreadIndependent(const Body& body) {
  const auto alone = [&] {
    const ThreadScope threads(1);
    return body();
  }();
  for (const int count : {2, 5}) {
    const ThreadScope threads(count);
    EXPECT_TRUE(SameBits(alone, body())) << count << " threads";
  }
}

}  // namespace tanren::kernels::testing

#endif  // TANREN_TESTS_KERNELS_TESTING_H_
