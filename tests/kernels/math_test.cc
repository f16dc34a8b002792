// The vector mathematics of the kernels against double, value by value, on every instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/math_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

enum Function { kExp, kExp2NonPositive, kTanh, kSigmoid, kNormalCdf, kNormalDensity };

VF32 Apply(F32 d, int function, VF32 x) {
  VF32 density = hn::Zero(d);
  switch (function) {
    case kExp:
      return Exp(d, x);
    case kExp2NonPositive:
      return Exp2NonPositive(d, x);
    case kTanh:
      return Tanh(d, x);
    case kSigmoid:
      return Sigmoid(d, x);
    case kNormalCdf:
      return NormalCdf(d, x, &density);
    default:
      NormalCdf(d, x, &density);
      return density;
  }
}

void Map(int function, const float* x, int64_t count, float* y) {
  const F32 d;
  for (int64_t i = 0; i < count; i += hn::Lanes(d)) {
    StoreUpTo(d, Apply(d, function, LoadUpTo(d, x + i, count - i)), y + i, count - i);
  }
}

void ToBFloat16(const float* x, int64_t count, BFloat16* y) {
  const F32 d;
  for (int64_t i = 0; i < count; i += hn::Lanes(d))
    StoreUpTo(d, LoadUpTo(d, x + i, count - i), y + i, count - i);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tests/kernels/testing.h"

namespace tanren::kernels {
namespace {
HWY_EXPORT(Map);
HWY_EXPORT(ToBFloat16);
}  // namespace

namespace testing {
namespace {

enum Function { kExp, kExp2NonPositive, kTanh, kSigmoid, kNormalCdf, kNormalDensity };

std::vector<float> Map(int function, const std::vector<float>& x) {
  std::vector<float> y = Poisoned<float>(x.size());
  HWY_DYNAMIC_DISPATCH(Map)(function, x.data(), x.size(), y.data());
  return y;
}

// Units in the last place of `exact` as a normal float.
double UlpsApart(float actual, double exact) {
  const float rounded = std::abs(static_cast<float>(exact));
  const double ulp = std::nextafter(rounded, kInfinity) - double(rounded);
  return std::abs(actual - exact) / ulp;
}

struct Case {
  Function function;
  double (*exact)(double);
  double low, high;
  double ulps;
  // The instruction sets without a fused multiply-add lose the corrections that rest on it.
  double ulps_unfused;
};

double ExactCdf(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }
double ExactDensity(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }
double ExactSigmoid(double x) { return 1 / (1 + std::exp(-x)); }

const Case kCases[] = {
    {kExp, std::exp, -87, 88.7, 1.5, 3},
    {kExp, std::exp, -103.9, -87, 2, 3},  // denormal results
    {kExp2NonPositive, std::exp2, -126, 0, 1.5, 2},
    {kTanh, std::tanh, -12, 12, 2, 4},
    {kTanh, std::tanh, -0.7, 0.7, 2, 4},
    {kTanh, std::tanh, -1e-4, 1e-4, 1, 2},
    {kSigmoid, ExactSigmoid, -87, 30, 3, 4},
    {kNormalCdf, ExactCdf, -2, 9, 6, 8},
    {kNormalCdf, ExactCdf, -13, -2, 6, 120},
    {kNormalDensity, ExactDensity, -13, 13, 6, 120},
};

TEST(VectorMathTest, AgreesWithDouble) {
  ForEachInstructionSet([] {
    const bool fused = hwy::GetChosenTarget().GetIndex() != 0 && hwy::SupportedTargets() <= HWY_AVX2;
    for (const Case& c : kCases) {
      std::vector<float> x;
      for (int i = 0; i < 100000; ++i) {
        x.push_back(static_cast<float>(std::uniform_real_distribution<double>(c.low, c.high)(Generator())));
      }
      const std::vector<float> y = Map(c.function, x);
      double worst = 0;
      float at = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double apart = UlpsApart(y[i], c.exact(x[i]));
        if (!(apart <= worst)) worst = apart, at = x[i];
        if (std::isnan(worst)) break;
      }
      EXPECT_LE(worst, fused ? c.ulps : c.ulps_unfused) << "function " << c.function << " at " << at;
    }
  });
}

TEST(VectorMathTest, LimitsAreExact) {
  ForEachInstructionSet([] {
    const std::vector<float> x = {-kInfinity, -1e30f, -0.0f, 0.0f, 1e30f, kInfinity};
    EXPECT_EQ(Map(kExp, x), (std::vector<float>{0, 0, 1, 1, kInfinity, kInfinity}));
    EXPECT_EQ(Map(kTanh, x), (std::vector<float>{-1, -1, 0, 0, 1, 1}));
    EXPECT_EQ(Map(kSigmoid, x), (std::vector<float>{0, 0, 0.5f, 0.5f, 1, 1}));
    EXPECT_EQ(Map(kNormalCdf, x), (std::vector<float>{0, 0, 0.5f, 0.5f, 1, 1}));
    EXPECT_EQ(Map(kExp2NonPositive, {-kInfinity, -1e30f, -126.5f, -126, -1, -0.0f, 0}),
              (std::vector<float>{0, 0, 0, std::exp2(-126.0f), 0.5f, 1, 1}));
    EXPECT_TRUE(std::signbit(Map(kTanh, {-0.0f})[0]));
    for (int function = kExp; function <= kNormalCdf; ++function) {
      for (const uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7fc00001u, 0xffffffffu}) {
        EXPECT_TRUE(std::isnan(Map(function, {std::bit_cast<float>(bits)})[0]))
            << function << " " << std::hex << bits;
      }
    }
  });
}

TEST(VectorMathTest, RoundsToBFloat16AsTheScalarConversionDoes) {
  std::vector<float> x;
  for (int i = 0; i < 100001; ++i) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(Generator()())));
  for (const uint32_t bits :
       {0x3f808000u, 0x3f818000u, 0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0x7f800001u, 0x1u}) {
    x.push_back(std::bit_cast<float>(bits));
  }
  const std::vector<BFloat16> expected = [&x] {
    std::vector<BFloat16> values;
    for (float value : x) values.push_back(BFloat16(value));
    return values;
  }();
  ForEachInstructionSet([&] {
    std::vector<BFloat16> y(x.size());
    HWY_DYNAMIC_DISPATCH(ToBFloat16)(x.data(), x.size(), y.data());
    EXPECT_TRUE(SameBits(y, expected));
  });
}

}  // namespace
}  // namespace testing
}  // namespace tanren::kernels
#endif  // HWY_ONCE
