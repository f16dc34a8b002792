// Every seed of every loss against finite differences in double, on each side of each clip and branch.
#include <gtest/gtest.h>

#include <random>

#include "stages/losses/policy_losses.h"
#include "stages/losses/preference_losses.h"
#include "stages/losses/reward_losses.h"
#include "tests/stages/losses/gradient_check.h"

namespace tanren {
namespace {

class GradientsTest : public ::testing::Test {
 protected:
  GradientsTest() : seed_(std::random_device()()), random_(seed_) {
    RecordProperty("seed", static_cast<int>(seed_));
    normalizers_.trained_tokens = 7;
    normalizers_.trained_weight = 5.5;
    normalizers_.segments = 6;
    normalizers_.units = 3;
  }
  double Draw(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_); }

  // Two answers; differences of the sums stay moderate, so that both branches of every sigmoid are met.
  std::vector<SegmentStats<double>> Pair() {
    std::vector<SegmentStats<double>> unit(2);
    for (SegmentStats<double>& segment : unit) {
      segment.trained_tokens = std::floor(Draw(1, 12));
      segment.logp_sum = -Draw(0.5, 3) * segment.trained_tokens;
      segment.column_sums[0] = segment.logp_sum + Draw(-8, 8);
    }
    return unit;
  }
  template <class Functor>
  void CheckPairs(const Functor& functor) {
    for (int i = 0; i < 50; ++i) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed_ << " draw " << i);
      const auto unit = Pair();
      CheckSegmentGradient(functor, unit, normalizers_);
      CheckFloatSegments(functor, unit, normalizers_);
    }
  }

  unsigned seed_;
  std::mt19937_64 random_;
  Normalizers normalizers_;
};

TEST_F(GradientsTest, PreferenceLosses) {
  CheckPairs(DpoFunctor<false>{0.1, 0});
  CheckPairs(DpoFunctor<false>{0.5, 0.2});
  CheckPairs(DpoFunctor<true>{0.3, 0});
  CheckPairs(RobustDpoFunctor{0.4, 0.1});
  CheckPairs(IpoFunctor{0.5, true});
  CheckPairs(IpoFunctor{0.5, false});
  CheckPairs(SimpoFunctor{2, 0.5});
  CheckPairs(OrpoFunctor{0.1});
}

TEST_F(GradientsTest, Kto) {
  for (int i = 0; i < 50; ++i) {
    std::vector<SegmentStats<double>> unit = Pair();
    unit.resize(1);
    unit[0].segment_columns[0] = i % 2;
    unit[0].segment_columns[1] = Draw(0, 3);
    CheckSegmentGradient(KtoFunctor{0.4, 1.3, 0.7}, unit, normalizers_);
  }
}

TEST_F(GradientsTest, RewardModelsWithTies) {
  for (int i = 0; i < 50; ++i) {
    std::vector<SegmentStats<double>> unit(2 + i % 4);
    for (SegmentStats<double>& segment : unit) {
      segment.value = Draw(-3, 3);
      segment.logp_sum = Draw(-9, -0.1);
      segment.trained_tokens = std::floor(Draw(1, 20));
      segment.segment_columns[0] = std::floor(Draw(1, 4));  // ties are frequent
      segment.segment_columns[1] = Draw(0, 1);
    }
    CheckSegmentGradient(PairwiseRewardFunctor{0.01}, unit, normalizers_);
    CheckSegmentGradient(ListwiseRewardFunctor{0.01}, unit, normalizers_);
    CheckFloatSegments(PairwiseRewardFunctor{0.01}, unit, normalizers_);
    CheckFloatSegments(ListwiseRewardFunctor{0.01}, unit, normalizers_);
    const HeadAndLikelihoodScore score{0.6, i % 2 == 0};
    CheckSegmentGradient(PairwiseRewardFunctor{0.01, score}, unit, normalizers_);
    CheckSegmentGradient(ListwiseRewardFunctor{0.01, score}, unit, normalizers_);
    CheckFloatSegments(PairwiseRewardFunctor{0.01, score}, unit, normalizers_);
    CheckFloatSegments(ListwiseRewardFunctor{0.01, score}, unit, normalizers_);
  }
}

// Ratios inside the clip, below it and above it, with both signs of the advantage, and beyond the dual clip.
TEST_F(GradientsTest, PolicyOnEachSideOfEachClip) {
  for (const KlEstimator estimator : {KlEstimator::kK2, KlEstimator::kK3}) {
    for (const double dual_clip : {0.0, 3.0}) {
      for (const double log_ratio : {-1.0, -0.1, 0.05, 0.15, 0.5, 2.0}) {
        for (const double advantage : {-1.5, 0.7}) {
          PolicyFunctor<true, true> functor;
          functor.clip_low = 0.2;
          functor.clip_high = 0.28;
          functor.dual_clip = dual_clip;
          functor.kl_coefficient = 0.3;
          functor.kl_estimator = estimator;
          functor.entropy_coefficient = 0.2;
          TokenStats<double> at;
          at.logp = -1.3;
          at.entropy = Draw(0.1, 2);
          const std::vector<double> columns = {Draw(0.2, 2), at.logp - log_ratio, advantage,
                                               at.logp - Draw(-1, 1)};
          CheckTokenGradient(functor, at, columns, normalizers_);
        }
      }
    }
  }
}

TEST_F(GradientsTest, GspoAndCritic) {
  for (const double log_ratio : {-2e-3, -1e-4, 1e-4, 2e-3}) {
    for (const double advantage : {-1.0, 2.0}) {
      std::vector<SegmentStats<double>> unit(1);
      unit[0].trained_tokens = 5;
      unit[0].logp_sum = -7;
      unit[0].column_sums[0] = -7 - 5 * log_ratio;
      unit[0].segment_columns[0] = advantage;
      CheckSegmentGradient(GspoFunctor{}, unit, normalizers_);
    }
  }
  for (const double clip : {0.0, 0.2}) {
    for (const double moved : {-0.7, -0.1, 0.1, 0.7}) {
      for (const double target : {-2.0, 2.0}) {
        TokenStats<double> at;
        at.value = 0.4;
        CheckTokenGradient(ValueFunctor{clip}, at, {1.5, target, at.value - moved}, normalizers_);
      }
    }
  }
}

// In fp32 old + (V - old) is not V: rounding alone must not count as clipped.
TEST_F(GradientsTest, AValueInsideTheClipKeepsItsGradient) {
  for (int i = 0; i < 10000; ++i) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed_ << " draw " << i);
    TokenStats<float> at, seed;
    const float old_value = static_cast<float>(Draw(-3, 3)), target = static_cast<float>(Draw(-3, 3));
    at.value = old_value + static_cast<float>(Draw(-0.19, 0.19));
    const float columns[] = {1, target, old_value};
    float metrics[kMaxLossMetrics] = {};
    ValueFunctor{0.2}(at, columns, normalizers_, &seed, metrics);
    ASSERT_EQ(metrics[1], 0);
    ASSERT_FLOAT_EQ(seed.value, (at.value - target) / static_cast<float>(normalizers_.trained_weight));
  }
}

TEST_F(GradientsTest, AClippedTokenHasNoGradientByThePolicy) {
  PolicyFunctor<false, false> functor;
  TokenStats<double> at, seed;
  at.logp = -1;
  double metrics[kMaxLossMetrics] = {};
  const double columns[] = {1, -2, 1};  // a ratio of e with a positive advantage
  functor(at, columns, normalizers_, &seed, metrics);
  EXPECT_EQ(seed.logp, 0);
  EXPECT_GT(metrics[2], 0);
}

// Segments without a trained token, answers of probability 1: finite.
TEST_F(GradientsTest, DegenerateAnswersStayFinite) {
  std::vector<SegmentStats<double>> unit(2);
  for (const double loss :
       {SegmentLoss(SimpoFunctor{}, unit, normalizers_), SegmentLoss(OrpoFunctor{}, unit, normalizers_),
        SegmentLoss(IpoFunctor{}, unit, normalizers_),
        SegmentLoss(DpoFunctor<false>{}, unit, normalizers_)}) {
    EXPECT_TRUE(std::isfinite(loss));
  }
  unit.resize(1);
  EXPECT_TRUE(std::isfinite(SegmentLoss(GspoFunctor{}, unit, normalizers_)));
}

}  // namespace
}  // namespace tanren
