// What the kernel tests share: fresh random inputs from a printed seed, poisoned outputs, thread counts.
#ifndef TANREN_TESTS_KERNELS_SUPPORT_H_
#define TANREN_TESTS_KERNELS_SUPPORT_H_

#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "hwy/targets.h"
#include "kernels/types.h"

namespace tanren::kernels::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A new seed each run, printed so that a failure can be repeated with TANREN_TEST_SEED.
inline uint64_t TestSeed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("TANREN_TEST_SEED");
    const uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    std::printf("TANREN_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
    return value;
  }();
  return seed;
}

inline std::mt19937_64& Generator() {
  static std::mt19937_64 generator(TestSeed());
  return generator;
}

inline int64_t RandomInteger(int64_t low, int64_t high) {  // both ends included
  return std::uniform_int_distribution<int64_t>(low, high)(Generator());
}

inline double ToDouble(float value) { return value; }
inline double ToDouble(BFloat16 value) { return static_cast<float>(value); }

template <class T>
std::vector<T> RandomNormal(int64_t count, float std = 1) {
  std::normal_distribution<float> normal(0, std);
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(normal(Generator()));
  return values;
}

template <class T>
std::vector<T> Poisoned(int64_t count) {
  return std::vector<T>(count, static_cast<T>(kNaN));
}

template <class T>
std::vector<double> ToDoubles(const std::vector<T>& values) {
  std::vector<double> result;
  result.reserve(values.size());
  for (const T& value : values) result.push_back(ToDouble(value));
  return result;
}

template <class T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// ||a - b|| / ||b||; NaN, which fails every comparison, when `a` holds one.
template <class T>
double RelativeError(const std::vector<T>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double gap = ToDouble(a.at(i)) - b[i];
    difference += gap * gap;
    norm += b[i] * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

// The number of OpenMP threads, until the end of the scope.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadScope() { omp_set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

// Restricts Highway's dispatch to one instruction set, until the end of the scope.
class TargetScope {
 public:
  explicit TargetScope(int64_t target) { hwy::SetSupportedTargetsForTest(target); }
  ~TargetScope() { hwy::SetSupportedTargetsForTest(0); }
  TargetScope(const TargetScope&) = delete;
  TargetScope& operator=(const TargetScope&) = delete;
};

// Every instruction set that is both compiled and present.
inline std::vector<int64_t> CompiledTargets() { return hwy::SupportedAndGeneratedTargets(); }

}  // namespace tanren::kernels::testing

#endif  // TANREN_TESTS_KERNELS_SUPPORT_H_
