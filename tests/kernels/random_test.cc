#include "kernels/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"

namespace tanren::kernels {
namespace {

using testing::ExpectThreadIndependent;
using testing::ForEachInstructionSet;
using testing::Poisoned;
using testing::RandomInteger;
using testing::SameBits;
using testing::TestStream;

// kat_vectors of Random123 (Salmon et al. 2011).
TEST(Philox, PublishedKnownAnswers) {
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Changing these changes every run's numbers: the index is the low half of the counter, the stream the high
// half, the seed the key, and the bits are the first two words.
TEST(RandomBits, AreTheFirstWordsOfTheBlock) {
  const std::array<uint32_t, 4> block =
      Philox({0x55667788, 0x11223344, 0xddeeff00, 0x99aabbcc}, {0x13579bdf, 0x02468ace});
  EXPECT_EQ(RandomBits(0x02468ace13579bdf, 0x99aabbccddeeff00, 0x1122334455667788),
            uint64_t{block[1]} << 32 | block[0]);
  EXPECT_NE(RandomBits(1, 2, 3), RandomBits(1, 3, 2));
  EXPECT_NE(RandomBits(1, 2, 3), RandomBits(2, 1, 3));
}

TEST(RandomUniform, IsUniform) {
  constexpr int kCells = 64, kDraws = 64000;
  std::vector<int> cells(kCells);
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = RandomUniform(7, 11, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++cells[static_cast<int>(u * kCells)];
    sum += u;
  }
  double chi_square = 0;
  for (const int count : cells) chi_square += std::pow(count - kDraws / kCells, 2) / (kDraws / kCells);
  EXPECT_LT(chi_square, 63 + 5 * std::sqrt(2 * 63));  // five standard deviations
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
}

TEST(RandomBelow, StaysBelowAndReachesAll) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 300; ++i) {
    const uint64_t value = RandomBelow(3, 5, i, 7);
    ASSERT_LT(value, 7u);
    seen.insert(value);
  }
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(RandomBelow(3, 5, 9, 1), 0u);
  EXPECT_GT(RandomBelow(3, 5, 9, ~uint64_t{0}), 0u);
}

std::vector<float> Normals(uint64_t seed, uint64_t stream, uint64_t first, int64_t count, float std = 1) {
  auto out = Poisoned<float>(count + 1);  // one beyond the end
  FillNormal(TestStream(), seed, stream, first, count, std, out.data());
  EXPECT_TRUE(std::isnan(out.back()));
  out.pop_back();
  return out;
}

TEST(FillNormal, ElementDependsOnItsIndexOnly) {
  const uint64_t seed = testing::TestSeed();
  for (const uint64_t first : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << 32) - 5, (uint64_t{1} << 40) + 3}) {
    const auto whole = Normals(seed, 4, first, 30011);
    for (int64_t begin = 0; begin < 30011;) {
      const int64_t count = std::min<int64_t>(RandomInteger(1, 999), 30011 - begin);
      const auto part = Normals(seed, 4, first + begin, count);
      ASSERT_TRUE(SameBits(part, std::vector<float>(whole.begin() + begin, whole.begin() + begin + count)))
          << begin << " + " << count;
      begin += count;
    }
  }
  EXPECT_TRUE(Normals(seed, 4, 9, 0).empty());
}

TEST(FillNormal, SameBitsOnAnyThreadsAndInstructionSet) {
  const auto expected = Normals(5, 6, 1, 100001);
  ExpectThreadIndependent([] { return Normals(5, 6, 1, 100001); });
  ForEachInstructionSet([&] { EXPECT_TRUE(SameBits(Normals(5, 6, 1, 100001), expected)); });
}

TEST(FillNormal, SameBitsOnEveryDevice) {
  for (const uint64_t first : {uint64_t{0}, (uint64_t{1} << 40) + 3}) {
    std::vector<float> expected(200001);
    FillNormal(Stream{}, 8, 3, first, 200001, 0.02f, expected.data());
    EXPECT_TRUE(SameBits(Normals(8, 3, first, 200001, 0.02f), expected));
  }
}

TEST(FillNormal, IsBoxMullerOfTheBlock) {
  constexpr uint64_t kSeed = 77, kStream = 5;
  const auto z = Normals(kSeed, kStream, 0, 2000, 0.25f);
  constexpr uint64_t kStreamOfNormals = kStream ^ 0x6E6F726D616C7321u;
  for (uint32_t block = 0; block < 1000; ++block) {
    const auto word =
        Philox({block, 0, static_cast<uint32_t>(kStreamOfNormals), kStreamOfNormals >> 32}, {kSeed, 0});
    const double u = 1 - std::ldexp(static_cast<double>((uint64_t{word[1]} << 32 | word[0]) >> 12), -52);
    const double t = std::ldexp(static_cast<double>((uint64_t{word[3]} << 32 | word[2]) >> 12), -52);
    const double radius = 0.25 * std::sqrt(-2 * std::log(u));
    EXPECT_NEAR(z[2 * block], radius * std::cos(2 * M_PI * t), 1e-7);
    EXPECT_NEAR(z[2 * block + 1], radius * std::sin(2 * M_PI * t), 1e-7);
  }
}

TEST(FillNormal, IsNormal) {
  constexpr int64_t kCount = 1 << 20;
  auto z = Normals(2024, 1, 0, kCount);
  double moment[5] = {};
  for (const float value : z) {
    for (int k = 1; k <= 4; ++k) moment[k] += std::pow(value, k) / kCount;
  }
  const double unit = 1 / std::sqrt(static_cast<double>(kCount));  // five standard errors each
  EXPECT_NEAR(moment[1], 0, 5 * unit);
  EXPECT_NEAR(moment[2], 1, 5 * unit * std::sqrt(2));
  EXPECT_NEAR(moment[3], 0, 5 * unit * std::sqrt(15));
  EXPECT_NEAR(moment[4], 3, 5 * unit * std::sqrt(96));
  // Kolmogorov-Smirnov: the largest gap to the normal distribution function; 1.95 / sqrt(n) has p = 0.001.
  std::sort(z.begin(), z.end());
  double gap = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const double phi = 0.5 * std::erfc(-z[i] / std::sqrt(2.0));
    gap = std::max(
        {gap, std::fabs(phi - static_cast<double>(i) / kCount), std::fabs(phi - (i + 1.0) / kCount)});
  }
  EXPECT_LT(gap, 1.95 * unit);
  // Neighbours, partners of a pair and streams are uncorrelated.
  const auto a = Normals(2024, 1, 0, kCount);
  const auto b = Normals(2024, 2, 0, kCount);
  double pair = 0, next = 0, other = 0;
  for (int64_t i = 0; i + 2 < kCount; i += 2) {
    pair += a[i] * a[i + 1] / (kCount / 2);
    next += a[i] * a[i + 2] / (kCount / 2);
    other += a[i] * b[i] / (kCount / 2);
  }
  EXPECT_NEAR(pair, 0, 5 * unit * std::sqrt(2));
  EXPECT_NEAR(next, 0, 5 * unit * std::sqrt(2));
  EXPECT_NEAR(other, 0, 5 * unit * std::sqrt(2));
}

TEST(PermuteIndex, IsAPermutation) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 4097, 65537}) {
    std::vector<bool> seen(size);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t image = PermuteIndex(1, 2, size, i);
      ASSERT_LT(image, size);
      ASSERT_FALSE(seen[image]) << size;
      seen[image] = true;
    }
  }
}

TEST(PermuteIndex, LargeSizesStayInside) {
  for (const uint64_t size : {(uint64_t{1} << 32) + 7, uint64_t{1} << 63, ~uint64_t{0}}) {
    std::set<uint64_t> images;
    for (uint64_t i = 0; i < 200; ++i) images.insert(PermuteIndex(9, 9, size, size - 1 - i));
    EXPECT_EQ(images.size(), 200u);
    EXPECT_LT(*images.rbegin(), size);
  }
}

// Where a place is sent is uniform over seeds, and one epoch's order has no trend left.
TEST(PermuteIndex, LooksRandom) {
  constexpr uint64_t kSize = 20, kSeeds = 4000;
  for (const uint64_t place : {uint64_t{0}, uint64_t{7}, kSize - 1}) {
    std::vector<int> counts(kSize);
    for (uint64_t seed = 0; seed < kSeeds; ++seed) ++counts[PermuteIndex(seed, 3, kSize, place)];
    double chi_square = 0;
    const double expected = static_cast<double>(kSeeds) / kSize;
    for (const int count : counts) chi_square += (count - expected) * (count - expected) / expected;
    EXPECT_LT(chi_square, 19 + 5 * std::sqrt(2 * 19.0)) << place;
  }
  constexpr uint64_t kLong = 50000;
  double correlation = 0, neighbours = 0, previous = 0;
  for (uint64_t i = 0; i < kLong; ++i) {
    const double at = (i + 0.5) / kLong - 0.5;
    const double image = (PermuteIndex(12, 34, kLong, i) + 0.5) / kLong - 0.5;
    correlation += 12 * at * image / kLong;
    if (i > 0) neighbours += 12 * previous * image / kLong;
    previous = image;
  }
  EXPECT_NEAR(correlation, 0, 5 / std::sqrt(static_cast<double>(kLong)));
  EXPECT_NEAR(neighbours, 0, 5 / std::sqrt(static_cast<double>(kLong)));
}

}  // namespace
}  // namespace tanren::kernels
