#include "kernels/fixed_sum.h"

#include <bit>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"

namespace tanren::kernels {
namespace {

using testing::ExpectThreadIndependent;
using testing::ForEachInstructionSet;
using testing::kInfinity;
using testing::kNaN;
using testing::RandomNormal;
using testing::TestStream;

constexpr int64_t kCounts[] = {0, 1, 7, 8, 9, 63, 64, 65, 1000, 100003};

struct Sums {
  std::vector<int64_t> sum;
  std::vector<int32_t> largest = {0};

  void Add(std::vector<float> x, double unit) {
    sum.resize(x.size());
    AddFixed(TestStream(), static_cast<int64_t>(x.size()), unit, x.data(), sum.data(), largest.data());
    for (const float value : x) ASSERT_EQ(value, 0);
  }
  float Largest() const { return std::bit_cast<float>(largest[0]); }
};

TEST(AddFixed, AddsTheNearestIntegers) {
  ForEachInstructionSet([] {
    for (const int64_t count : kCounts) {
      for (const int shift : {0, 20, 38, 49}) {
        const double unit = std::ldexp(1.0, -shift);
        Sums sums;
        std::vector<int64_t> expected(count, 0);
        float largest = 0;
        for (int round = 0; round < 3; ++round) {
          std::vector<float> x = RandomNormal<float>(count);
          for (float& value : x) value = std::min(value * 0.2f, 1.0f);
          for (int64_t i = 0; i < count; ++i) {
            expected[i] += std::llrint(static_cast<double>(x[i]) / unit);
            largest = std::max(largest, std::abs(x[i]));
          }
          sums.Add(x, unit);
        }
        EXPECT_EQ(sums.sum, expected);
        EXPECT_EQ(sums.Largest(), largest);
      }
    }
  });
}

TEST(AddFixed, TiesGoToEvenAndUnitsMayBeLarge) {
  ForEachInstructionSet([] {
    Sums sums;
    sums.Add({0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.49999997f, 1e-30f, -0.0f}, 1);
    EXPECT_EQ(sums.sum, (std::vector<int64_t>{0, 2, 2, 0, -2, -2, 0, 0, 0}));
    Sums large;
    large.Add({0x1p127f, -0x1.8p126f}, 0x1p120);
    EXPECT_EQ(large.sum, (std::vector<int64_t>{128, -96}));
  });
}

// Up to the limit terms are exact.
TEST(AddFixed, TheLargestTerms) {
  ForEachInstructionSet([] {
    Sums sums;
    const float near = std::nextafter(static_cast<float>(kFixedTermLimit), 0.0f);
    sums.Add({near, -near, static_cast<float>(kFixedTermLimit)}, 1);
    EXPECT_EQ(sums.sum[0], static_cast<int64_t>(near));
    EXPECT_EQ(sums.sum[1], -static_cast<int64_t>(near));
    EXPECT_EQ(sums.sum[2], kFixedTermLimit);
    EXPECT_EQ(sums.Largest(), static_cast<float>(kFixedTermLimit));
  });
}

TEST(AddFixed, WhatIsNotFiniteIsTheLargest) {
  ForEachInstructionSet([] {
    for (const int64_t place : {0, 5, 99}) {
      std::vector<float> x(100, 3.0f);
      x[place] = -kInfinity;
      Sums sums;
      sums.Add(x, 1);
      EXPECT_EQ(sums.Largest(), kInfinity);
      x[(place + 1) % 100] = kNaN;
      sums.Add(x, 1);
      EXPECT_TRUE(std::isnan(sums.Largest()));
      sums.Add(std::vector<float>(100, 4.0f), 1);  // and stays
      EXPECT_TRUE(std::isnan(sums.Largest()));
    }
  });
}

// The sum of squares as two words, whatever the range is cut into.
TEST(FixedToFloat, SumsSquaresExactly) {
  ForEachInstructionSet([] {
    for (const int64_t count : kCounts) {
      std::vector<int64_t> sum(count);
      const std::vector<float> values = RandomNormal<float>(count);
      for (int64_t i = 0; i < count; ++i) sum[i] = static_cast<int64_t>(values[i] * 0x1p40);
      std::vector<float> x(count, kNaN), expected(count);
      std::vector<int64_t> squares = {0, 0}, parts = {0, 0};
      double total = 0;
      for (int64_t i = 0; i < count; ++i) {
        expected[i] = static_cast<float>(static_cast<double>(sum[i]) * 0x1p-40);
        total += static_cast<double>(expected[i]) * expected[i];
      }
      FixedToFloat(TestStream(), count, sum.data(), 0x1p-40, 8, x.data(), squares.data());
      EXPECT_EQ(x, expected);
      // Of each square less than the lower word's unit is dropped.
      const double dropped = static_cast<double>(count) * std::ldexp(64.0, -60);
      EXPECT_NEAR(SumOfWords(squares.data()) * 64, total, 1e-12 * total + dropped);
      for (int64_t begin = 0; begin < count; begin += 37) {
        FixedToFloat(TestStream(), std::min<int64_t>(37, count - begin), sum.data() + begin, 0x1p-40, 8,
                     x.data() + begin, parts.data());
      }
      EXPECT_EQ(parts, squares);
    }
  });
}

TEST(FixedSum, SameBitsOnAnyThreads) {
  const std::vector<float> values = RandomNormal<float>(300000);
  ExpectThreadIndependent([&] {
    Sums sums;
    sums.Add(values, 0x1p-30);
    std::vector<float> x(values.size());
    std::vector<int64_t> squares = {0, 0};
    FixedToFloat(TestStream(), static_cast<int64_t>(x.size()), sums.sum.data(), 0x1p-30, 16, x.data(),
                 squares.data());
    x.push_back(static_cast<float>(squares[0] % (1 << 24)));
    x.push_back(static_cast<float>(squares[1] % (1 << 24)));
    x.push_back(sums.Largest());
    return x;
  });
}

}  // namespace
}  // namespace tanren::kernels
