#include "core/base/exact_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace tanren {
namespace {

double Sum(const std::vector<double>& terms) {
  ExactSum sum;
  for (const double term : terms) sum.Add(term);
  return sum.Round();
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSmallest = std::numeric_limits<double>::denorm_min();
constexpr double kLargest = std::numeric_limits<double>::max();

TEST(ExactSum, OneTermIsItself) {
  std::mt19937_64 random(1);
  std::vector<double> values = {0.0,
                                1.0,
                                -1.0,
                                0.1,
                                -0x1p-1022,
                                0x1p1023,
                                kLargest,
                                -kLargest,
                                kSmallest,
                                -kSmallest,
                                0x1.fffffffffffffp-1023};
  for (int i = 0; i < 20000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (std::isfinite(value)) values.push_back(value);
  }
  for (const double value : values) EXPECT_EQ(Sum({value}), value);
}

TEST(ExactSum, CancelsWhatAnOrdinarySumLoses) {
  EXPECT_EQ(Sum({1e300, 1e-300, -1e300}), 1e-300);
  EXPECT_EQ(Sum({kLargest, kLargest, -kLargest, kSmallest, -kLargest}), kSmallest);
  EXPECT_EQ(Sum({-0x1p60, 1, 0x1p60, -0x1p-60, 3}), 4 - 0x1p-60);
  EXPECT_EQ(Sum({0.1, -0.1}), 0);
  EXPECT_EQ(Sum({}), 0);
}

// Half way cases: to even; anything beyond half way, however small, decides.
TEST(ExactSum, RoundsToNearestEven) {
  EXPECT_EQ(Sum({1, 0x1p-53}), 1);
  EXPECT_EQ(Sum({1, 0x1p-53, kSmallest}), 1 + 0x1p-52);
  EXPECT_EQ(Sum({1 + 0x1p-52, 0x1p-53}), 1 + 0x1p-51);
  EXPECT_EQ(Sum({1 + 0x1p-52, 0x1p-53, -kSmallest}), 1 + 0x1p-52);
  EXPECT_EQ(Sum({-1, -0x1p-53, -kSmallest}), -1 - 0x1p-52);
  EXPECT_EQ(Sum({kLargest, 0x1p969}), kLargest);
  EXPECT_EQ(Sum({kLargest, 0x1p970}), kInfinity);
}

TEST(ExactSum, OfIntegersIsTheirSum) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 200; ++round) {
    std::vector<double> terms;
    __int128 expected = 0;
    for (int i = 0; i < 300; ++i) {
      // Up to 2^52, at very different sizes.
      const int64_t value = static_cast<int64_t>(random() >> (12 + random() % 40)) * (random() % 2 ? 1 : -1);
      terms.push_back(static_cast<double>(value));
      expected += value;
    }
    EXPECT_EQ(Sum(terms), static_cast<double>(expected));
    for (double& term : terms) term *= 0x1p-900;
    EXPECT_EQ(Sum(terms), static_cast<double>(expected) * 0x1p-900);
  }
}

TEST(ExactSum, DoesNotDependOnOrderOrGrouping) {
  std::mt19937_64 random(3);
  std::vector<double> terms;
  while (terms.size() < 1000) {
    const double term =
        std::ldexp(std::normal_distribution<double>()(random), static_cast<int>(random() % 600) - 300);
    terms.push_back(term);
  }
  const double expected = Sum(terms);
  for (int round = 0; round < 20; ++round) {
    std::shuffle(terms.begin(), terms.end(), random);
    EXPECT_EQ(Sum(terms), expected);
    // Parts whose words are added, as an all-reduce does it.
    std::vector<ExactSum> parts(1 + random() % 7);
    for (const double term : terms) parts[random() % parts.size()].Add(term);
    for (size_t p = 1; p < parts.size(); ++p) {
      for (int w = 0; w < ExactSum::kWords; ++w) parts[0].words()[w] += parts[p].words()[w];
    }
    EXPECT_EQ(parts[0].Round(), expected);
  }
}

TEST(ExactSum, InfinitiesAndNaN) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Sum({1, kInfinity, -5}), kInfinity);
  EXPECT_EQ(Sum({1, -kInfinity}), -kInfinity);
  EXPECT_TRUE(std::isnan(Sum({kInfinity, 2, -kInfinity})));
  EXPECT_TRUE(std::isnan(Sum({nan, 2})));
  EXPECT_TRUE(std::isnan(Sum({kInfinity, nan})));
}

}  // namespace
}  // namespace tanren
