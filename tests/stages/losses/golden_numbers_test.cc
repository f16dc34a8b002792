// Numbers that nobody here wrote, as docs/numerics.md lists them with their sources.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/reward/shaping.h"
#include "stages/losses/policy_losses.h"
#include "stages/losses/preference_losses.h"
#include "stages/losses/reward_losses.h"
#include "tests/stages/losses/gradient_check.h"

namespace tanren {
namespace {

void ExpectNear(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << "at " << i;
}

// rlax's test of generalised advantages.
TEST(GoldenNumbers, AdvantagesOfRlax) {
  const std::vector<double> rewards = {0, 0, 1, 0, -0.5}, values = {1, 4, -3, -2, -1, -1};
  ExpectNear(GeneralizedAdvantages(rewards, values, 0.99, 1), {-1.45118, -4.4557, 2.5396, 0.5249, -0.49},
             1e-4);
  ExpectNear(GeneralizedAdvantages(rewards, values, 0.99, 0.7), {-0.676979, -5.248167, 2.4846, 0.6704, -0.49},
             1e-4);
}

// NeMo-RL: lambda 0 with a reward at the end.
TEST(GoldenNumbers, AdvantagesWithoutLambda) {
  ExpectNear(GeneralizedAdvantages(std::vector<double>{0, 0, 5}, std::vector<double>{1, 2, 3, 0}, 1, 0),
             {1, 1, 2}, 1e-12);
}

double PolicyMean(const std::vector<double>& advantages, const std::vector<double>& ratios,
                  double dual_clip) {
  PolicyFunctor<false, false> functor;
  functor.dual_clip = dual_clip;
  Normalizers normalizers;
  normalizers.trained_weight = static_cast<double>(advantages.size());
  double loss = 0;
  for (size_t i = 0; i < advantages.size(); ++i) {
    TokenStats<double> stats;
    stats.logp = std::log(ratios[i]) - 1;
    loss += TokenLoss(functor, stats, {1, -1, advantages[i]}, normalizers);
  }
  return loss;
}

// NeMo-RL's policy losses.
TEST(GoldenNumbers, PolicyLosses) {
  EXPECT_NEAR(PolicyMean({1, -1, 2}, {0.5, 1, 1.5}, 0), -0.6333, 5e-5);
  EXPECT_NEAR(PolicyMean({1, -1, -4}, {0.5, 1, 10}, 3), 4.1667, 5e-5);
}

// NeMo-RL's REINFORCE: the gradient of the policy loss at a ratio of 1 is that of -A logp.
TEST(GoldenNumbers, Reinforce) {
  const double advantages[] = {1, -1, 2}, logp[] = {-0.5, -1, -1.5};
  Normalizers normalizers;
  normalizers.trained_weight = 3;
  double loss = 0;
  for (int i = 0; i < 3; ++i) {
    TokenStats<double> stats, seed;
    stats.logp = logp[i];
    const double columns[] = {1, logp[i], advantages[i]};
    double metrics[kMaxLossMetrics] = {};
    PolicyFunctor<false, false>()(stats, columns, normalizers, &seed, metrics);
    loss += seed.logp * logp[i];
  }
  EXPECT_NEAR(loss, 0.8333, 5e-5);
}

// One answer of the three tokens above, whose mean log-ratio makes its ratio; each token's advantage is
// weighted by it.
TEST(GoldenNumbers, SequenceRatio) {
  const double log_ratio = (std::log(0.5) + std::log(1.0) + std::log(1.5)) / 3;
  double loss = 0;
  for (const double advantage : {1.0, -1.0, 2.0}) {
    std::vector<SegmentStats<double>> unit(1);
    unit[0].trained_tokens = 3;
    unit[0].logp_sum = 3 * log_ratio;
    unit[0].segment_columns[0] = advantage;
    Normalizers normalizers;
    normalizers.units = 3;
    loss += SegmentLoss(GspoFunctor{0.2, 0.2}, unit, normalizers);
  }
  EXPECT_NEAR(loss, -0.6057, 5e-5);
}

// NeMo-RL's KL estimators, from log-probabilities of -1 against 0, -15 and -30.
TEST(GoldenNumbers, KlEstimators) {
  const std::vector<double> d = {-1, 14, 29};
  std::vector<double> k1, k2, k3;
  for (const double x : d) {
    k1.push_back(KlEstimate(KlEstimator::kK1, x));
    k2.push_back(KlEstimate(KlEstimator::kK2, x));
    k3.push_back(KlEstimate(KlEstimator::kK3, x));
  }
  ExpectNear(k1, {-1, 14, 29}, 1e-12);
  ExpectNear(k2, {0.5, 98, 420.5}, 1e-12);
  ExpectNear(k3, {0.7183, 13, 28}, 1e-4);
  // Its variant with the log-ratio clamped to 20 and the estimate to 10.
  std::vector<double> clamped;
  for (const double x : d) {
    clamped.push_back(std::clamp(KlEstimate(KlEstimator::kK3, std::clamp(x, -20.0, 20.0)), -10.0, 10.0));
  }
  ExpectNear(clamped, {0.7183, 10, 10}, 1e-4);
}

TEST(GoldenNumbers, LeaveOneOut) {
  const std::vector<double> rewards = {1, 2, 3, 4, 5, 6};
  ExpectNear(LeaveOneOutBaselines(rewards, 3), {2.5, 2, 1.5, 5.5, 5, 4.5}, 1e-12);
  ExpectNear(LeaveOneOutDeviations(rewards, 3), {0.7071, 1.4142, 0.7071, 0.7071, 1.4142, 0.7071}, 5e-5);
}

// TRL's test of RLOO: four answers to each of three prompts, the first prompt's rewarded with 1, 2, 5 and 8.
TEST(GoldenNumbers, LeaveOneOutOfTrl) {
  const std::vector<double> rewards = {1, 2, 5, 8};
  EXPECT_NEAR(rewards[0] - LeaveOneOutBaselines(rewards, 4)[0], 1 - (2 + 5 + 8) / 3.0, 1e-12);
}

// TRL's tests of DAPO's soft over-length penalty: at most 100 tokens, the last 20 of them punished.
TEST(GoldenNumbers, OverlongPenaltyOfTrl) {
  EXPECT_EQ(OverlongPenalty(50, 100, 20), 0);
  EXPECT_NEAR(OverlongPenalty(90, 100, 20), -0.5, 1e-12);
  EXPECT_EQ(OverlongPenalty(110, 100, 20), -1);
}

// torchtune's DPO losses at Delta 0, 10 and 20; the first is ln 2.
TEST(GoldenNumbers, Dpo) {
  Normalizers normalizers;
  normalizers.units = 1;
  std::vector<double> losses;
  for (const double delta : {0.0, 10.0, 20.0}) {
    std::vector<SegmentStats<double>> unit(2);
    unit[0].logp_sum = -20 + delta;
    unit[0].column_sums[0] = -20;
    unit[1].logp_sum = unit[1].column_sums[0] = -30;
    losses.push_back(SegmentLoss(DpoFunctor<false>{0.1, 0}, unit, normalizers));
  }
  ExpectNear(losses, {std::numbers::ln2, 0.313262, 0.126928}, 1e-6);
}

// From the formula itself: a tie of all makes every order equally likely, so n ln of the number of those
// left.
TEST(GoldenNumbers, PlackettLuceOfEqualScores) {
  std::vector<SegmentStats<double>> unit(4);
  for (int i = 0; i < 4; ++i) unit[i].segment_columns[0] = i + 1;
  Normalizers normalizers;
  normalizers.units = 1;
  EXPECT_NEAR(SegmentLoss(ListwiseRewardFunctor{0}, unit, normalizers), std::log(24.0) / 4, 1e-12);
  EXPECT_NEAR(SegmentLoss(PairwiseRewardFunctor{0}, unit, normalizers), std::numbers::ln2, 1e-12);
}

TEST(GoldenNumbers, GroupAdvantagesAreStandardised) {
  const std::vector<double> rewards = {1, 0, 0, 1, 5, 5, 5, 5};
  const std::vector<double> scaled = GroupAdvantages(rewards, 4, true);
  const double deviation = std::sqrt(1.0 / 3);  // Bessel
  ExpectNear(scaled,
             {0.5 / (deviation + 1e-4), -0.5 / (deviation + 1e-4), -0.5 / (deviation + 1e-4),
              0.5 / (deviation + 1e-4), 0, 0, 0, 0},
             1e-12);
  ExpectNear(GroupAdvantages(rewards, 4, false), {0.5, -0.5, -0.5, 0.5, 0, 0, 0, 0}, 1e-12);
}

TEST(GoldenNumbers, WhiteningAndAdaptiveKl) {
  std::vector<double> values = {1, 2, 3, 4};
  Whiten(values, true, 0);
  ExpectNear(values, {-1.3416407865, -0.4472135955, 0.4472135955, 1.3416407865}, 1e-9);
  AdaptiveKl adaptive(0.1, 6, 10000);
  adaptive.Update(12, 1000);  // twice the target: clipped to +0.2
  EXPECT_NEAR(adaptive.coefficient(), 0.1 * (1 + 0.2 * 0.1), 1e-12);
  AdaptiveKl fixed(0.1, 0, 10000);
  fixed.Update(12, 1000);
  EXPECT_EQ(fixed.coefficient(), 0.1);
}

}  // namespace
}  // namespace tanren
