#include "kernels/rotary.h"

#include <gtest/gtest.h>

#include "kernels/attention.h"
#include "tests/kernels/test_stream.h"
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

struct Case {
  int64_t tokens, heads, head_dim, gap;  // gap: elements of a row beyond the heads
};

const Case kCases[] = {{37, 3, 2, 5},   {37, 3, 6, 5},   {37, 3, 16, 5},    {37, 3, 34, 5},
                       {37, 3, 64, 5},  {37, 3, 130, 5}, {37, 3, 64, 32},   {41, 10, 128, 256},
                       {23, 40, 80, 0}, {1, 1, 16, 0},   {300, 12, 64, 768}};

TYPED_TEST(RotaryTest, AgreesWithTheReferenceAndTurnsBack) {
  using T = TypeParam;
  ForEachInstructionSet([] {
    for (const auto& [tokens, heads, head_dim, gap] : kCases) {
      SCOPED_TRACE(::testing::Message() << tokens << " x " << heads << " x " << head_dim << " + " << gap);
      const int64_t stride = heads * head_dim + gap;
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
      Rotary(TestStream(), problem.args, y.data(), false);
      ExpectNear(y, expected, "rotated");
      for (int64_t t = 0; t < tokens; ++t) {  // between the heads nothing changes
        for (int64_t i = heads * head_dim; i < stride; ++i) {
          ASSERT_EQ(ToDouble(y[t * stride + i]), x[t * stride + i]);
        }
      }
      Rotary(TestStream(), problem.args, y.data(), true);
      EXPECT_LE(RelativeError(y, x), Tolerance<T>(expected));  // two roundings
    }
  });
}

// Where rows are whole vectors and where they are not, a pair meets the same arithmetic.
TYPED_TEST(RotaryTest, DoesNotDependOnAlignment) {
  using T = TypeParam;
  const int64_t tokens = 29, heads = 5, head_dim = 64, width = heads * head_dim, stride = width + 1;
  Problem problem(tokens, heads, head_dim, width);
  std::vector<T> aligned = RandomNormal<T>(tokens * width), shifted(tokens * stride + 1);
  const auto row = [&](int64_t t) { return shifted.begin() + 1 + t * stride; };
  for (int64_t t = 0; t < tokens; ++t) std::copy_n(aligned.begin() + t * width, width, row(t));
  Rotary(TestStream(), problem.args, aligned.data(), false);
  problem.args.stride = stride;
  Rotary(TestStream(), problem.args, shifted.data() + 1, false);
  std::vector<T> compact;
  for (int64_t t = 0; t < tokens; ++t) compact.insert(compact.end(), row(t), row(t) + width);
  EXPECT_TRUE(SameBits(compact, aligned));
}

// RotaryAppend is Rotary and then CacheAppend, bit for bit; heads of whole packs and others, idle rows.
TYPED_TEST(RotaryTest, TurnedOnTheWayToTheCache) {
  using T = TypeParam;
  for (const int64_t head_dim : {64, 128, 48, 34}) {
    SCOPED_TRACE(head_dim);
    const int64_t tokens = 19, heads = 6, kv_heads = 2, slots = 4, max_tokens = 300;
    const int64_t stride = (heads + 2 * kv_heads) * head_dim;
    const Problem problem(tokens, heads + kv_heads, head_dim, stride);
    std::vector<int32_t> slot_of;
    for (int64_t t = 0; t < tokens; ++t) slot_of.push_back(t % 5 == 3 ? -1 : static_cast<int32_t>(t % slots));
    CachedAttentionShape shape{.tokens = tokens,
                               .heads = heads,
                               .kv_heads = kv_heads,
                               .head_dim = head_dim,
                               .max_tokens = max_tokens,
                               .slots = slot_of.data(),
                               .positions = problem.positions.data()};
    std::vector<T> qkv = RandomNormal<T>(tokens * stride), turned = qkv;
    std::vector<T> k = Poisoned<T>(slots * kv_heads * max_tokens * head_dim), v = k, expected_k = k,
                   expected_v = k;
    Rotary(TestStream(), problem.args, turned.data(), false);
    CacheAppend(TestStream(), shape, {turned.data() + heads * head_dim, stride},
                {turned.data() + (heads + kv_heads) * head_dim, stride}, expected_k.data(),
                expected_v.data());
    RotaryAppend(TestStream(), problem.args, shape, qkv.data(), k.data(), v.data());
    EXPECT_TRUE(SameBits(qkv, turned));
    EXPECT_TRUE(SameBits(k, expected_k));
    EXPECT_TRUE(SameBits(v, expected_v));
  }
}

TYPED_TEST(RotaryTest, NothingToDo) {
  Rotary(TestStream(), {.heads = 2, .head_dim = 8, .stride = 16}, static_cast<TypeParam*>(nullptr), false);
}

// On a GPU: from one run to the next.
TYPED_TEST(RotaryTest, DoesNotDependOnThreads) {
  const Problem problem(201, 2, 20, 45);
  const std::vector<TypeParam> x = RandomNormal<TypeParam>(201 * 45);
  ExpectThreadIndependent([&] {
    std::vector<TypeParam> y = x;
    Rotary(TestStream(), problem.args, y.data(), false);
    return y;
  });
}

}  // namespace
}  // namespace tanren::kernels::testing
