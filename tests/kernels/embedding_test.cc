#include "kernels/embedding.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/testing.h"
#include "tests/reference/elementwise.h"

namespace tanren::kernels {
namespace {

using testing::ExpectNear;
using testing::ExpectThreadIndependent;
using testing::ForEachInstructionSet;
using testing::Generator;
using testing::Poisoned;
using testing::RandomInteger;
using testing::RandomNormal;
using testing::RelativeError;
using testing::SameBits;
using testing::ToDoubles;

struct Case {
  int64_t tokens, width, first_id, rows;
};
constexpr Case kCases[] = {
    {1, 1, 0, 1}, {3, 5, 0, 2}, {17, 64, 100, 7}, {129, 65, 0, 1000}, {300, 770, 50, 31}};

// Ids inside the shard mostly, outside on both sides sometimes, each repeated.
std::vector<int32_t> Ids(const Case& c) {
  std::vector<int32_t> ids(c.tokens);
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(RandomInteger(std::max<int64_t>(0, c.first_id - 3), c.first_id + c.rows + 2));
  }
  return ids;
}

EmbeddingArgs Args(const Case& c, const std::vector<int32_t>& ids) {
  return {.tokens = c.tokens, .width = c.width, .ids = ids.data(), .first_id = c.first_id, .rows = c.rows};
}

template <class T, class Y>
void CheckForward(const Case& c, bool accumulate) {
  const auto ids = Ids(c);
  const auto table = RandomNormal<T>(c.rows * c.width);
  auto y = accumulate ? RandomNormal<Y>(c.tokens * c.width) : Poisoned<Y>(c.tokens * c.width);
  auto expected = accumulate ? ToDoubles(y) : std::vector<double>(y.size(), 0.0);
  reference::EmbeddingForward(c.width, ids, c.first_id, c.rows, ToDoubles(table), 1.5, expected);
  EmbeddingForward({}, Args(c, ids), table.data(), 1.5f, y.data(), accumulate);
  ExpectNear(y, expected, "y");
}

TEST(Embedding, ForwardMatchesDouble) {
  ForEachInstructionSet([] {
    for (const Case& c : kCases) {
      for (const bool accumulate : {false, true}) {
        CheckForward<float, float>(c, accumulate);
        CheckForward<BFloat16, BFloat16>(c, accumulate);
        CheckForward<BFloat16, float>(c, accumulate);
        CheckForward<float, BFloat16>(c, accumulate);
      }
    }
  });
}

TEST(Embedding, UnitScaleCopiesBits) {
  const std::vector<int32_t> ids = {2, 0, 1};
  const auto table = RandomNormal<BFloat16>(3 * 33);
  auto y = Poisoned<BFloat16>(3 * 33);
  EmbeddingForward({}, {.tokens = 3, .width = 33, .ids = ids.data(), .first_id = 0, .rows = 3}, table.data(),
                   1.0f, y.data(), false);
  for (int t = 0; t < 3; ++t) {
    for (int c = 0; c < 33; ++c) EXPECT_EQ(y[t * 33 + c].bits, table[ids[t] * 33 + c].bits);
  }
}

template <class T>
void CheckBackward(const Case& c) {
  const auto ids = Ids(c);
  const auto dy = RandomNormal<T>(c.tokens * c.width);
  const auto before = RandomNormal<float>(c.rows * c.width);
  auto expected = ToDoubles(before);
  reference::EmbeddingBackward(c.width, ids, c.first_id, c.rows, ToDoubles(dy), 0.5, expected);
  const auto run = [&] {
    auto dtable = before;
    EmbeddingBackward({}, Args(c, ids), dy.data(), 0.5f, dtable.data());
    return dtable;
  };
  EXPECT_LE(RelativeError(run(), expected), 1e-5);
  ExpectThreadIndependent(run);
}

TEST(Embedding, BackwardMatchesDoubleOnAnyThreads) {
  ForEachInstructionSet([] {
    for (const Case& c : kCases) {
      CheckBackward<float>(c);
      CheckBackward<BFloat16>(c);
    }
    // Enough work for threads to share, one id taking most of it.
    Case heavy{2048, 300, 0, 5000};
    CheckBackward<float>(heavy);
    heavy.rows = 1;
    CheckBackward<BFloat16>(heavy);
  });
}

// Sums go in token order: the rounding of (big + 1) - big tells.
TEST(Embedding, BackwardSumsInTokenOrder) {
  constexpr int64_t kWidth = 600, kTokens = 96;
  const std::vector<int32_t> ids(kTokens, 3);
  std::vector<float> dy(kTokens * kWidth);
  for (int64_t t = 0; t < kTokens; ++t) {
    const float value[] = {1e8f, 1.0f, -1e8f};
    std::fill_n(dy.begin() + t * kWidth, kWidth, value[t % 3]);
  }
  for (const int threads : {1, 2, 5}) {
    const testing::ThreadScope scope(threads);
    std::vector<float> dtable(5 * kWidth);
    EmbeddingBackward({}, {.tokens = kTokens, .width = kWidth, .ids = ids.data(), .first_id = 0, .rows = 5},
                      dy.data(), 1.0f, dtable.data());
    for (int64_t c = 0; c < kWidth; ++c) ASSERT_EQ(dtable[3 * kWidth + c], 0.0f);
  }
}

template <class In, class Out>
void CheckGatherScatter(int64_t count, int64_t width) {
  const int64_t rows = count + 5;
  std::vector<int32_t> indices(rows);
  std::iota(indices.begin(), indices.end(), 0);
  std::shuffle(indices.begin(), indices.end(), Generator());
  indices.resize(count);
  const auto table = RandomNormal<In>(rows * width);
  auto gathered = Poisoned<Out>(count * width);
  GatherRows({}, count, width, indices.data(), table.data(), gathered.data());
  for (int64_t i = 0; i < count * width; ++i) {
    const In from = table[indices[i / width] * width + i % width];
    ASSERT_EQ(static_cast<float>(gathered[i]),
              static_cast<float>(static_cast<Out>(static_cast<float>(from))));
  }
  const auto in = RandomNormal<In>(count * width);
  auto out = RandomNormal<Out>(rows * width);
  auto expected = ToDoubles(out);
  for (int64_t i = 0; i < count * width; ++i)
    expected[indices[i / width] * width + i % width] += testing::ToDouble(in[i]);
  ScatterAddRows({}, count, width, indices.data(), in.data(), out.data());
  ExpectNear(out, expected, "out");
}

TEST(Rows, GatherAndScatter) {
  ForEachInstructionSet([] {
    for (const int64_t count : {0, 1, 7, 300}) {
      for (const int64_t width : {1, 65, 200}) {
        CheckGatherScatter<float, float>(count, width);
        CheckGatherScatter<BFloat16, BFloat16>(count, width);
        CheckGatherScatter<float, BFloat16>(count, width);
      }
    }
  });
}

}  // namespace
}  // namespace tanren::kernels
