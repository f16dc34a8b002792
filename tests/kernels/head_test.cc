#include "kernels/head.h"

#include <gtest/gtest.h>

#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/head.h"

namespace tanren::kernels::testing {
namespace {

struct Case {
  int64_t rows;
  int64_t vocab;  // of all shards together, without padding
  float soft_cap;
  float temperature;
};
// The last ones are wider than a block of threads takes at once, with rows that are whole vectors (on one
// rank) and rows that are not.
const Case kCases[] = {{1, 1, 0, 1},       {5, 37, 0, 1},       {3, 129, 30, 1},      {7, 1000, 0, 0.7f},
                       {4, 515, 15, 1.3f}, {3, 16381, 0, 1.1f}, {2, 20477, 25, 0.8f}, {3, 9001, 0, 1}};

struct Problem {
  explicit Problem(const Case& given) : c(given), z(NormalOf<float>(c.rows * c.vocab, 4)) {
    for (int64_t r = 0; r < c.rows; ++r) targets.push_back(RandomInteger(0, c.vocab - 1));
    if (c.rows > 2) targets[1] = -1;
    dlogp = NormalOf<float>(c.rows), dlse = NormalOf<float>(c.rows), dentropy = NormalOf<float>(c.rows);
  }
  std::vector<double> Row(int64_t r) const {
    return {z.begin() + r * c.vocab, z.begin() + (r + 1) * c.vocab};
  }

  Case c;
  std::vector<double> z, dlogp, dlse, dentropy;
  std::vector<int32_t> targets;
};

// The vocabulary over `count` ranks of equal padded width; the last ones may hold no real column at all.
struct Shards {
  Shards(const Problem& p, int64_t count) : width((p.c.vocab + count - 1) / count + 3) {
    for (int64_t s = 0; s < count; ++s) {
      LogitShard shard{.rows = p.c.rows, .vocab = width, .first_id = s * width};
      shard.valid = std::clamp<int64_t>(p.c.vocab - s * width, 0, width);
      shard.soft_cap = p.c.soft_cap;
      shard.temperature = p.c.temperature;
      shard.targets = p.targets.data();
      std::vector<float> local(p.c.rows * width, kNaN);  // padding must count for nothing
      for (int64_t r = 0; r < p.c.rows; ++r) {
        for (int64_t v = 0; v < shard.valid; ++v) {
          local[r * width + v] = static_cast<float>(p.z[r * p.c.vocab + s * width + v]);
        }
      }
      shards.push_back(shard);
      logits.push_back(local);
    }
  }
  int64_t width;
  std::vector<LogitShard> shards;
  std::vector<std::vector<float>> logits;
};

struct Statistics {
  std::vector<float> logp, lse, entropy;
};

Statistics Reduce(const Problem& p, const Shards& s) {
  const int64_t rows = p.c.rows;
  std::vector<float> max(rows, -kInfinity), sums(3 * rows, 0.0f);
  if (s.shards.size() == 1) {
    // One pass for a whole vocabulary: the maximum exactly, the sums to rounding.
    std::vector<float> fused_max = Poisoned<float>(rows), fused_sums = Poisoned<float>(3 * rows);
    LogitRowMaxAndSums(TestStream(), s.shards[0], s.logits[0].data(), fused_max.data(), fused_sums.data());
    std::vector<float> split_max = Poisoned<float>(rows), split_sums = Poisoned<float>(3 * rows);
    LogitRowMax(TestStream(), s.shards[0], s.logits[0].data(), split_max.data());
    LogitRowSums(TestStream(), s.shards[0], s.logits[0].data(), split_max.data(), split_sums.data());
    EXPECT_TRUE(SameBits(fused_max, split_max));
    ExpectNear(fused_sums, ToDoubles(split_sums), "sums in one pass");
  }
  for (size_t i = 0; i < s.shards.size(); ++i) {
    std::vector<float> local = Poisoned<float>(rows);
    LogitRowMax(TestStream(), s.shards[i], s.logits[i].data(), local.data());
    for (int64_t r = 0; r < rows; ++r) {
      EXPECT_FALSE(std::isnan(local[r]));
      max[r] = std::max(max[r], local[r]);
    }
  }
  for (size_t i = 0; i < s.shards.size(); ++i) {
    std::vector<float> local = Poisoned<float>(3 * rows);
    LogitRowSums(TestStream(), s.shards[i], s.logits[i].data(), max.data(), local.data());
    for (int64_t r = 0; r < 3 * rows; ++r) sums[r] += local[r];
  }
  Statistics out{Poisoned<float>(rows), Poisoned<float>(rows), Poisoned<float>(rows)};
  TokenStatistics(TestStream(), rows, max.data(), sums.data(), out.logp.data(), out.lse.data(),
                  out.entropy.data());
  return out;
}

// The gradient put together from all shards, padding checked to be zero.
template <class T>
std::vector<T> Gradient(const Problem& p, const Shards& s, const Statistics& statistics) {
  const std::vector<float> dlogp = To<float>(p.dlogp), dlse = To<float>(p.dlse),
                           dentropy = To<float>(p.dentropy);
  std::vector<T> whole(p.c.rows * p.c.vocab);
  for (size_t i = 0; i < s.shards.size(); ++i) {
    std::vector<T> local = Poisoned<T>(p.c.rows * s.width);
    LogitGradient(TestStream(), s.shards[i], s.logits[i].data(), statistics.lse.data(),
                  statistics.entropy.data(), dlogp.data(), dlse.data(), dentropy.data(), local.data());
    for (int64_t r = 0; r < p.c.rows; ++r) {
      for (int64_t v = 0; v < s.width; ++v) {
        if (v < s.shards[i].valid) {
          whole[r * p.c.vocab + s.shards[i].first_id + v] = local[r * s.width + v];
        } else {
          EXPECT_EQ(ToDouble(local[r * s.width + v]), 0.0);
        }
      }
    }
  }
  return whole;
}

std::vector<double> ReferenceGradient(const Problem& p) {
  std::vector<double> gradient;
  for (int64_t r = 0; r < p.c.rows; ++r) {
    const auto row = reference::LogitGradient<double>(p.Row(r), p.c.soft_cap, p.c.temperature, p.targets[r],
                                                      p.dlogp[r], p.dlse[r], p.dentropy[r]);
    gradient.insert(gradient.end(), row.begin(), row.end());
  }
  return gradient;
}

TEST(HeadTest, ShardsTogetherAgreeWithTheReference) {
  ForEachInstructionSet([] {
    for (const Case& c : kCases) {
      const Problem p(c);
      std::vector<double> logp, lse, entropy;
      for (int64_t r = 0; r < c.rows; ++r) {
        const auto row = reference::Statistics<double>(p.Row(r), c.soft_cap, c.temperature, p.targets[r]);
        logp.push_back(row.logp), lse.push_back(row.lse), entropy.push_back(row.entropy);
      }
      const std::vector<double> gradient = ReferenceGradient(p);
      for (const int64_t count : {1, 2, 4}) {
        SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.vocab << " over " << count);
        const Shards shards(p, count);
        Statistics actual = Reduce(p, shards);
        for (int64_t r = 0; r < c.rows; ++r) {
          if (p.targets[r] < 0) actual.logp[r] = 0;  // not meaningful
        }
        if (c.vocab > 1) ExpectNear(actual.logp, logp, "logp");
        ExpectNear(actual.lse, lse, "lse");
        for (int64_t r = 0; r < c.rows; ++r) EXPECT_NEAR(actual.entropy[r], entropy[r], 2e-5);
        if (c.vocab == 1) continue;  // its gradient is dlse alone; the others cancel
        ExpectNear(Gradient<float>(p, shards, actual), gradient, "float gradient");
        ExpectNear(Gradient<BFloat16>(p, shards, actual), gradient, "bf16 gradient");
      }
    }
  });
}

TEST(HeadTest, GradientMayTakeTheLogitsPlaceAndSeedsMayBeAbsent) {
  Problem p({6, 333, 0, 1});
  std::fill(p.dlse.begin(), p.dlse.end(), 0.0);
  std::fill(p.dentropy.begin(), p.dentropy.end(), 0.0);
  Shards shards(p, 1);
  const Statistics statistics = Reduce(p, shards);
  const std::vector<float> apart = Gradient<float>(p, shards, statistics), dlogp = To<float>(p.dlogp);
  std::vector<float>& logits = shards.logits[0];
  LogitGradient(TestStream(), shards.shards[0], logits.data(), statistics.lse.data(),
                statistics.entropy.data(), dlogp.data(), nullptr, nullptr, logits.data());
  for (int64_t r = 0; r < p.c.rows; ++r) {
    for (int64_t v = 0; v < p.c.vocab; ++v) {
      ASSERT_EQ(logits[r * shards.width + v], apart[r * p.c.vocab + v]);
    }
  }
  ExpectNear(apart, ReferenceGradient(p), "gradient");
}

TEST(HeadTest, LogitsOfMinusInfinityCountForNothing) {
  const std::vector<float> logits = {1.0f, -kInfinity, 2.0f, -kInfinity, 0.5f};
  const std::vector<int32_t> target = {2};
  const LogitShard shard{.rows = 1, .vocab = 5, .valid = 5, .targets = target.data()};
  ForEachInstructionSet([&] {
    std::vector<float> max = Poisoned<float>(1), sums = Poisoned<float>(3), logp = Poisoned<float>(1),
                       lse = Poisoned<float>(1), entropy = Poisoned<float>(1);
    LogitRowMaxAndSums(TestStream(), shard, logits.data(), max.data(), sums.data());
    TokenStatistics(TestStream(), 1, max.data(), sums.data(), logp.data(), lse.data(), entropy.data());
    const auto expected = reference::Statistics<double>({1, 2, 0.5}, 0, 1, 1);
    EXPECT_NEAR(logp[0], expected.logp, 1e-6);
    EXPECT_NEAR(entropy[0], expected.entropy, 1e-6);
    const std::vector<float> one = {1};
    std::vector<float> gradient = Poisoned<float>(5);
    LogitGradient(TestStream(), shard, logits.data(), lse.data(), entropy.data(), one.data(), one.data(),
                  one.data(), gradient.data());
    const auto exact = reference::LogitGradient<double>({1, 2, 0.5}, 0, 1, 1, 1, 1, 1);
    ExpectNear(gradient, {exact[0], 0, exact[1], 0, exact[2]}, "gradient");
  });
}

TEST(HeadTest, DoesNotDependOnThreads) {
  const Problem p({37, 1003, 20, 0.9f});
  const Shards shards(p, 2);
  const Statistics statistics = Reduce(p, shards);
  ExpectThreadIndependent([&] { return Reduce(p, shards).entropy; });
  ExpectThreadIndependent([&] { return Gradient<float>(p, shards, statistics); });
}

TEST(HeadReferenceTest, GradientAgreesWithDifferences) {
  for (const double soft_cap : {0.0, 3.0}) {
    std::vector<double> z = NormalDoubles(9, 2);
    const std::vector<double> seed = NormalDoubles(3);
    const auto loss = [&] {
      const auto row = reference::Statistics(z, soft_cap, 0.8, 4);
      return seed[0] * row.logp + seed[1] * row.lse + seed[2] * row.entropy;
    };
    EXPECT_LT(
        Gap(reference::LogitGradient(z, soft_cap, 0.8, 4, seed[0], seed[1], seed[2]), Differences(z, loss)),
        1e-7);
  }
}

template <class T>
class ScalarHeadTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(ScalarHeadTest, Types);

// Sums may cancel, so their error is held against the sums of their terms' sizes.
void ExpectSumsNear(const std::vector<float>& actual, const std::vector<double>& expected,
                    const std::vector<double>& sizes, const char* what) {
  double gap = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    gap += (actual.at(i) - expected[i]) * (actual[i] - expected[i]);
    size += sizes.at(i) * sizes[i];
  }
  EXPECT_LE(std::sqrt(gap), 1e-6 * std::sqrt(size)) << what;
}

TYPED_TEST(ScalarHeadTest, AgreesWithTheSums) {
  using T = TypeParam;
  ForEachInstructionSet([] {
    for (const auto& [rows, width] :
         {std::pair<int64_t, int64_t>{1, 5}, {67, 33}, {4200, 7}, {130, 769}, {65, 768}, {200, 2056}}) {
      const std::vector<double> x = NormalOf<T>(rows * width), weight = NormalOf<T>(width);
      const std::vector<double> dy = NormalOf<float>(rows), dx0 = NormalOf<T>(rows * width);
      std::vector<double> y(rows, 0.75), dx = dx0, dweight(width, 0.5);
      std::vector<double> y_sizes = y, dx_sizes(rows * width), dweight_sizes = dweight;
      double dbias = -1;
      for (int64_t r = 0; r < rows; ++r) {
        dbias += dy[r];
        for (int64_t i = 0; i < width; ++i) {
          const int64_t at = r * width + i;
          y[r] += x[at] * weight[i];
          y_sizes[r] += std::abs(x[at] * weight[i]);
          dx[at] += dy[r] * weight[i];
          dx_sizes[at] = std::abs(dx0[at]) + std::abs(dy[r] * weight[i]);
          dweight[i] += dy[r] * x[at];
          dweight_sizes[i] += std::abs(dy[r] * x[at]);
        }
      }
      const std::vector<T> typed_x = To<T>(x), typed_weight = To<T>(weight);
      const std::vector<float> typed_dy = To<float>(dy);
      std::vector<float> actual_y = Poisoned<float>(rows), actual_dx = To<float>(dx0),
                         actual_dweight(width, 0.5f), actual_dbias = {-1};
      ScalarHeadForward(TestStream(), rows, width, typed_x.data(), typed_weight.data(), 0.75f,
                        actual_y.data());
      ScalarHeadBackward(TestStream(), rows, width, typed_dy.data(), typed_x.data(), typed_weight.data(),
                         actual_dx.data(), actual_dweight.data(), actual_dbias.data());
      ExpectSumsNear(actual_y, y, y_sizes, "y");
      ExpectSumsNear(actual_dx, dx, dx_sizes, "dx");
      ExpectSumsNear(actual_dweight, dweight, dweight_sizes, "dweight");
      EXPECT_NEAR(actual_dbias[0], dbias, 1e-5 * rows);
      std::vector<T> same_type = To<T>(dx0);
      ScalarHeadBackward(TestStream(), rows, width, typed_dy.data(), typed_x.data(), typed_weight.data(),
                         same_type.data(), actual_dweight.data(), nullptr);
      ExpectNear(same_type, dx, "dx in the dtype of x");
      ExpectThreadIndependent([&, rows = rows, width = width] {
        std::vector<float> sums(width, 0.0f), gradient(rows * width, 0.0f);
        ScalarHeadBackward(TestStream(), rows, width, typed_dy.data(), typed_x.data(), typed_weight.data(),
                           gradient.data(), sums.data(), nullptr);
        return sums;
      });
    }
  });
}

}  // namespace
}  // namespace tanren::kernels::testing
