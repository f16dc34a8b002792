#include "kernels/norm.h"

#include <gtest/gtest.h>

#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/norm.h"

namespace tanren::kernels::testing {
namespace {

struct Case {
  NormKind kind;
  int64_t rows;
  int64_t width;
  bool with_delta;
  bool with_bias;
};

// Besides odd widths, those at which the GPU's kernels change: 8, 16 or 32 threads to a row, then warps, then
// blocks, then rows too wide for registers; whole vectors or not; and enough rows for several turns.
const Case kCases[] = {
    {NormKind::kLayer, 1, 1, false, true},     {NormKind::kLayer, 7, 17, true, true},
    {NormKind::kLayer, 131, 65, true, false},  {NormKind::kRms, 3, 128, false, false},
    {NormKind::kRms, 65, 37, true, false},     {NormKind::kRms, 4200, 5, true, false},
    {NormKind::kLayer, 66, 768, true, true},   {NormKind::kRms, 900, 64, true, false},
    {NormKind::kLayer, 333, 96, true, true},   {NormKind::kRms, 70, 256, false, false},
    {NormKind::kLayer, 37, 512, false, true},  {NormKind::kRms, 541, 384, true, false},
    {NormKind::kLayer, 29, 1001, true, true},  {NormKind::kRms, 541, 1024, true, false},
    {NormKind::kLayer, 73, 2048, true, true},  {NormKind::kRms, 19, 3001, false, false},
    {NormKind::kRms, 270, 4096, true, false},  {NormKind::kLayer, 5, 8192, true, true},
    {NormKind::kLayer, 67, 8203, true, true},  {NormKind::kRms, 3, 16400, false, false},
    {NormKind::kLayer, 70, 8448, false, true},
};

// The inputs of a case as T holds them, and what the kernel made of them.
template <class T>
struct Problem {
  explicit Problem(const Case& c)
      : x(NormalOf<T>(c.rows * c.width, 2, 0.5)),
        delta(c.with_delta ? NormalOf<T>(c.rows * c.width) : std::vector<double>()),
        weight(NormalOf<T>(c.width, 0.3, 1)),
        bias(c.with_bias ? NormalOf<T>(c.width) : std::vector<double>()),
        dy(NormalOf<T>(c.rows * c.width)),
        dresidual(NormalOf<T>(c.rows * c.width)),
        sum(x) {
    for (size_t i = 0; i < delta.size(); ++i) sum[i] += delta[i];
    sum = Rounded<T>(sum);
  }
  std::vector<double> x, delta, weight, bias, dy, dresidual, sum;
};

template <class T>
struct Forward {
  Forward(const Case& c, const Problem<T>& p, bool in_place = false)
      : sum(Poisoned<T>(c.rows * c.width)), y(sum), mean(Poisoned<float>(c.rows)), rstd(mean) {
    std::vector<T> x = To<T>(p.x);
    const std::vector<T> delta = To<T>(p.delta), weight = To<T>(p.weight), bias = To<T>(p.bias);
    if (in_place) sum = x;
    NormForwardArgs args;
    args.kind = c.kind;
    args.rows = c.rows;
    args.width = c.width;
    args.epsilon = 1e-5f;
    args.x = in_place ? sum.data() : x.data();
    if (c.with_delta) args.delta = delta.data(), args.sum = sum.data();
    args.weight = weight.data();
    if (c.with_bias) args.bias = bias.data();
    args.y = y.data();
    args.mean = c.kind == NormKind::kLayer ? mean.data() : nullptr;
    args.rstd = rstd.data();
    NormForward(TestStream(), args);
    if (!c.with_delta) sum = x;
  }
  std::vector<T> sum, y;
  std::vector<float> mean, rstd;
};

template <class T>
struct Backward {
  Backward(const Case& c, const Problem<T>& p, const Forward<T>& f, bool in_place = false)
      : dx(in_place ? To<T>(p.dresidual) : Poisoned<T>(c.rows * c.width)),
        dweight(c.width, 0.25f),
        dbias(dweight) {
    const std::vector<T> dy = To<T>(p.dy), weight = To<T>(p.weight), dresidual = To<T>(p.dresidual);
    NormBackwardArgs args;
    args.kind = c.kind;
    args.rows = c.rows;
    args.width = c.width;
    args.dy = dy.data();
    args.x = f.sum.data();
    args.weight = weight.data();
    args.mean = f.mean.data();
    args.rstd = f.rstd.data();
    args.dresidual = in_place ? dx.data() : dresidual.data();
    args.dx = dx.data();
    args.dweight = dweight.data();
    args.dbias = c.with_bias ? dbias.data() : nullptr;
    NormBackward(TestStream(), args);
  }
  std::vector<T> dx;
  std::vector<float> dweight, dbias;
};

template <class T>
class NormTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(NormTest, Types);

TYPED_TEST(NormTest, AgreesWithTheReference) {
  ForEachInstructionSet([] {
    for (const Case& c : kCases) {
      SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.width);
      const bool centered = c.kind == NormKind::kLayer;
      const Problem<TypeParam> p(c);
      const Forward<TypeParam> f(c, p);
      const auto expected =
          reference::Norm<double>(centered, c.rows, c.width, 1e-5f, p.sum, p.weight, p.bias);
      EXPECT_TRUE(SameBits(f.sum, To<TypeParam>(p.sum)));
      ExpectNear(f.y, expected.y, "y");
      if (centered && c.width > 1) ExpectNear(f.mean, expected.mean, "mean");
      ExpectNear(f.rstd, expected.rstd, "rstd");

      const Backward<TypeParam> b(c, p, f);
      auto gradient =
          reference::NormGradient<double>(centered, c.rows, c.width, 1e-5f, p.sum, p.weight, p.dy);
      for (int64_t i = 0; i < c.rows * c.width; ++i) gradient.dx[i] += p.dresidual[i];
      for (double& value : gradient.dweight) value += 0.25;
      for (double& value : gradient.dbias) value += 0.25;
      ExpectNear(b.dx, gradient.dx, "dx");
      ExpectNear(b.dweight, gradient.dweight, "dweight");
      if (c.with_bias) ExpectNear(b.dbias, gradient.dbias, "dbias");
    }
  });
}

TYPED_TEST(NormTest, WorksInPlace) {
  for (const Case& c : kCases) {
    const Problem<TypeParam> p(c);
    const Forward<TypeParam> apart(c, p), within(c, p, true);
    EXPECT_TRUE(SameBits(apart.y, within.y));
    EXPECT_TRUE(SameBits(apart.sum, within.sum));
    EXPECT_TRUE(SameBits(Backward<TypeParam>(c, p, apart).dx, Backward<TypeParam>(c, p, apart, true).dx));
  }
}

// A row has the same bits alone, at another place in memory, and among others.
TYPED_TEST(NormTest, RowsDoNotDependOnOthers) {
  using T = TypeParam;
  for (const Case& c : {Case{NormKind::kLayer, 41, 64, true, true},
                        {NormKind::kRms, 9, 1024, true, false},
                        {NormKind::kLayer, 13, 2000, true, true},
                        {NormKind::kRms, 6, 8200, true, false}}) {
    const Problem<T> p(c);
    const Forward<T> f(c, p);
    const Backward<T> b(c, p, f);
    const int64_t row = c.rows / 2;
    // One element off, so that nothing is aligned.
    const auto one = [&](const std::vector<T>& rows) {
      std::vector<T> result(1 + c.width);
      std::copy_n(rows.begin() + row * c.width, c.width, result.begin() + 1);
      return result;
    };
    const auto same = [&](const std::vector<T>& alone, const std::vector<T>& among) {
      return std::memcmp(alone.data() + 1, among.data() + row * c.width, c.width * sizeof(T)) == 0;
    };
    const std::vector<T> x = one(To<T>(p.x)), delta = one(To<T>(p.delta)), dy = one(To<T>(p.dy)),
                         dresidual = one(To<T>(p.dresidual)), weight = To<T>(p.weight), bias = To<T>(p.bias);
    std::vector<T> sum = Poisoned<T>(1 + c.width), y = sum, dx = sum;
    std::vector<float> mean(1), rstd(1), dweight(c.width), dbias(c.width);
    NormForward(TestStream(), {.kind = c.kind,
                               .rows = 1,
                               .width = c.width,
                               .epsilon = 1e-5f,
                               .x = x.data() + 1,
                               .delta = delta.data() + 1,
                               .sum = sum.data() + 1,
                               .weight = weight.data(),
                               .bias = c.with_bias ? bias.data() : ConstBuffer(),
                               .y = y.data() + 1,
                               .mean = mean.data(),
                               .rstd = rstd.data()});
    EXPECT_TRUE(same(sum, f.sum) && same(y, f.y)) << c.width;
    EXPECT_EQ(rstd[0], f.rstd[row]);
    NormBackward(TestStream(), {.kind = c.kind,
                                .rows = 1,
                                .width = c.width,
                                .dy = dy.data() + 1,
                                .x = sum.data() + 1,
                                .weight = weight.data(),
                                .mean = mean.data(),
                                .rstd = rstd.data(),
                                .dresidual = dresidual.data() + 1,
                                .dx = dx.data() + 1,
                                .dweight = dweight.data(),
                                .dbias = c.with_bias ? dbias.data() : nullptr});
    EXPECT_TRUE(same(dx, b.dx)) << c.width;
  }
}

// Statistics that no backward pass reads, and a backward pass without a residual path.
TYPED_TEST(NormTest, WithoutTheOptionalArrays) {
  using T = TypeParam;
  const Case c{NormKind::kRms, 23, 640, false, false};
  const Problem<T> p(c);
  const Forward<T> f(c, p);
  const std::vector<T> x = To<T>(p.x), weight = To<T>(p.weight), dy = To<T>(p.dy);
  std::vector<T> y = Poisoned<T>(x.size()), dx = y;
  std::vector<float> dweight(c.width);
  NormForward(TestStream(), {.kind = c.kind,
                             .rows = c.rows,
                             .width = c.width,
                             .epsilon = 1e-5f,
                             .x = x.data(),
                             .delta = {},
                             .sum = {},
                             .weight = weight.data(),
                             .bias = {},
                             .y = y.data()});
  EXPECT_TRUE(SameBits(y, f.y));
  NormBackward(TestStream(), {.kind = c.kind,
                              .rows = c.rows,
                              .width = c.width,
                              .dy = dy.data(),
                              .x = x.data(),
                              .weight = weight.data(),
                              .rstd = f.rstd.data(),
                              .dresidual = {},
                              .dx = dx.data(),
                              .dweight = dweight.data()});
  const auto gradient = reference::NormGradient<double>(false, c.rows, c.width, 1e-5f, p.x, p.weight, p.dy);
  ExpectNear(dx, gradient.dx, "dx");
  ExpectNear(dweight, gradient.dweight, "dweight");
}

TYPED_TEST(NormTest, NothingToDo) {
  TypeParam* const none = nullptr;
  NormForwardArgs forward;
  forward.width = 64;
  forward.x = none, forward.weight = none, forward.y = none;
  NormForward(TestStream(), forward);
  NormBackwardArgs backward;
  backward.width = 64;
  backward.dy = none, backward.x = none, backward.weight = none, backward.dx = none;
  NormBackward(TestStream(), backward);
  HeadNormArgs heads;
  heads.heads = 2, heads.width = 64, heads.stride = 128, heads.weight = none;
  HeadNormForward(TestStream(), heads, none, none, nullptr);
  HeadNormBackward(TestStream(), heads, none, none, nullptr, none, nullptr);
}

// On a GPU: from one run to the next.
TYPED_TEST(NormTest, DoesNotDependOnThreads) {
  for (const Case& c : {kCases[2], kCases[5], kCases[6]}) {
    const Problem<TypeParam> p(c);
    const Forward<TypeParam> f(c, p);
    ExpectThreadIndependent([&] { return Forward<TypeParam>(c, p).y; });
    ExpectThreadIndependent([&] { return Backward<TypeParam>(c, p, f).dx; });
    ExpectThreadIndependent([&] { return Backward<TypeParam>(c, p, f).dweight; });
    ExpectThreadIndependent([&] { return Backward<TypeParam>(c, p, f).dbias; });
  }
}

struct HeadCase {
  int64_t tokens, heads, width, stride;
};

TYPED_TEST(NormTest, HeadsInAStridedBuffer) {
  using T = TypeParam;
  for (const auto& [tokens, heads, width, stride] : {HeadCase{67, 3, 33, 150},
                                                     {301, 4, 64, 320},
                                                     {77, 1, 128, 384},
                                                     {190, 6, 128, 1024},
                                                     {31, 2, 256, 512},
                                                     {9, 5, 100, 500}}) {
    SCOPED_TRACE(::testing::Message() << heads << " heads of " << width << " in " << stride);
    const int64_t rows = tokens * heads, used = heads * width, gap_bytes = (stride - used) * sizeof(T);
    const std::vector<double> weight = NormalOf<T>(width, 0.3, 1);
    const std::vector<T> x = To<T>(NormalOf<T>(tokens * stride)), dy = To<T>(NormalOf<T>(tokens * stride));
    const std::vector<T> typed_weight = To<T>(weight);
    const auto compact = [&](const std::vector<T>& strided) {
      std::vector<T> result;
      for (int64_t t = 0; t < tokens; ++t) {
        result.insert(result.end(), strided.begin() + t * stride, strided.begin() + t * stride + used);
      }
      return result;
    };
    HeadNormArgs args;
    args.tokens = tokens;
    args.heads = heads;
    args.width = width;
    args.stride = stride;
    args.epsilon = 1e-6f;
    args.weight = typed_weight.data();
    const auto expected =
        reference::Norm<double>(false, rows, width, 1e-6f, ToDoubles(compact(x)), weight, {});
    auto gradient = reference::NormGradient<double>(false, rows, width, 1e-6f, ToDoubles(compact(x)), weight,
                                                    ToDoubles(compact(dy)));
    for (double& value : gradient.dweight) value -= 0.5;
    ForEachInstructionSet([&] {
      std::vector<T> y = x, dx = dy;  // what lies between the heads must stay as it is
      std::vector<float> rstd = Poisoned<float>(rows), dweight(width, -0.5f);
      HeadNormForward(TestStream(), args, x.data(), y.data(), rstd.data());
      HeadNormBackward(TestStream(), args, dy.data(), x.data(), rstd.data(), dx.data(), dweight.data());
      ExpectNear(compact(y), expected.y, "y");
      ExpectNear(rstd, expected.rstd, "rstd");
      ExpectNear(compact(dx), gradient.dx, "dx");
      ExpectNear(dweight, gradient.dweight, "dweight");
      for (int64_t t = 0; t < tokens; ++t) {
        const int64_t gap = t * stride + used;
        ASSERT_EQ(std::memcmp(y.data() + gap, x.data() + gap, gap_bytes), 0);
        ASSERT_EQ(std::memcmp(dx.data() + gap, dy.data() + gap, gap_bytes), 0);
      }
      std::vector<T> in_place = x, gradient_in_place = dy;
      HeadNormForward(TestStream(), args, in_place.data(), in_place.data(), nullptr);
      EXPECT_TRUE(SameBits(in_place, y));
      std::fill(dweight.begin(), dweight.end(), 0.0f);
      HeadNormBackward(TestStream(), args, gradient_in_place.data(), x.data(), rstd.data(),
                       gradient_in_place.data(), dweight.data());
      EXPECT_TRUE(SameBits(gradient_in_place, dx));
    });
  }
}

TEST(NormReferenceTest, GradientsAgreeWithDifferences) {
  for (const bool centered : {false, true}) {
    const int64_t rows = 3, width = 5;
    std::vector<double> x = NormalDoubles(rows * width), weight = NormalDoubles(width),
                        bias = NormalDoubles(width);
    const std::vector<double> dy = NormalDoubles(rows * width);
    const auto loss = [&] {
      return Dot(dy, reference::Norm(centered, rows, width, 1e-5, x, weight, bias).y);
    };
    const auto gradient = reference::NormGradient(centered, rows, width, 1e-5, x, weight, dy);
    EXPECT_LT(Gap(gradient.dx, Differences(x, loss)), 1e-7);
    EXPECT_LT(Gap(gradient.dweight, Differences(weight, loss)), 1e-7);
    EXPECT_LT(Gap(gradient.dbias, Differences(bias, loss)), 1e-7);
  }
}

}  // namespace
}  // namespace tanren::kernels::testing
