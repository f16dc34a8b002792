#include "kernels/reduce.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/elementwise.h"
#include "tests/reference/matmul.h"

namespace tanren::kernels {
namespace {

using testing::ExpectThreadIndependent;
using testing::ForEachInstructionSet;
using testing::kInfinity;
using testing::kNaN;
using testing::Poisoned;
using testing::RandomInteger;
using testing::RandomNormal;
using testing::RelativeError;
using testing::SameBits;
using testing::TestStream;
using testing::ToDoubles;

constexpr int64_t kCounts[] = {0, 1, 2, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 100003};

double Squares(const std::vector<float>& x, const Stream& stream = TestStream()) {
  std::vector<double> result(1, kNaN);
  SumOfSquares(stream, x.data(), static_cast<int64_t>(x.size()), result.data());
  return result[0];
}

TEST(SumOfSquares, MatchesDouble) {
  ForEachInstructionSet([] {
    for (const int64_t count : kCounts) {
      const auto x = RandomNormal<float>(count);
      const double expected = reference::SumOfSquares(ToDoubles(x));
      EXPECT_NEAR(Squares(x), expected, 1e-13 * expected) << count;
    }
  });
}

TEST(SumOfSquares, SameBitsOnAnyThreadsAndInstructionSet) {
  const auto x = RandomNormal<float>(4096 * 2048 + 12345);  // more blocks than one pass takes
  const double expected = Squares(x);
  ForEachInstructionSet([&] { EXPECT_EQ(Squares(x), expected); });
  ExpectThreadIndependent([&] { return std::vector<double>{Squares(x)}; });
}

// The blocks and lanes are part of the contract between ranks: a range cut at blocks sums to the same.
TEST(SumOfSquares, AddsBlocksInOrder) {
  const auto x = RandomNormal<float>(3 * 4096 + 100);
  double total = 0;
  for (int64_t begin = 0; begin < static_cast<int64_t>(x.size()); begin += 4096) {
    const int64_t end = std::min<int64_t>(begin + 4096, x.size());
    total += Squares(std::vector<float>(x.begin() + begin, x.begin() + end));
  }
  EXPECT_EQ(Squares(x), total);
}

// Up to 1024 blocks every device adds them one after the other; a longer sum may be cut there.
TEST(SumOfSquares, SameBitsOnEveryDevice) {
  for (const int64_t count : {1, 16, 33, 4095, 4097, 70001, 4096 * 1024}) {
    const auto x = RandomNormal<float>(count);
    EXPECT_EQ(Squares(x), Squares(x, Stream{})) << count;
  }
}

uint64_t DigestOf(const std::vector<unsigned char>& bytes, const Stream& stream = TestStream()) {
  std::vector<uint64_t> words(bytes.size() / 8 + 1, ~uint64_t{0}), result(1, 0);  // the rest of the last word
  std::memcpy(words.data(), bytes.data(), bytes.size());
  Digest(stream, static_cast<int64_t>(bytes.size()), words.data(), result.data());
  return result[0];
}

std::vector<unsigned char> RandomBytes(int64_t count) {
  std::vector<unsigned char> bytes(count);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(RandomInteger(0, 255));
  return bytes;
}

// The definition written down once more, with arithmetic of Python's width.
TEST(Digest, AddsAFunctionOfEachWordAndItsPlace) {
  const auto mix = [](uint64_t word, uint64_t place) {
    unsigned __int128 h = (word ^ static_cast<uint64_t>((unsigned __int128){place} * 11400714819323198485u));
    h = static_cast<uint64_t>(h * 13787848793156543929u);
    h ^= h >> 32;
    return static_cast<uint64_t>(h * 10723151780598845931u);
  };
  for (const int64_t count : {0, 1, 7, 8, 9, 16, 63, 4099}) {
    const auto bytes = RandomBytes(count);
    std::vector<unsigned char> padded = bytes;
    padded.resize((count + 7) / 8 * 8, 0);
    uint64_t expected = 0;
    for (size_t i = 0; i < padded.size(); i += 8) {
      uint64_t word = 0;
      for (int b = 7; b >= 0; --b) word = word << 8 | padded[i + b];
      expected += mix(word, i / 8);
    }
    EXPECT_EQ(DigestOf(bytes), expected) << count;
    EXPECT_EQ(DigestOf(bytes, Stream{}), expected) << count;
  }
}

TEST(Digest, AnyFlippedBitAndAnyExchangeOfWordsShows) {
  std::vector<unsigned char> bytes = RandomBytes(203);
  const uint64_t digest = DigestOf(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= 1 << (bit % 8);
    EXPECT_NE(DigestOf(bytes), digest) << bit;
    bytes[bit / 8] ^= 1 << (bit % 8);
  }
  for (size_t word = 1; word < 25; ++word) {
    std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + word * 8);
    EXPECT_NE(DigestOf(bytes), digest) << word;
    std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + word * 8);
  }
  EXPECT_EQ(DigestOf(bytes), digest);
}

TEST(Digest, SameOnAnyThreads) {
  const auto bytes = RandomBytes(8 * 100003 + 5);
  ExpectThreadIndependent([&] { return std::vector<uint64_t>{DigestOf(bytes)}; });
  EXPECT_EQ(DigestOf(bytes), DigestOf(bytes, Stream{}));
}

TEST(SumOfSquares, OfAnUnalignedRange) {
  const auto x = RandomNormal<float>(20003);
  for (const int64_t offset : {1, 2, 3, 5}) {
    std::vector<double> result(1, kNaN);
    SumOfSquares(TestStream(), x.data() + offset, 20003 - offset, result.data());
    EXPECT_EQ(result[0], Squares(std::vector<float>(x.begin() + offset, x.end()))) << offset;
  }
}

TEST(SumOfSquares, ShowsNanAndInfinityAndDoesNotOverflow) {
  ForEachInstructionSet([] {
    for (const int64_t place : {0, 17, 4999}) {
      auto x = RandomNormal<float>(5000);
      x[place] = kNaN;
      EXPECT_TRUE(std::isnan(Squares(x)));
      x[place] = -kInfinity;
      EXPECT_EQ(Squares(x), std::numeric_limits<double>::infinity());
      x[place] = 1e38f;
      EXPECT_NEAR(Squares(x), 1e76, 1e69);
    }
  });
}

// Rounds to `fraction_bits` explicit bits with the given exponent range, by arithmetic in double alone.
double RoundSlowly(double value, int fraction_bits, int min_exponent, double largest) {
  if (value == 0 || std::isinf(value)) return value;
  const int exponent = std::max(std::ilogb(value), min_exponent);
  const double unit = std::ldexp(1.0, exponent - fraction_bits);
  const double rounded = std::nearbyint(value / unit) * unit;
  return std::fabs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), value)
                                      : rounded;
}
double RoundTo(DType dtype, double value) {
  switch (dtype) {
    case DType::kBF16:
      return RoundSlowly(value, 7, -126, std::ldexp(255.0, 120));
    case DType::kF16:
      return RoundSlowly(value, 10, -14, 65504);
    case DType::kF32:
      return static_cast<float>(value);
    default:
      return value;
  }
}
double Decode(DType dtype, const char* at) {
  uint16_t half;
  float single;
  double wide;
  switch (dtype) {
    case DType::kBF16: {
      std::memcpy(&half, at, 2);
      return std::bit_cast<float>(uint32_t{half} << 16);
    }
    case DType::kF16: {
      std::memcpy(&half, at, 2);
      const int exponent = half >> 10 & 31;
      const int fraction = half & 1023;
      const double sign = half & 0x8000 ? -1 : 1;
      if (exponent == 31) return fraction ? kNaN : sign * std::numeric_limits<double>::infinity();
      return sign * std::ldexp(exponent ? 1024 + fraction : fraction, std::max(exponent, 1) - 25);
    }
    case DType::kF32:
      std::memcpy(&single, at, 4);
      return single;
    default:
      std::memcpy(&wide, at, 8);
      return wide;
  }
}

std::vector<double> HardValues() {
  std::vector<double> values = {0.0,
                                -0.0,
                                1.0,
                                -1.0,
                                kInfinity,
                                -kInfinity,
                                65504,
                                65519.99,
                                65520,
                                65536,
                                1e-45,
                                3.4e38,
                                3.3961775e38,
                                1e39,
                                1e-300,
                                6.1e-5,
                                5.96e-8,
                                2.98e-8,
                                2.9802322387695312e-08};
  for (int i = 0; i < 3000; ++i) {
    const double scale = std::ldexp(1.0, static_cast<int>(RandomInteger(-150, 130)));
    values.push_back(scale * RandomNormal<float>(1)[0]);
    values.push_back(std::ldexp(1.0, static_cast<int>(RandomInteger(-27, 17))) * RandomNormal<float>(1)[0]);
    // Just off the middle between two bf16 or two binary16 numbers: rounding twice would go wrong.
    const double middle = 1 + (2 * RandomInteger(0, 1023) + 1) * 0x1p-11;
    const double wide_middle = 1 + (2 * RandomInteger(0, 127) + 1) * 0x1p-8;
    const double nudge =
        std::ldexp(static_cast<double>(RandomInteger(-1, 1)), static_cast<int>(-RandomInteger(20, 52)));
    values.push_back(middle + nudge);
    values.push_back(wide_middle + nudge);
  }
  return values;
}

TEST(Cast, RoundsEveryPairToNearestEven) {
  const DType dtypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64};
  const std::vector<double> values = HardValues();
  const int64_t count = static_cast<int64_t>(values.size());
  ForEachInstructionSet([&] {
    for (const DType from : dtypes) {
      std::vector<char> source(count * SizeOf(from));
      Cast(TestStream(), count, values.data(), {source.data(), from});
      for (int64_t i = 0; i < count; ++i) {
        const double got = Decode(from, source.data() + i * SizeOf(from));
        ASSERT_EQ(got, RoundTo(from, values[i])) << NameOf(from) << " of " << values[i];
        ASSERT_EQ(std::signbit(got), std::signbit(values[i]));
      }
      for (const DType to : dtypes) {
        std::vector<char> target(count * SizeOf(to), '\xff');
        Cast(TestStream(), count, {source.data(), from}, {target.data(), to});
        for (int64_t i = 0; i < count; ++i) {
          const double before = Decode(from, source.data() + i * SizeOf(from));
          ASSERT_EQ(Decode(to, target.data() + i * SizeOf(to)), RoundTo(to, before))
              << NameOf(from) << " to " << NameOf(to) << " of " << before;
        }
      }
    }
  });
}

TEST(Cast, KeepsNan) {
  for (const DType from : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    for (const DType to : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
      const std::vector<double> nan(33, kNaN);
      std::vector<double> source(33), target(33);
      Cast(TestStream(), 33, nan.data(), {source.data(), from});
      Cast(TestStream(), 33, {source.data(), from}, {target.data(), to});
      for (int i = 0; i < 33; ++i) {
        EXPECT_TRUE(std::isnan(Decode(to, reinterpret_cast<char*>(target.data()) + i * SizeOf(to))));
      }
    }
  }
  // A NaN whose payload lies in the lower half must not become infinity.
  const std::vector<float> payload(1, std::bit_cast<float>(0x7f800001u));
  std::vector<BFloat16> y(1);
  Cast(TestStream(), 1, payload.data(), y.data());
  EXPECT_TRUE(std::isnan(static_cast<float>(y[0])));
}

// Ranges that begin anywhere, alike and not alike on both sides, and nothing written beyond their ends.
TEST(Cast, SameBitsWhereverCut) {
  constexpr int64_t kCount = 5000;
  const DType dtypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64};
  const auto values = ToDoubles(RandomNormal<float>(kCount));
  for (const DType from : dtypes) {
    std::vector<char> source(kCount * SizeOf(from));
    Cast(TestStream(), kCount, values.data(), {source.data(), from});
    for (const DType to : dtypes) {
      const int64_t size = SizeOf(to);
      std::vector<char> whole(kCount * size);
      Cast(TestStream(), kCount, {source.data(), from}, {whole.data(), to});
      for (int repeat = 0; repeat < 20; ++repeat) {
        const int64_t begin = RandomInteger(0, 40);
        const int64_t count = repeat < 10 ? RandomInteger(0, 40) : RandomInteger(0, kCount - 50);
        const int64_t place = repeat % 2 == 0 ? begin : RandomInteger(0, 9);
        std::vector<char> target((place + count + 1) * size, '\x5a');
        Cast(TestStream(), count, {source.data() + begin * SizeOf(from), from},
             {target.data() + place * size, to});
        std::vector<char> expected(target.size(), '\x5a');
        std::copy_n(whole.begin() + begin * size, count * size, expected.begin() + place * size);
        ASSERT_TRUE(SameBits(target, expected))
            << NameOf(from) << " to " << NameOf(to) << ", " << count << " from " << begin << " at " << place;
      }
    }
  }
}

template <class X, class Y>
void CheckAddScaled(int64_t count) {
  const auto x = RandomNormal<X>(count);
  const auto before = RandomNormal<Y>(count);
  auto y = before;
  AddScaled(TestStream(), count, 0.75f, x.data(), y.data());
  for (int64_t i = 0; i < count; ++i) {
    const double exact = testing::ToDouble(before[i]) + 0.75 * testing::ToDouble(x[i]);
    const double size = std::fabs(testing::ToDouble(before[i])) + std::fabs(testing::ToDouble(x[i]));
    const double bound = 1e-7 * size + (std::is_same_v<Y, float> ? 0 : 0x1p-8 * std::fabs(exact));
    ASSERT_NEAR(testing::ToDouble(y[i]), exact, bound) << i << " of " << count;
  }
}

TEST(AddScaled, MatchesDouble) {
  ForEachInstructionSet([] {
    for (const int64_t count : kCounts) {
      CheckAddScaled<float, float>(count);
      CheckAddScaled<float, BFloat16>(count);
      CheckAddScaled<BFloat16, float>(count);
      CheckAddScaled<BFloat16, BFloat16>(count);
    }
  });
}

TEST(AddScaled, SameBitsWhereverCut) {
  constexpr int64_t kCount = 70001;
  const auto x = RandomNormal<BFloat16>(kCount);
  const auto before = RandomNormal<float>(kCount);
  auto whole = before;
  AddScaled(TestStream(), kCount, 0.3f, x.data(), whole.data());
  auto cut = before;
  for (int64_t begin = 0; begin < kCount;) {
    const int64_t count = std::min(RandomInteger(1, 4000), kCount - begin);
    AddScaled(TestStream(), count, 0.3f, x.data() + begin, cut.data() + begin);
    begin += count;
  }
  EXPECT_TRUE(SameBits(whole, cut));
}

template <class T>
void CheckColumnSum(int64_t rows, int64_t width, int64_t gap) {
  const int64_t stride = width + gap;
  const auto x = RandomNormal<T>(rows * stride);
  std::vector<T> dense;
  for (int64_t r = 0; r < rows; ++r) {
    dense.insert(dense.end(), x.begin() + r * stride, x.begin() + r * stride + width);
  }
  const auto before = RandomNormal<float>(width);
  auto expected = ToDoubles(before);
  reference::ColumnSum(rows, width, ToDoubles(dense), expected);
  const auto sum = [&] {
    auto out = before;
    ColumnSum(TestStream(), rows, width, x.data(), stride, out.data());
    return out;
  };
  // Sums may cancel: the error is held against the sums of their terms' sizes.
  std::vector<double> sizes, terms = ToDoubles(dense);
  for (const float value : before) sizes.push_back(std::abs(value));
  for (double& term : terms) term = std::abs(term);
  reference::ColumnSum(rows, width, terms, sizes);
  const std::vector<float> actual = sum();
  double error = 0, size = 0;
  for (int64_t i = 0; i < width; ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += sizes[i] * sizes[i];
  }
  EXPECT_LE(std::sqrt(error), 1e-6 * std::sqrt(size)) << rows << "x" << width;
  ExpectThreadIndependent(sum);
}

TEST(ColumnSum, MatchesDoubleOnAnyThreads) {
  ForEachInstructionSet([] {
    for (const int64_t rows : {0, 1, 7, 64, 65, 1031}) {
      for (const int64_t width : {1, 13, 64, 65, 193, 514}) {
        CheckColumnSum<float>(rows, width, RandomInteger(0, 5));
        CheckColumnSum<BFloat16>(rows, width, RandomInteger(0, 5));
      }
    }
    // Whole vectors, several tiles of columns and many blocks of rows.
    CheckColumnSum<float>(127, 256, 0);
    CheckColumnSum<BFloat16>(129, 1032, 8);
    CheckColumnSum<float>(5003, 136, 4);
    CheckColumnSum<BFloat16>(5003, 136, 0);
  });
}

TEST(Fill, WritesEveryByteAndNoMore) {
  for (const int64_t bytes : {0, 1, 63, 64, 1000003}) {
    std::vector<uint8_t> data(bytes + 1, 7);
    Fill(TestStream(), bytes, 0xab, data.data());
    EXPECT_EQ(std::count(data.begin(), data.end(), 0xab), bytes);
    EXPECT_EQ(data.back(), 7);
  }
}

}  // namespace
}  // namespace tanren::kernels
