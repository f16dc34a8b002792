#include "kernels/rotary.h"

#include <gtest/gtest.h>

#include "tests/kernels/testing.h"
#include "tests/reference/rotary.h"

namespace tanren::kernels::testing {
namespace {

template <class T>
class RotaryTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(RotaryTest, Types);

// Query and key heads of a fused buffer: `heads` of `head_dim` in rows of `stride`.
struct Problem {
  Problem(int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride) {
    const int64_t half = head_dim / 2, positions_count = 300;
    for (int64_t position = 0; position < positions_count; ++position) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = position * std::pow(10000.0, -double(i) / half);
        angles.push_back(angle);
        cosine.push_back(static_cast<float>(std::cos(angle)));
        sine.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    for (int64_t t = 0; t < tokens; ++t) positions.push_back(RandomInteger(0, positions_count - 1));
    args = {.tokens = tokens,
            .heads = heads,
            .head_dim = head_dim,
            .stride = stride,
            .positions = positions.data(),
            .cosine = cosine.data(),
            .sine = sine.data()};
  }
  std::vector<double> angles;
  std::vector<float> cosine, sine;
  std::vector<int32_t> positions;
  RotaryArgs args;
};

TYPED_TEST(RotaryTest, AgreesWithTheReferenceAndTurnsBack) {
  using T = TypeParam;
  ForEachInstructionSet([] {
    for (const int64_t head_dim : {2, 6, 16, 34, 64, 130}) {
      const int64_t tokens = 37, heads = 3, stride = heads * head_dim + 5;
      const Problem problem(tokens, heads, head_dim, stride);
      const std::vector<double> x = NormalOf<T>(tokens * stride);
      std::vector<double> expected = x;
      for (int64_t t = 0; t < tokens; ++t) {
        const auto row = x.begin() + t * stride;
        const auto angle = problem.angles.begin() + problem.positions[t] * (head_dim / 2);
        const std::vector<double> turned = reference::Rotate<double>(
            heads, head_dim, {angle, angle + head_dim / 2}, {row, row + heads * head_dim});
        std::copy(turned.begin(), turned.end(), expected.begin() + t * stride);
      }
      std::vector<T> y = To<T>(x);
      Rotary({}, problem.args, y.data(), false);
      ExpectNear(y, expected, "rotated");
      for (int64_t t = 0; t < tokens; ++t) {  // between the heads nothing changes
        for (int64_t i = heads * head_dim; i < stride; ++i) {
          ASSERT_EQ(ToDouble(y[t * stride + i]), x[t * stride + i]);
        }
      }
      Rotary({}, problem.args, y.data(), true);
      EXPECT_LE(RelativeError(y, x), Tolerance<T>(expected));  // two roundings
    }
  });
}

TYPED_TEST(RotaryTest, DoesNotDependOnThreads) {
  const Problem problem(201, 2, 20, 45);
  const std::vector<TypeParam> x = RandomNormal<TypeParam>(201 * 45);
  ExpectThreadIndependent([&] {
    std::vector<TypeParam> y = x;
    Rotary({}, problem.args, y.data(), false);
    return y;
  });
}

}  // namespace
}  // namespace tanren::kernels::testing
