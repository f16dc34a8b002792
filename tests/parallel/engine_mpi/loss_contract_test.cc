// Seeds are the derivatives of the loss: functors in double against central differences.
#include <cmath>
#include <random>

#include "core/loss/next_token.h"
#include "gtest/gtest.h"
#include "tests/parallel/engine_mpi/toy_losses.h"

namespace tanren {
namespace {

constexpr double kStep = 1e-6;

template <class Functor>
void CheckTokenFunctor(const Functor& functor, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const Normalizers normalizers{37, 29.5, 11, 5};
  for (int repeat = 0; repeat < 50; ++repeat) {
    TokenStats<double> stats{-std::abs(normal(random)), normal(random), std::abs(normal(random)),
                             normal(random)};
    double columns[kMaxLossColumns];
    for (double& column : columns) column = normal(random);
    TokenStats<double> seeds;
    double metrics[kMaxLossMetrics] = {};
    functor(stats, columns, normalizers, &seeds, metrics);
    const std::pair<double TokenStats<double>::*, const char*> fields[] = {
        {&TokenStats<double>::logp, "logp"},
        {&TokenStats<double>::lse, "lse"},
        {&TokenStats<double>::entropy, "entropy"},
        {&TokenStats<double>::value, "value"}};
    for (const auto& [field, name] : fields) {
      TokenStats<double> high = stats, low = stats, unused;
      high.*field += kStep;
      low.*field -= kStep;
      const double numeric = (functor(high, columns, normalizers, &unused, metrics) -
                              functor(low, columns, normalizers, &unused, metrics)) /
                             (2 * kStep);
      EXPECT_NEAR(seeds.*field, numeric, 1e-8) << name;
    }
  }
}

template <class Functor>
void CheckSequenceFunctor(const Functor& functor, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const Normalizers normalizers{37, 29.5, 11, 5};
  for (int repeat = 0; repeat < 50; ++repeat) {
    SegmentStats<double> stats[2];
    for (auto& segment : stats) {
      segment.logp_sum = 10 * normal(random);
      segment.trained_tokens = 7;
      segment.value = normal(random);
      for (double& column : segment.segment_columns) column = normal(random);
    }
    SegmentSeed<double> seeds[2];
    double metrics[kMaxLossMetrics] = {};
    functor(int64_t{2}, stats, normalizers, seeds, metrics);
    const auto at = [&](int s, double SegmentStats<double>::*field, double delta) {
      SegmentStats<double> moved[2] = {stats[0], stats[1]};
      moved[s].*field += delta;
      SegmentSeed<double> unused[2];
      return functor(int64_t{2}, moved, normalizers, unused, metrics);
    };
    for (int s = 0; s < 2; ++s) {
      const auto slope = [&](double SegmentStats<double>::*field) {
        return (at(s, field, kStep) - at(s, field, -kStep)) / (2 * kStep);
      };
      EXPECT_NEAR(seeds[s].logp_sum, slope(&SegmentStats<double>::logp_sum), 1e-8);
      EXPECT_NEAR(seeds[s].value, slope(&SegmentStats<double>::value), 1e-8);
    }
  }
}

TEST(LossContract, SeedsOfNextToken) {
  CheckTokenFunctor(NextTokenFunctor<false>{0.01}, 1);
  CheckTokenFunctor(NextTokenFunctor<true>{0.01}, 2);
}
TEST(LossContract, SeedsOfActorCritic) { CheckTokenFunctor(ActorCriticFunctor(), 3); }
TEST(LossContract, SeedsOfPair) { CheckSequenceFunctor(PairFunctor(), 4); }
TEST(LossContract, SeedsOfScore) { CheckSequenceFunctor(ScoreFunctor(), 5); }

}  // namespace
}  // namespace tanren
