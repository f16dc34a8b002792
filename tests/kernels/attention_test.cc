#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/device.h"
#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/attention.h"

namespace tanren::kernels::testing {
namespace {

struct Case {
  std::vector<int32_t> lengths;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  AttentionMask mask = AttentionMask::kCausal;
  int64_t window = 0;
  float soft_cap = 0;
  int64_t gap = 3;  // elements between the rows of a fused buffer
};

constexpr auto kFull = AttentionMask::kFull;
constexpr auto kCausal = AttentionMask::kCausal;

std::vector<Case> SmallCases() {
  return {{{1}, 1, 1, 1},
          {{1, 2, 63, 64, 65, 3}, 2, 1, 16},
          {{131}, 3, 3, 64},
          {{37, 200}, 4, 2, 33},
          {{67, 5}, 2, 2, 80, kFull},
          {{150}, 2, 1, 24, kCausal, 7},
          {{90, 71}, 2, 2, 16, kFull, 40},
          {{100}, 2, 1, 64, kCausal, 0, 20},
          {{97}, 1, 1, 130, kFull, 65, 5},
          {{70}, 6, 2, 256}};
}

// For the kernels of GPUs: every head size that tensor cores take, several tiles, and rows whose alignment
// the fastest loads need.
std::vector<Case> LargeCases() {
  const bool is_large = PropertiesOf(0).multiprocessors > 16;
  const int64_t many_heads = is_large ? 32 : 16;
  std::vector<int32_t> many(160);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int32_t>(i * 7 % 10);
  std::vector<Case> cases = {{{1030}, 4, 1, 64},
                             {{129, 300, 1, 64}, 4, 2, 128},
                             {{257, 60}, 2, 2, 80},
                             {{385, 3}, 2, 1, 96},
                             {{300}, 4, 2, 256},
                             {many, 2, 2, 64},
                             {{191, 140}, 2, 2, 128, kFull},
                             {{200, 193}, 8, 2, 64, kFull, 77},
                             {{450}, 2, 2, 64, kCausal, 130},
                             {{320}, 4, 1, 128, kCausal, 2},
                             {{260}, 2, 1, 128, kCausal, 0, 10},
                             {{200}, 1, 1, 80, kFull, 0, 20},
                             {{210}, 2, 2, 96, kCausal, 64, 15},
                             {{140, 20}, 2, 1, 256, kFull, 90, 30},
                             // More tiles than the GPU has blocks: a block goes on to its next.
                             {{300, 129, 1, 257, 64, 130}, many_heads, 4, 128},
                             {{300, 129, 1, 257, 64, 130}, many_heads, 4, 128, kFull, 150, 10},
                             {{300, 129, 1, 257, 64, 130}, many_heads, 4, 256},
                             {{300, 129, 1, 257, 64, 130}, many_heads + many_heads / 4, 4, 64}};
  // More keys and values than the heads that are worked on at a time may have.
  if (is_large) cases.push_back({std::vector<int32_t>(64, 64), 16, 16, 128});
  for (Case& c : cases) c.gap = 8;
  return cases;
}

// The reference takes time with the square of the length, so a CPU run keeps to the small ones.
std::vector<Case> Cases() {
  std::vector<Case> cases = SmallCases();
  if (!OnCuda()) return cases;
  for (Case c : SmallCases()) {  // the same with whole vectors a row
    c.gap = 8;
    if (c.head_dim % 8 == 0) cases.push_back(c);
  }
  for (const Case& c : LargeCases()) cases.push_back(c);
  return cases;
}

// Runs body() on every instruction set of the CPU, or once on the GPU.
template <class Body>
void ForEachVariant(const Body& body) {
  if (OnCuda()) {
    body();
  } else {
    ForEachInstructionSet(body);
  }
}

// bf16 on tensor cores: the weights are rounded to bf16 before they meet the values, which adds to the
// rounding of the result.
template <class T>
void ExpectClose(const std::vector<T>& actual, const std::vector<double>& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  const double more = OnCuda() && kDTypeOf<T> == DType::kBF16 ? 1.5 : 1;
  EXPECT_LE(RelativeError(actual, expected), more * Tolerance<T>(expected)) << what;
}

reference::AttentionShape ReferenceShape(const Case& c) {
  reference::AttentionShape shape;
  shape.cu_seqlens = {0};
  for (int32_t length : c.lengths) shape.cu_seqlens.push_back(shape.cu_seqlens.back() + length);
  shape.heads = c.heads;
  shape.kv_heads = c.kv_heads;
  shape.head_dim = c.head_dim;
  shape.scale = static_cast<float>(1 / std::sqrt(double(c.head_dim)));
  shape.causal = c.mask == AttentionMask::kCausal;
  shape.window = c.window;
  shape.soft_cap = c.soft_cap;
  return shape;
}

AttentionShape KernelShape(const Case& c, const reference::AttentionShape& r) {
  return {.tokens = r.tokens(),
          .segments = static_cast<int64_t>(c.lengths.size()),
          .cu_seqlens = r.cu_seqlens.data(),
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .scale = static_cast<float>(r.scale),
          .mask = c.mask,
          .window = c.window,
          .soft_cap = c.soft_cap};
}

// Packed inputs; the kernels get them as one fused buffer [tokens, q | k | v | a gap].
struct Inputs {
  std::vector<double> q, k, v, d_o;
};

template <class T>
struct Fused {
  Fused(const Case& c, int64_t tokens)
      : q_width(c.heads * c.head_dim),
        kv_width(c.kv_heads * c.head_dim),
        stride(q_width + 2 * kv_width + c.gap),
        data(Poisoned<T>(tokens * stride)) {}
  Fused(const Case& c, const Inputs& in) : Fused(c, in.q.size() / (c.heads * c.head_dim)) {
    for (size_t t = 0; t < data.size() / stride; ++t) {
      const auto put = [&](const std::vector<double>& from, int64_t width, int64_t at) {
        const std::vector<T> row = To<T>({from.begin() + t * width, from.begin() + (t + 1) * width});
        std::copy(row.begin(), row.end(), data.begin() + t * stride + at);
      };
      put(in.q, q_width, 0), put(in.k, kv_width, q_width), put(in.v, kv_width, q_width + kv_width);
    }
  }
  Heads At(int64_t offset) { return {data.data() + offset, stride}; }
  ConstHeads At(int64_t offset) const { return {data.data() + offset, stride}; }
  int64_t k_offset() const { return q_width; }
  int64_t v_offset() const { return q_width + kv_width; }
  std::vector<T> Take(int64_t offset, int64_t width) const {
    std::vector<T> result;
    for (size_t t = 0; t < data.size() / stride; ++t) {
      result.insert(result.end(), data.begin() + t * stride + offset,
                    data.begin() + t * stride + offset + width);
    }
    return result;
  }
  int64_t q_width, kv_width, stride;
  std::vector<T> data;
};

template <class T>
Inputs RandomInputs(const Case& c) {
  const int64_t tokens = std::accumulate(c.lengths.begin(), c.lengths.end(), 0);
  const int64_t q = tokens * c.heads * c.head_dim, kv = tokens * c.kv_heads * c.head_dim;
  return {NormalOf<T>(q, 1.5), NormalOf<T>(kv, 1.5), NormalOf<T>(kv), NormalOf<T>(q)};
}

// Forward and backward by the kernels.
template <class T>
struct Result {
  Result(const Case& c, const Inputs& in) {
    const reference::AttentionShape r = ReferenceShape(c);
    const AttentionShape shape = KernelShape(c, r);
    const Fused<T> qkv(c, in);
    const int64_t width = c.heads * c.head_dim;
    o = Poisoned<T>(shape.tokens * width);
    lse = Poisoned<float>(c.heads * shape.tokens);
    const ConstHeads q = qkv.At(0), k = qkv.At(qkv.k_offset()), v = qkv.At(qkv.v_offset());
    AttentionForward(TestStream(), shape, q, k, v, {o.data(), width}, lse.data());

    const std::vector<T> d_o = To<T>(in.d_o);
    const int64_t bytes = AttentionBackwardWorkspaceBytes(TestStream(), shape);
    std::vector<float> memory = Poisoned<float>(bytes / 4 + 16 + 64);
    const uintptr_t at = (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64;
    Fused<T> gradient(c, shape.tokens);
    AttentionBackward(TestStream(), shape, q, k, v, {o.data(), width}, lse.data(), {d_o.data(), width},
                      gradient.At(0), gradient.At(qkv.k_offset()), gradient.At(qkv.v_offset()),
                      reinterpret_cast<void*>(at));
    const float* end = reinterpret_cast<float*>(at + bytes);
    for (int i = 0; i < 32; ++i) EXPECT_TRUE(std::isnan(end[i])) << "written past the workspace";
    for (int64_t t = 0; t < shape.tokens; ++t) {
      for (int64_t i = 1; i <= c.gap; ++i)
        EXPECT_TRUE(std::isnan(ToDouble(gradient.data[(t + 1) * qkv.stride - i])));
    }
    dq = gradient.Take(0, qkv.q_width);
    dk = gradient.Take(qkv.k_offset(), qkv.kv_width);
    dv = gradient.Take(qkv.v_offset(), qkv.kv_width);
  }
  std::vector<T> o, dq, dk, dv;
  std::vector<float> lse;
};

template <class T>
void ExpectSame(const Result<T>& a, const Result<T>& b) {
  EXPECT_TRUE(SameBits(a.o, b.o)) << "o";
  EXPECT_TRUE(SameBits(a.lse, b.lse)) << "lse";
  EXPECT_TRUE(SameBits(a.dq, b.dq)) << "dq";
  EXPECT_TRUE(SameBits(a.dk, b.dk)) << "dk";
  EXPECT_TRUE(SameBits(a.dv, b.dv)) << "dv";
}

template <class T>
class AttentionTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(AttentionTest, Types);

TYPED_TEST(AttentionTest, AgreesWithTheReference) {
  using T = TypeParam;
  for (const Case& c : Cases()) {
    const Inputs in = RandomInputs<T>(c);
    const reference::AttentionShape shape = ReferenceShape(c);
    const auto forward = reference::Attention(shape, in.q, in.k, in.v);
    const auto gradient = reference::AttentionGradient(shape, in.q, in.k, in.v, in.d_o);
    ForEachVariant([&] {
      SCOPED_TRACE(::testing::Message() << "head_dim " << c.head_dim << ", first segment " << c.lengths[0]);
      const Result<T> actual(c, in);
      ExpectClose(actual.o, forward.o, "o");
      if (shape.tokens() == 1) return;  // one key: the gradients of q and k are zero
      ExpectNear(actual.lse, forward.lse, "lse");
      ExpectClose(actual.dv, gradient.dv, "dv");
      if (kDTypeOf<T> == DType::kF32) {
        ExpectNear(actual.dq, gradient.dq, "dq");
        ExpectNear(actual.dk, gradient.dk, "dk");
      } else {
        // The row sums of do * o are taken of the rounded o, as every backward pass that stores o in bf16
        // does.
        EXPECT_LE(RelativeError(actual.dq, gradient.dq), 1e-2);
        EXPECT_LE(RelativeError(actual.dk, gradient.dk), 1e-2);
      }
    });
  }
}

TYPED_TEST(AttentionTest, RepeatsBitForBit) {
  for (const Case& c : Cases()) {
    const Inputs in = RandomInputs<TypeParam>(c);
    const Result<TypeParam> first(c, in);
    ExpectSame(first, Result<TypeParam>(c, in));
  }
}

TYPED_TEST(AttentionTest, DoesNotDependOnThreads) {
  if (OnCuda()) GTEST_SKIP() << "threads are the CPU's";
  for (const Case& c : Cases()) {
    const Inputs in = RandomInputs<TypeParam>(c);
    const auto alone = [&] {
      const ThreadScope threads(1);
      return Result<TypeParam>(c, in);
    }();
    for (const int count : {2, 5, 16}) {  // with more threads segments are split in the backward pass
      const ThreadScope threads(count);
      ExpectSame(alone, Result<TypeParam>(c, in));
    }
  }
}

// The rows of the segments [first, first + count) of a result's or an input's tokens.
template <class Vector>
Vector Rows(const Vector& all, int64_t begin, int64_t end, int64_t tokens) {
  const int64_t width = all.size() / tokens;
  return Vector(all.begin() + begin * width, all.begin() + end * width);
}

TYPED_TEST(AttentionTest, ASegmentDoesNotDependOnItsPlaceOrNeighbours) {
  using T = TypeParam;
  for (const Case& base : Cases()) {
    Case row = base;
    row.lengths = {41, base.lengths[0], 77, 1};
    const Inputs in = RandomInputs<T>(row);
    const int64_t tokens = 119 + base.lengths[0], begin = 41, end = begin + base.lengths[0];
    Case alone = base;
    alone.lengths = {base.lengths[0]};
    const Inputs part{Rows(in.q, begin, end, tokens), Rows(in.k, begin, end, tokens),
                      Rows(in.v, begin, end, tokens), Rows(in.d_o, begin, end, tokens)};
    Inputs with_nan = in;  // neighbours of NaN must not be seen at all
    for (std::vector<double>* values : {&with_nan.q, &with_nan.k, &with_nan.v, &with_nan.d_o}) {
      const int64_t width = values->size() / tokens;
      std::fill(values->begin(), values->begin() + begin * width, double(kNaN));
      std::fill(values->begin() + end * width, values->end(), double(kNaN));
    }
    const Result<T> expected(alone, part);
    for (const Inputs& inputs : {in, with_nan}) {
      const Result<T> actual(row, inputs);
      EXPECT_TRUE(SameBits(expected.o, Rows(actual.o, begin, end, tokens)));
      EXPECT_TRUE(SameBits(expected.dq, Rows(actual.dq, begin, end, tokens)));
      EXPECT_TRUE(SameBits(expected.dk, Rows(actual.dk, begin, end, tokens)));
      EXPECT_TRUE(SameBits(expected.dv, Rows(actual.dv, begin, end, tokens)));
    }
  }
}

TYPED_TEST(AttentionTest, EmptySegmentsAndLargeScores) {
  using T = TypeParam;
  Case c{{0, 20, 0, 13, 0}, 2, 2, 8};
  Inputs in = RandomInputs<T>(c);
  for (double& value : in.q) value *= 64;  // weights of one key only, and scores of hundreds
  const auto expected = reference::Attention(ReferenceShape(c), in.q, in.k, in.v);
  const Result<T> actual(c, in);
  // A score of hundreds has an error of some 1e-5 in fp32, and a weight the same error relative to itself.
  EXPECT_LE(RelativeError(actual.o, expected.o), 10 * Tolerance<T>(expected.o));
  for (const T value : actual.dq) ASSERT_FALSE(std::isnan(ToDouble(value)));
}

TEST(AttentionReferenceTest, GradientsAgreeWithDifferences) {
  for (Case c : {Case{{5, 3}, 2, 1, 3}, Case{{6}, 2, 2, 2, kFull, 3, 2}, Case{{7}, 1, 1, 2, kCausal, 3}}) {
    Inputs in = RandomInputs<float>(c);
    const reference::AttentionShape shape = ReferenceShape(c);
    const auto loss = [&] { return Dot(in.d_o, reference::Attention(shape, in.q, in.k, in.v).o); };
    const auto gradient = reference::AttentionGradient(shape, in.q, in.k, in.v, in.d_o);
    EXPECT_LT(Gap(gradient.dq, Differences(in.q, loss)), 1e-7);
    EXPECT_LT(Gap(gradient.dk, Differences(in.k, loss)), 1e-7);
    EXPECT_LT(Gap(gradient.dv, Differences(in.v, loss)), 1e-7);
  }
}

// One sequence in a slot of the cache, fed in chunks; returns its outputs [length, heads * head_dim].
template <class T>
struct Cache {
  Cache(const Case& given, int64_t slot_count, int64_t capacity)
      : c(given),
        slots(slot_count),
        max_tokens(capacity),
        k(Poisoned<T>(slots * c.kv_heads * max_tokens * c.head_dim)),
        v(k) {}

  // Appends the tokens' keys and values and attends; token i is row rows[i] of `in`, idle where slot_of[i] <
  // 0.
  std::vector<T> Step(const Inputs& in, const std::vector<int32_t>& rows, const std::vector<int32_t>& slot_of,
                      const std::vector<int32_t>& positions) {
    const int64_t q_width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
    Inputs step;
    for (int32_t row : rows) {
      const auto add = [row](const std::vector<double>& from, int64_t width, std::vector<double>& to) {
        to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
      };
      add(in.q, q_width, step.q), add(in.k, kv_width, step.k), add(in.v, kv_width, step.v);
    }
    const Fused<T> qkv(c, step);
    CachedAttentionShape shape{.tokens = static_cast<int64_t>(rows.size()),
                               .heads = c.heads,
                               .kv_heads = c.kv_heads,
                               .head_dim = c.head_dim,
                               .max_tokens = max_tokens,
                               .slots = slot_of.data(),
                               .positions = positions.data(),
                               .scale = static_cast<float>(ReferenceShape(c).scale),
                               .window = c.window,
                               .soft_cap = c.soft_cap};
    CacheAppend(TestStream(), shape, qkv.At(qkv.k_offset()), qkv.At(qkv.v_offset()), k.data(), v.data());
    std::vector<T> o = Poisoned<T>(rows.size() * q_width);
    CachedAttention(TestStream(), shape, qkv.At(0), k.data(), v.data(), {o.data(), q_width});
    return o;
  }

  std::vector<T> Feed(const Inputs& in, int32_t slot, const std::vector<int32_t>& chunks) {
    std::vector<T> all;
    int32_t position = 0;
    for (int32_t chunk : chunks) {
      std::vector<int32_t> positions(chunk);
      std::iota(positions.begin(), positions.end(), position);
      const std::vector<T> o = Step(in, positions, std::vector<int32_t>(chunk, slot), positions);
      all.insert(all.end(), o.begin(), o.end());
      position += chunk;
    }
    return all;
  }

  Case c;
  int64_t slots, max_tokens;
  std::vector<T> k, v;
};

TYPED_TEST(AttentionTest, CacheAgreesWithTheReferenceHoweverItIsFed) {
  using T = TypeParam;
  const ThreadScope threads(1);  // hundreds of steps too small to share
  std::vector<Case> cases = {
      {{151}, 4, 2, 33}, {{151}, 3, 3, 64, kCausal, 50}, {{151}, 5, 1, 16, kCausal, 0, 4}};
  if (OnCuda()) {  // several chunks of keys, every width of a key group, more heads than a block takes
    cases.insert(cases.end(), {{{600}, 4, 1, 64, kCausal, 0, 0, 8},
                               {{520}, 16, 2, 128, kCausal, 300, 0, 8},
                               {{300}, 9, 1, 80, kCausal, 0, 15, 8},
                               {{530}, 2, 2, 256, kCausal, 0, 0, 8},
                               {{300}, 6, 1, 200}});
  }
  for (const Case& c : cases) {
    SCOPED_TRACE(::testing::Message() << "head_dim " << c.head_dim);
    const int32_t length = c.lengths[0];
    const Inputs in = RandomInputs<T>(c);
    const auto expected = reference::Attention(ReferenceShape(c), in.q, in.k, in.v);
    ForEachVariant([&] {
      const std::vector<T> whole = Cache<T>(c, 3, length + 9).Feed(in, 1, {length});
      ExpectNear(whole, expected.o, "prefill");
      const std::vector<T> chunks = Cache<T>(c, 2, length).Feed(in, 0, {100, 1, 37, length - 138});
      EXPECT_TRUE(SameBits(whole, chunks)) << "chunks";
      const std::vector<T> single = Cache<T>(c, 4, 1000).Feed(in, 3, std::vector<int32_t>(length, 1));
      EXPECT_TRUE(SameBits(whole, single)) << "decode";
    });
  }
}

// A batch of many slots, too small and too large to share out the keys of a row.
TYPED_TEST(AttentionTest, CacheRowsOfABatchAreAsAlone) {
  using T = TypeParam;
  for (const Case& c : {Case{{330}, 4, 2, 64, kCausal, 0, 0, 8}, Case{{270}, 3, 1, 20}}) {
    const Inputs in = RandomInputs<T>(c);
    const int32_t length = c.lengths[0];
    const std::vector<T> expected = Cache<T>(c, 1, length).Feed(in, 0, {length});
    for (const int32_t slots : {5, OnCuda() ? 700 : 20}) {
      Cache<T> cache(c, slots, length + 5);
      std::vector<int32_t> rows, slot_of;
      for (int32_t slot = 0; slot < slots; ++slot) {
        // The first rows of a slot are every other slot's too.
        if (slot > 0) {
          const size_t stride = cache.k.size() / slots;
          std::copy_n(cache.k.begin(), stride, cache.k.begin() + slot * stride);
          std::copy_n(cache.v.begin(), stride, cache.v.begin() + slot * stride);
        } else {
          cache.Feed(in, 0, {length - 1});
        }
        rows.push_back(static_cast<int32_t>(RandomInteger(0, length - 1)));
        slot_of.push_back(slot);
      }
      const std::vector<T> o = cache.Step(in, rows, slot_of, rows);
      for (int32_t slot = 0; slot < slots; ++slot) {
        ASSERT_TRUE(
            SameBits(Rows(o, slot, slot + 1, slots), Rows(expected, rows[slot], rows[slot] + 1, length)))
            << "slot " << slot << " of " << slots;
      }
    }
  }
}

TYPED_TEST(AttentionTest, CacheRowsAreIndependentAndIdleRowsAreZero) {
  using T = TypeParam;
  const Case c{{90}, 4, 2, 20};
  const Inputs first = RandomInputs<T>(c), second = RandomInputs<T>(c);
  const std::vector<T> expected = Cache<T>(c, 1, 90).Feed(first, 0, {90});
  Cache<T> cache(c, 3, 600);
  cache.Feed(first, 2, {70});
  cache.Feed(second, 0, {40});
  const std::vector<int32_t> rows = {70, 40, 71, 72, 5}, slots = {2, 0, 2, 2, -1},
                             positions = {70, 40, 71, 72, 0};
  ExpectThreadIndependent([&] {
    const std::vector<T> o = cache.Step(first, rows, slots, positions);
    for (const auto& [row, position] : {std::pair<int64_t, int64_t>{0, 70}, {2, 71}, {3, 72}}) {
      EXPECT_TRUE(SameBits(Rows(o, row, row + 1, 5), Rows(expected, position, position + 1, 90))) << position;
    }
    for (const T value : Rows(o, 4, 5, 5)) EXPECT_EQ(ToDouble(value), 0.0);
    for (const T value : o) EXPECT_FALSE(std::isnan(ToDouble(value)));
    return o;
  });
}

}  // namespace
}  // namespace tanren::kernels::testing
