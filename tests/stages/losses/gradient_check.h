// Central differences of a loss functor in double, at points that a test draws and keeps away from kinks.
#ifndef TANREN_TESTS_STAGES_LOSSES_GRADIENT_CHECK_H_
#define TANREN_TESTS_STAGES_LOSSES_GRADIENT_CHECK_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/loss/functor.h"

namespace tanren {

inline constexpr double kDifference = 1e-5;
inline constexpr double kGradientTolerance =
    1e-7;  // central differences: the square of the step, and rounding

template <class Functor>
double TokenLoss(const Functor& functor, const TokenStats<double>& stats, const std::vector<double>& columns,
                 const Normalizers& normalizers) {
  TokenStats<double> seed;
  double metrics[kMaxLossMetrics] = {};
  return functor(stats, columns.data(), normalizers, &seed, metrics);
}

// Every statistic's seed against the difference quotient. `logp_reads_column`: -1, or the column that is a
// stop-gradient.
template <class Functor>
void CheckTokenGradient(const Functor& functor, const TokenStats<double>& at,
                        const std::vector<double>& columns, const Normalizers& normalizers) {
  TokenStats<double> seed;
  double metrics[kMaxLossMetrics] = {};
  functor(at, columns.data(), normalizers, &seed, metrics);
  for (double TokenStats<double>::*field : {&TokenStats<double>::logp, &TokenStats<double>::lse,
                                            &TokenStats<double>::entropy, &TokenStats<double>::value}) {
    TokenStats<double> up = at, down = at;
    up.*field += kDifference;
    down.*field -= kDifference;
    const double slope =
        (TokenLoss(functor, up, columns, normalizers) - TokenLoss(functor, down, columns, normalizers)) /
        (2 * kDifference);
    EXPECT_NEAR(seed.*field, slope, kGradientTolerance * std::max(1.0, std::abs(slope)));
  }
}

template <class Functor>
double SegmentLoss(const Functor& functor, const std::vector<SegmentStats<double>>& unit,
                   const Normalizers& normalizers) {
  std::vector<SegmentSeed<double>> seeds(unit.size());
  double metrics[kMaxLossMetrics] = {};
  return functor(static_cast<int64_t>(unit.size()), unit.data(), normalizers, seeds.data(), metrics);
}

template <class Functor>
void CheckSegmentGradient(const Functor& functor, const std::vector<SegmentStats<double>>& unit,
                          const Normalizers& normalizers) {
  std::vector<SegmentSeed<double>> seeds(unit.size());
  double metrics[kMaxLossMetrics] = {};
  functor(static_cast<int64_t>(unit.size()), unit.data(), normalizers, seeds.data(), metrics);
  for (size_t s = 0; s < unit.size(); ++s) {
    const auto check = [&](double SegmentStats<double>::*field, double seed) {
      auto up = unit, down = unit;
      up[s].*field += kDifference;
      down[s].*field -= kDifference;
      const double slope = (SegmentLoss(functor, up, normalizers) - SegmentLoss(functor, down, normalizers)) /
                           (2 * kDifference);
      EXPECT_NEAR(seed, slope, kGradientTolerance * std::max(1.0, std::abs(slope))) << "segment " << s;
    };
    check(&SegmentStats<double>::logp_sum, seeds[s].logp_sum);
    check(&SegmentStats<double>::value, seeds[s].value);
  }
}

// The same functor in float: what runs. Relative to the loss in double.
template <class Functor>
void CheckFloatSegments(const Functor& functor, const std::vector<SegmentStats<double>>& unit,
                        const Normalizers& normalizers) {
  std::vector<SegmentStats<float>> single(unit.size());
  for (size_t s = 0; s < unit.size(); ++s) {
    single[s].logp_sum = static_cast<float>(unit[s].logp_sum);
    single[s].trained_tokens = static_cast<float>(unit[s].trained_tokens);
    single[s].value = static_cast<float>(unit[s].value);
    for (int c = 0; c < kMaxLossColumns; ++c) {
      single[s].column_sums[c] = static_cast<float>(unit[s].column_sums[c]);
      single[s].segment_columns[c] = static_cast<float>(unit[s].segment_columns[c]);
    }
  }
  std::vector<SegmentSeed<float>> seeds(unit.size());
  float metrics[kMaxLossMetrics] = {};
  const double in_float =
      functor(static_cast<int64_t>(unit.size()), single.data(), normalizers, seeds.data(), metrics);
  const double in_double = SegmentLoss(functor, unit, normalizers);
  EXPECT_NEAR(in_float, in_double, 1e-4 * std::max(1.0, std::abs(in_double)));
}

}  // namespace tanren

#endif  // TANREN_TESTS_STAGES_LOSSES_GRADIENT_CHECK_H_
