#include "core/optimizer/schedule.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

std::vector<double> Rates(const Schedule& schedule, int64_t steps) {
  std::vector<double> rates;
  for (int64_t step = 0; step < steps; ++step) rates.push_back(LearningRate(schedule, step));
  return rates;
}

// Hugging Face's published test values: lr 10, warm-up 2 of 10.
TEST(Schedule, CosineMatchesHuggingFace) {
  const Schedule schedule{Schedule::Kind::kCosine, 10, 2, 10, 0, 0};
  const std::vector<double> golden = {0, 5, 10, 9.61, 8.53, 6.91, 5, 3.08, 1.46, .38};
  EXPECT_THAT(Rates(schedule, 10), testing::Pointwise(testing::DoubleNear(1e-2), golden));
}

TEST(Schedule, LinearMatchesHuggingFace) {
  const Schedule schedule{Schedule::Kind::kLinear, 10, 2, 10, 0, 0};
  const std::vector<double> golden = {0, 5, 10, 8.75, 7.5, 6.25, 5, 3.75, 2.5, 1.25};
  EXPECT_THAT(Rates(schedule, 10), testing::Pointwise(testing::DoubleNear(1e-12), golden));
}

TEST(Schedule, ConstantKeepsThePeakAfterWarmUp) {
  const Schedule schedule{Schedule::Kind::kConstant, 10, 4, 10, 0, 0};
  EXPECT_THAT(Rates(schedule, 6), testing::ElementsAre(0, 2.5, 5, 7.5, 10, 10));
}

TEST(Schedule, WarmupStableDecayDecaysAtTheEndOnly) {
  const Schedule schedule{Schedule::Kind::kWarmupStableDecay, 10, 2, 10, 4, 0.1};
  const std::vector<double> golden = {0, 5, 10, 10, 10, 10, 10, 7.75, 5.5, 3.25, 1};
  EXPECT_THAT(Rates(schedule, 11), testing::Pointwise(testing::DoubleNear(1e-12), golden));
}

TEST(Schedule, EndsAtTheFinalFractionAndStaysThere) {
  for (const auto kind : {Schedule::Kind::kLinear, Schedule::Kind::kCosine}) {
    const Schedule schedule{kind, 10, 2, 10, 0, 0.1};
    EXPECT_NEAR(LearningRate(schedule, 10), 1, 1e-12);
    EXPECT_NEAR(LearningRate(schedule, 1000), 1, 1e-12);
  }
}

}  // namespace
}  // namespace tanren
