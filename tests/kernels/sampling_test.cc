#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"
#include "kernels/random.h"
#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/sampling.h"

namespace tanren::kernels {
namespace {

using testing::ForEachInstructionSet;
using testing::Generator;
using testing::kInfinity;
using testing::kNaN;
using testing::RandomInteger;
using testing::RandomNormal;
using testing::TestStream;

// One draw for each of `params`, all from the same logits: rows with a stride of zero. Rows of odd width do
// not begin where a vector could.
std::vector<SampleResult> SampleMany(const std::vector<float>& logits,
                                     const std::vector<SamplingParams>& params) {
  const int64_t vocab = static_cast<int64_t>(logits.size()), shift = vocab % 2;
  std::vector<float> row(shift + vocab, kNaN);
  std::copy(logits.begin(), logits.end(), row.begin() + shift);
  std::vector<SampleResult> results(params.size(), SampleResult{-7, kNaN});
  SampleTokens(TestStream(), static_cast<int64_t>(params.size()), vocab, 0, row.data() + shift, params.data(),
               results.data());
  return results;
}

SampleResult SampleOne(const std::vector<float>& logits, const SamplingParams& params) {
  return SampleMany(logits, {params})[0];
}

// Probabilities are made in fp32 by the kernels: nearer to a boundary than this, rounding may decide.
constexpr double kClose = 5e-6;

// The token at the random number in the sorted distribution; -2 where rounding may decide.
int32_t ExpectedToken(const reference::SortedDistribution& sorted, const SamplingParams& params) {
  const double u = RandomUniform(params.seed, params.stream_id, params.index);
  double sum = 0;
  for (size_t i = 0; i < sorted.order.size(); ++i) {
    sum += sorted.probability[i];
    if (std::fabs(sum - u) < kClose) return -2;
    if (sum > u) return sorted.order[i];
  }
  return -2;
}

// True where the set kept by top-p hangs on rounding.
bool TopPIsClose(const std::vector<float>& logits, const SamplingParams& params) {
  const auto sorted = reference::SortDistribution(logits, params.temperature, params.top_k, 1.0);
  double sum = 0;
  for (const double p : sorted.probability) {
    sum += p;
    if (std::fabs(sum - params.top_p) < kClose) return true;
  }
  return false;
}

void CheckDraws(const std::vector<float>& logits, const SamplingParams& params, int draws) {
  if (params.top_p < 1 && TopPIsClose(logits, params)) return;
  const auto sorted = reference::SortDistribution(logits, params.temperature, params.top_k, params.top_p);
  std::vector<SamplingParams> each(draws, params);
  for (int i = 0; i < draws; ++i) each[i].index = i;
  const std::vector<SampleResult> results = SampleMany(logits, each);
  for (int i = 0; i < draws; ++i) {
    const int32_t expected = ExpectedToken(sorted, each[i]);
    if (expected == -2) continue;
    const SampleResult result = results[i];
    ASSERT_GE(result.token, 0);
    // Logits that differ by a rounding of logit / temperature may change places.
    const float gap = result.token == expected ? 0.0f : std::fabs(logits[result.token] - logits[expected]);
    ASSERT_LE(gap, 2e-7 * (1 + std::fabs(logits[expected])))
        << "token " << result.token << " for " << expected << ", temperature " << params.temperature
        << " top_k " << params.top_k << " top_p " << params.top_p << " draw " << i;
    ASSERT_NEAR(result.logp, sorted.logp[result.token], 1e-5 * (1 + std::fabs(sorted.logp[result.token])));
  }
}

TEST(SampleTokens, DrawsTheTokenOfTheSortedDistribution) {
  ForEachInstructionSet([] {
    for (const int64_t vocab : {1, 2, 13, 64, 65, 1009, 5000}) {
      for (const float spread : {0.01f, 1.0f, 5.0f, 40.0f}) {
        const auto logits = RandomNormal<float>(vocab, spread);
        const uint64_t seed = RandomInteger(0, 1 << 30);
        for (const float temperature : {1.0f, 0.3f, 1.7f}) {
          CheckDraws(logits, {.temperature = temperature, .seed = seed}, 12);
          CheckDraws(logits, {.temperature = temperature, .top_k = 7, .seed = seed}, 6);
          CheckDraws(logits, {.temperature = temperature, .top_p = 0.8f, .seed = seed}, 6);
          CheckDraws(logits, {.temperature = temperature, .top_k = 40, .top_p = 0.5f, .seed = seed}, 6);
        }
      }
    }
  });
}

// Vocabularies of which only the whole row decides: too flat for a list of the likely tokens, or cut far
// down.
TEST(SampleTokens, FlatAndDeeplyCutDistributions) {
  ForEachInstructionSet([] {
    for (const int64_t vocab : {30000, 50257}) {
      for (const float spread : {0.0f, 0.001f, 0.5f, 4.0f}) {
        auto logits = RandomNormal<float>(vocab, 1);
        for (float& z : logits) z *= spread;
        const uint64_t seed = RandomInteger(0, 1 << 30);
        CheckDraws(logits, {.temperature = 0.9f, .seed = seed}, 10);
        CheckDraws(logits, {.temperature = 1, .top_k = 20000, .seed = seed}, 4);
        CheckDraws(logits, {.temperature = 1, .top_p = 0.97f, .seed = seed}, 4);
        CheckDraws(logits, {.temperature = 2, .top_k = 9000, .top_p = 0.5f, .seed = seed}, 4);
        CheckDraws(logits, {.temperature = 1e30f, .seed = seed}, 4);
      }
    }
  });
}

// Many equal logits: equal tokens stand in the order of their ids.
TEST(SampleTokens, TiesGoByLowerId) {
  ForEachInstructionSet([] {
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<float> logits(1 + RandomInteger(0, 300));
      for (float& z : logits) z = static_cast<float>(RandomInteger(-2, 2));
      if (trial % 2 == 0) std::replace(logits.begin(), logits.end(), 0.0f, -0.0f);
      const uint64_t seed = RandomInteger(0, 1 << 30);
      CheckDraws(logits, {.seed = seed}, 10);
      CheckDraws(logits, {.top_k = 5, .seed = seed}, 10);
      CheckDraws(logits, {.top_p = 0.6f, .seed = seed}, 10);
      const auto first = std::max_element(logits.begin(), logits.end()) - logits.begin();
      EXPECT_EQ(SampleOne(logits, {.temperature = 0}).token, first);
    }
  });
}

TEST(SampleTokens, GreedyTakesTheFirstLargestAndItsLogpAtOne) {
  ForEachInstructionSet([] {
    for (const int64_t vocab : {1, 5, 16, 17, 1009, 70001}) {
      auto logits = RandomNormal<float>(vocab, 3);
      const auto sorted = reference::SortDistribution(logits, 1, 0, 1);
      const SampleResult result = SampleOne(logits, {.temperature = 0, .top_k = 3, .top_p = 0.1f});
      EXPECT_EQ(result.token, sorted.order[0]);
      EXPECT_NEAR(result.logp, sorted.logp[result.token], 1e-5);
    }
  });
}

TEST(SampleTokens, TinyTemperatureIsGreedy) {
  const auto logits = RandomNormal<float>(500);
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  for (const float temperature : {1e-6f, 1e-30f, std::numeric_limits<float>::denorm_min()}) {
    for (uint64_t i = 0; i < 20; ++i) {
      EXPECT_EQ(SampleOne(logits, {.temperature = temperature, .seed = 4, .index = i}).token, best);
    }
  }
}

TEST(SampleTokens, InfiniteLogits) {
  ForEachInstructionSet([] {
    std::vector<float> logits = RandomNormal<float>(100);
    for (int i = 0; i < 100; i += 3) logits[i] = -kInfinity;  // never drawn
    CheckDraws(logits, {.temperature = 50, .seed = 1}, 50);
    CheckDraws(logits, {.temperature = 50, .top_k = 99, .seed = 1}, 50);
    logits[8] = logits[40] = kInfinity;  // share everything
    CheckDraws(logits, {.seed = 2}, 50);
    CheckDraws(logits, {.top_k = 1, .seed = 2}, 5);
    const SampleResult greedy = SampleOne(logits, {.temperature = 0});
    EXPECT_EQ(greedy.token, 8);
    EXPECT_NEAR(greedy.logp, std::log(0.5), 1e-6);
    const float largest = std::numeric_limits<float>::max();
    CheckDraws({largest, -largest, largest}, {.seed = 3}, 20);
  });
}

TEST(SampleTokens, NoDistributionNoToken) {
  ForEachInstructionSet([] {
    for (const int64_t vocab : {1, 7, 33, 1000}) {
      for (const int64_t place : {int64_t{0}, vocab / 2, vocab - 1}) {
        for (const float temperature : {0.0f, 1.0f}) {
          auto logits = RandomNormal<float>(vocab);
          logits[place] = kNaN;
          EXPECT_EQ(SampleOne(logits, {.temperature = temperature}).token, -1);
          logits.assign(vocab, -kInfinity);
          EXPECT_EQ(SampleOne(logits, {.temperature = temperature}).token, -1);
        }
      }
    }
  });
}

// Rows with a stride and parameters of their own, each the same as alone, on any number of threads.
TEST(SampleTokens, RowsAreIndependent) {
  constexpr int64_t kRows = 1100, kVocab = 301;
  for (const int64_t stride : {310, 312}) {
    std::vector<float> logits(kRows * stride, kNaN);
    std::vector<SamplingParams> params(kRows);
    std::vector<SampleResult> alone;
    for (int64_t row = 0; row < kRows; ++row) {
      const auto z = RandomNormal<float>(kVocab, 2);
      std::copy(z.begin(), z.end(), logits.begin() + row * stride);
      params[row] = {.temperature = 0.5f * static_cast<float>(row % 4),
                     .top_k = static_cast<int32_t>(row % 5) * 10,
                     .top_p = row % 2 ? 0.9f : 1.0f,
                     .seed = 5,
                     .stream_id = static_cast<uint64_t>(row),
                     .index = 77};
      alone.push_back(SampleOne(z, params[row]));
    }
    for (const int threads : {1, 2, 5}) {
      const testing::ThreadScope scope(threads);
      std::vector<SampleResult> results(kRows);
      SampleTokens(TestStream(), kRows, kVocab, stride, logits.data(), params.data(), results.data());
      for (int64_t row = 0; row < kRows; ++row) {
        EXPECT_EQ(results[row].token, alone[row].token);
        EXPECT_EQ(results[row].logp, alone[row].logp);
      }
    }
  }
}

struct Discouraged {
  std::vector<float> logits;
  std::vector<TokenPenalty> penalties;
  std::vector<SampleResult> results;  // one for each of the parameters
};

// Draws as often as there are parameters from copies of one row, each with the same penalties; every second
// row has none.
Discouraged SampleDiscouraged(const std::vector<float>& row, const std::vector<TokenPenalty>& penalties,
                              const std::vector<SamplingParams>& params) {
  const int64_t rows = static_cast<int64_t>(params.size()), vocab = static_cast<int64_t>(row.size());
  const int64_t stride = vocab + 3;
  Discouraged out;
  out.logits.assign(rows * stride, kNaN);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy(row.begin(), row.end(), out.logits.begin() + r * stride);
    if (r % 2 != 0) continue;
    for (TokenPenalty penalty : penalties) {
      penalty.row = static_cast<int32_t>(r);
      out.penalties.push_back(penalty);
    }
  }
  const int64_t count = static_cast<int64_t>(out.penalties.size());
  const std::vector<float> before = out.logits;
  std::vector<float> plain(count, kNaN);
  out.results.assign(rows, {-7, kNaN});
  PenalizeLogits(TestStream(), count, out.penalties.data(), stride, out.logits.data(), plain.data());
  SampleTokens(TestStream(), rows, vocab, stride, out.logits.data(), params.data(), out.results.data());
  RestoreLogits(TestStream(), count, out.penalties.data(), stride, plain.data(), out.logits.data());
  ScoreSamples(TestStream(), rows, vocab, stride, out.logits.data(), params.data(), out.results.data());
  Synchronize(TestStream());
  EXPECT_EQ(std::memcmp(before.data(), out.logits.data(), before.size() * sizeof(float)), 0);
  return out;
}

// Thousands of equal small weights beside a large one, all rounded the same way where they are added one by
// one.
TEST(SamplingTest, SmallWeightsBesideALargeOneCount) {
  ForEachInstructionSet([] {
    for (const float distance : {9.0f, 9.7f, 10.3f, 11.0f}) {
      std::vector<float> logits(5000, 1.0f);
      logits[1234] = 1.0f + distance;
      const double expected = -std::log1p(4999 * std::exp(-static_cast<double>(distance)));
      const SampleResult result = SampleMany(logits, {{.temperature = 0}}).front();
      EXPECT_EQ(result.token, 1234);
      EXPECT_NEAR(result.logp, expected, 1e-5);
    }
  });
}

// Tokens follow the penalised distribution, log-probabilities the plain one; rows without penalties are those
// of SampleTokens alone.
TEST(TokenPenalties, DrawFromThePenalisedAndScoreThePlainDistribution) {
  ForEachInstructionSet([] {
    for (const int64_t vocab : {2, 13, 64, 1009, 5000}) {
      const auto logits = RandomNormal<float>(vocab, 3);
      std::vector<TokenPenalty> penalties;
      std::vector<float> penalised = logits;
      for (int64_t token = 0; token + 1 < vocab; token += 1 + RandomInteger(0, 3)) {
        const float penalty = std::vector<float>{1, 1.3f, 7, kInfinity}[RandomInteger(0, 3)];
        penalties.push_back({0, static_cast<int32_t>(token), penalty});
        penalised[token] = static_cast<float>(reference::PenalizedLogit(logits[token], penalty));
      }
      const uint64_t seed = RandomInteger(0, 1 << 30);
      for (const SamplingParams& kind :
           {SamplingParams{.temperature = 0.8f, .seed = seed},
            SamplingParams{.temperature = 1.5f, .top_k = 9, .top_p = 0.7f, .seed = seed},
            SamplingParams{.temperature = 0}}) {
        std::vector<SamplingParams> params(40, kind);
        for (size_t i = 0; i < params.size(); ++i) params[i].index = i;
        const Discouraged drawn = SampleDiscouraged(logits, penalties, params);
        const std::vector<SampleResult> alone = SampleMany(logits, params);
        const std::vector<SampleResult> direct = SampleMany(penalised, params);
        const double temperature = kind.temperature == 0 ? 1 : kind.temperature;
        const auto plain = reference::SortDistribution(logits, temperature, 0, 1);
        for (size_t i = 0; i < params.size(); ++i) {
          const SampleResult& result = drawn.results[i];
          if (i % 2 != 0) {
            EXPECT_EQ(result.token, alone[i].token);
            EXPECT_EQ(result.logp, alone[i].logp);
            continue;
          }
          // The penalised logits of the reference are exact, so the draw is that of SampleTokens from them,
          // which other tests compare with the sorted distribution.
          EXPECT_EQ(result.token, direct[i].token);
          const double expected = plain.logp[result.token];
          EXPECT_NEAR(result.logp, expected, 1e-5 * (1 + std::fabs(expected)));
        }
      }
      CheckDraws(penalised, {.temperature = 0.8f, .seed = seed}, 12);
    }
  });
}

TEST(TokenPenalties, OnesChangeNothingAndInfinityForbids) {
  ForEachInstructionSet([] {
    std::vector<float> logits = {-1, 9, 2, -0.0f, 0, -kInfinity, 3};
    std::vector<TokenPenalty> ones;
    for (int32_t token = 0; token < 7; ++token) ones.push_back({0, token, 1});
    std::vector<SamplingParams> params(64, {.temperature = 2, .seed = 9});
    for (size_t i = 0; i < params.size(); ++i) params[i].index = i;
    const auto same = SampleDiscouraged(logits, ones, params).results;
    const auto alone = SampleMany(logits, params);
    for (size_t i = 0; i < params.size(); ++i) {
      EXPECT_EQ(same[i].token, alone[i].token);
      EXPECT_EQ(same[i].logp, alone[i].logp);
    }
    for (SamplingParams& own : params) own.temperature = 50;
    const auto without = SampleDiscouraged(logits, {{0, 1, kInfinity}, {0, 6, kInfinity}}, params).results;
    for (size_t i = 0; i < params.size(); i += 2) {
      EXPECT_TRUE(without[i].token != 1 && without[i].token != 6 && without[i].token >= 0);
    }
    // Nothing is left to draw, or there never was a distribution: no token, and no log-probability.
    std::vector<TokenPenalty> all;
    for (int32_t token = 0; token < 7; ++token) all.push_back({0, token, kInfinity});
    EXPECT_EQ(SampleDiscouraged(logits, all, params).results[0].token, -1);
    logits[3] = kNaN;
    const SampleResult none = SampleDiscouraged(logits, {{0, 3, kInfinity}}, params).results[0];
    EXPECT_EQ(none.token, -1);
    EXPECT_TRUE(std::isnan(none.logp));
  });
}

// Upper bound of a chi-square variable with p = 1e-4 (Wilson and Hilferty 1931).
double ChiSquareBound(int degrees) {
  const double k = degrees;
  return k * std::pow(1 - 2 / (9 * k) + 3.719 * std::sqrt(2 / (9 * k)), 3);
}

void CheckFrequencies(const std::vector<float>& logits, SamplingParams params) {
  constexpr int kDraws = 20000;
  const auto sorted = reference::SortDistribution(logits, params.temperature, params.top_k, params.top_p);
  std::vector<int> counts(logits.size());
  params.seed =
      20240607;  // fixed: the bound is meant to hold for this seed, not one time in ten thousand to fail
  std::vector<SamplingParams> each(kDraws, params);
  for (int i = 0; i < kDraws; ++i) {
    each[i].stream_id = i % 100;
    each[i].index = i / 100;
  }
  for (const SampleResult& result : SampleMany(logits, each)) {
    ASSERT_GE(result.token, 0);
    ++counts[result.token];
  }
  double chi_square = 0, rest_expected = 0;
  int cells = 0, rest = 0, inside = 0;
  for (size_t i = 0; i < sorted.order.size(); ++i) {
    const double expected = sorted.probability[i] * kDraws;
    const int count = counts[sorted.order[i]];
    inside += count;
    if (expected < 10) {  // rare tokens share a cell
      rest += count;
      rest_expected += expected;
      continue;
    }
    chi_square += (count - expected) * (count - expected) / expected;
    ++cells;
  }
  if (rest_expected >= 10) {
    chi_square += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
    ++cells;
  }
  EXPECT_EQ(inside, kDraws) << "a token outside the kept set was drawn";
  ASSERT_GE(cells, 2);
  EXPECT_LT(chi_square, ChiSquareBound(cells - 1)) << cells << " cells";
}

std::vector<float> FixedLogits(int64_t vocab) {
  std::vector<float> logits(vocab);
  FillNormal(TestStream(), 99, 1, 0, vocab, 1.5f, logits.data());
  return logits;
}

TEST(SampleTokens, FrequenciesOfTemperature) {
  CheckFrequencies(FixedLogits(60), {.temperature = 1});
  CheckFrequencies(FixedLogits(60), {.temperature = 0.7f});
  CheckFrequencies(FixedLogits(60), {.temperature = 3});
}
TEST(SampleTokens, FrequenciesOfTopK) {
  CheckFrequencies(FixedLogits(300), {.temperature = 1, .top_k = 20});
  CheckFrequencies(FixedLogits(300), {.temperature = 1.3f, .top_k = 2});
}
TEST(SampleTokens, FrequenciesOfTopP) {
  CheckFrequencies(FixedLogits(300), {.temperature = 1, .top_p = 0.9f});
  CheckFrequencies(FixedLogits(300), {.temperature = 2, .top_p = 0.3f});
  CheckFrequencies(FixedLogits(300), {.temperature = 1, .top_k = 50, .top_p = 0.95f});
}

}  // namespace
}  // namespace tanren::kernels
