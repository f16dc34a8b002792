// The loss in double against central differences and known values, and in float where it is steepest.
#include "unlikelihood_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace tanren::lab {
namespace {

struct Result {
  double loss, seed, metrics[2];
};

template <class T>
Result At(T logp, T weight, T bad, T blame, double strength = 1, double trained_weight = 1) {
  TokenStats<T> stats, seed;
  stats.logp = logp;
  const T columns[] = {weight, bad, blame};
  Normalizers normalizers;
  normalizers.trained_weight = trained_weight;
  T metrics[2] = {};
  const UnlikelihoodFunctor functor{strength};
  const T loss = functor(stats, columns, normalizers, &seed, metrics);
  return {loss, seed.logp, {metrics[0], metrics[1]}};
}

TEST(UnlikelihoodLoss, KnownValues) {
  EXPECT_DOUBLE_EQ(At(std::log(0.25), 2.0, 0.0, 0.0, 1, 4).loss, std::log(4.0) / 2);
  // Half of the probability on a bad token: ln 2, and a slope of p / (1 - p) = 1.
  EXPECT_NEAR(At(std::log(0.5), 1.0, 1.0, 1.0).loss, std::log(2.0), 1e-15);
  EXPECT_NEAR(At(std::log(0.5), 1.0, 1.0, 1.0).seed, 1, 1e-15);
  EXPECT_NEAR(At(std::log(0.9), 3.0, 1.0, 0.5, 2, 6).loss, 0.5 * std::log(10.0), 1e-14);
  EXPECT_EQ(At(std::log(0.9), 3.0, 1.0, 0.0).loss, 0);  // nobody is to blame
}

TEST(UnlikelihoodLoss, SeedsAreTheDerivative) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int i = 0; i < 2000; ++i) {
    // On both sides of the straight line's beginning, and not across it.
    const bool certain = i % 4 == 0, bad = i % 2 == 0;
    const double logp = certain ? -0.99e-4 * uniform(random) : -1.1e-2 - 20 * uniform(random);
    const double weight = uniform(random), blame = uniform(random), strength = 10 * uniform(random);
    const double step = certain ? 0.4e-6 : 1e-5;
    const auto loss = [&](double at) { return At(at, weight, double(bad), blame, strength, 7).loss; };
    const double slope = (loss(logp + step) - loss(logp - step)) / (2 * step);
    EXPECT_NEAR(At(logp, weight, double(bad), blame, strength, 7).seed, slope,
                1e-5 * std::max(1.0, std::abs(slope)))
        << "log p " << logp << " bad " << bad;
  }
}

TEST(UnlikelihoodLoss, GoesOnSmoothlyAndStaysFinite) {
  const double kink = UnlikelihoodFunctor::kMostCertain;
  const Result below = At(kink - 1e-12, 1.0, 1.0, 1.0), above = At(kink + 1e-12, 1.0, 1.0, 1.0);
  EXPECT_NEAR(below.loss, above.loss, 1e-6);
  EXPECT_NEAR(below.seed, above.seed, 1e-3);
  for (const float logp : {0.0f, -1e-20f, -1e-7f, -200.0f}) {
    const Result result = At(logp, 1.0f, 1.0f, 1.0f);
    EXPECT_TRUE(std::isfinite(result.loss) && std::isfinite(result.seed)) << logp;
    EXPECT_GE(result.seed, 0) << logp;
  }
}

TEST(UnlikelihoodLoss, MetricsAddUp) {
  for (const double bad : {0.0, 1.0}) {
    const Result result = At(-0.7, 2.0, bad, 0.4, 3, 5);
    EXPECT_EQ(result.metrics[0] + result.metrics[1], result.loss);
    EXPECT_EQ(result.metrics[bad == 0 ? 1 : 0], 0);
  }
}

}  // namespace
}  // namespace tanren::lab
