#include "kernels/embedding.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/test_stream.h"
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
using testing::TestStream;
using testing::ToDoubles;

struct Case {
  int64_t tokens, width, first_id, rows;
};
constexpr Case kCases[] = {{1, 1, 0, 1},       {3, 5, 0, 2},       {17, 64, 100, 7},
                           {129, 65, 0, 1000}, {300, 770, 50, 31}, {70, 1032, 3, 40}};

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
  EmbeddingForward(TestStream(), Args(c, ids), table.data(), 1.5f, y.data(), accumulate);
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
  EmbeddingForward(TestStream(), {.tokens = 3, .width = 33, .ids = ids.data(), .first_id = 0, .rows = 3},
                   table.data(), 1.0f, y.data(), false);
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
    EmbeddingBackward(TestStream(), Args(c, ids), dy.data(), 0.5f, dtable.data());
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

// Many tokens of few and of many rows: long runs, several tiles, one to three passes of a sort, few tokens
// inside the shard.
TEST(Embedding, BackwardOfManyTokens) {
  CheckBackward<float>({24000, 64, 0, 1});
  CheckBackward<BFloat16>({9000, 12, 20, 3});
  CheckBackward<float>({20011, 4, 0, 512});
  CheckBackward<BFloat16>({40009, 7, 1000, 513});
  CheckBackward<float>({3000, 256, 0, 4096});
  CheckBackward<float>({3000, 4, 7, 262145});
  CheckBackward<BFloat16>({3000, 4, 0, 700001});
  Case seldom{4000, 16, 0, 100};
  auto ids = Ids(seldom);
  for (size_t t = 0; t < ids.size(); ++t) ids[t] = t % 500 == 499 ? 17 : -1;
  std::vector<float> dy(ids.size() * seldom.width, 0.25f), dtable(seldom.rows * seldom.width);
  EmbeddingBackward(TestStream(), Args(seldom, ids), dy.data(), 1.0f, dtable.data());
  for (int64_t i = 0; i < seldom.rows * seldom.width; ++i) {
    ASSERT_EQ(dtable[i], i / seldom.width == 17 ? 2.0f : 0.0f) << i;
  }
}

// Few tokens a row: every device adds them one by one. Half a value is exact, fused or not.
TEST(Embedding, BackwardOfShortRunsIsTheSameOnEveryDevice) {
  const Case c{20000, 12, 0, 5000};
  const auto ids = Ids(c);
  const auto dy = RandomNormal<float>(c.tokens * c.width);
  const auto before = RandomNormal<float>(c.rows * c.width);
  auto here = before, on_cpu = before;
  EmbeddingBackward(TestStream(), Args(c, ids), dy.data(), 0.5f, here.data());
  EmbeddingBackward(Stream{}, Args(c, ids), dy.data(), 0.5f, on_cpu.data());
  EXPECT_TRUE(SameBits(here, on_cpu));
}

// Which other rows the tokens look up changes no bit of a row.
TEST(Embedding, BackwardOfARowIgnoresOtherRows) {
  constexpr int64_t kTokens = 3000, kWidth = 20, kRows = 50, kRow = 31;
  const auto dy = RandomNormal<float>(kTokens * kWidth);
  std::vector<float> first;
  for (int repeat = 0; repeat < 4; ++repeat) {
    std::vector<int32_t> ids(kTokens);
    for (int64_t t = 0; t < kTokens; ++t) {
      const bool is_mine = t % 13 == 5 || (t > 900 && t < 1100);
      // In turn: others before and after, only before, only after, outside of the shard.
      const int64_t low = repeat == 2 ? kRow + 1 : 0;
      const int64_t high = repeat == 1 ? kRow - 1 : kRows - 1;
      int64_t other = repeat == 3 ? kRows : RandomInteger(low, high);
      if (other == kRow) ++other;
      ids[t] = static_cast<int32_t>(is_mine ? kRow : other);
    }
    std::vector<float> dtable(kRows * kWidth, 1.0f);
    EmbeddingBackward(TestStream(),
                      {.tokens = kTokens, .width = kWidth, .ids = ids.data(), .first_id = 0, .rows = kRows},
                      dy.data(), 0.7f, dtable.data());
    const std::vector<float> mine(dtable.begin() + kRow * kWidth, dtable.begin() + (kRow + 1) * kWidth);
    if (repeat == 0) first = mine;
    EXPECT_TRUE(SameBits(mine, first)) << repeat;
  }
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
    EmbeddingBackward(TestStream(),
                      {.tokens = kTokens, .width = kWidth, .ids = ids.data(), .first_id = 0, .rows = 5},
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
  GatherRows(TestStream(), count, width, indices.data(), table.data(), gathered.data());
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
  ScatterAddRows(TestStream(), count, width, indices.data(), in.data(), out.data());
  ExpectNear(out, expected, "out");
}

TEST(Rows, GatherAndScatter) {
  ForEachInstructionSet([] {
    for (const int64_t count : {0, 1, 7, 300}) {
      for (const int64_t width : {1, 65, 200, 1040}) {
        CheckGatherScatter<float, float>(count, width);
        CheckGatherScatter<BFloat16, BFloat16>(count, width);
        CheckGatherScatter<float, BFloat16>(count, width);
      }
    }
  });
}

}  // namespace
}  // namespace tanren::kernels
