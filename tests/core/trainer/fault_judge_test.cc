#include "core/trainer/fault_judge.h"

#include <cmath>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

config::FaultConfig ConfigOf(int64_t patience, config::FaultConfig::SpikeAction action) {
  config::FaultConfig config;
  config.set_patience(patience);
  config.set_spike_action(action);
  return config;
}

StageStep WithLoss(double loss) {
  StageStep step;
  step.loss = loss;
  return step;
}

StageStep Skipped() {
  StageStep step;
  step.loss = NAN;
  step.skipped = true;
  return step;
}

// Losses that fall from 4 to 2 with noise of deviation 0.05, as a run's do.
std::vector<double> Falling(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> noise(0, 0.05);
  std::vector<double> losses;
  for (int i = 0; i < count; ++i) losses.push_back(2 + 2 * std::exp(-i / 100.0) + noise(random));
  return losses;
}

TEST(FaultJudge, GoesBackAfterTheRowAndNotBefore) {
  FaultJudge judge(ConfigOf(3, config::FaultConfig::warn));
  const bool bad[] = {true, true, false, true, true, true};
  const bool back[] = {false, false, false, false, false, true};
  for (size_t i = 0; i < std::size(bad); ++i) {
    EXPECT_EQ(judge.Judge(bad[i] ? Skipped() : WithLoss(1), true).roll_back, back[i]) << i;
  }
  EXPECT_EQ(judge.bad_in_a_row(), 3);
  EXPECT_EQ(judge.counts().skipped_steps, 5);
}

TEST(FaultJudge, AFallingNoisyLossHasNoSpikes) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    FaultJudge judge(ConfigOf(10, config::FaultConfig::rollback));
    for (const double loss : Falling(1000, seed)) EXPECT_FALSE(judge.Judge(WithLoss(loss), true).spike);
    EXPECT_EQ(judge.counts().loss_spikes, 0);
  }
}

TEST(FaultJudge, ALossFarAboveTheRecentOnesIsASpike) {
  FaultJudge judge(ConfigOf(2, config::FaultConfig::rollback));
  for (const double loss : Falling(200, 7)) judge.Judge(WithLoss(loss), true);
  const FaultJudge::Verdict first = judge.Judge(WithLoss(3.5), true);
  EXPECT_TRUE(first.spike && first.first && !first.roll_back);
  EXPECT_GT(first.deviations, 6);
  EXPECT_NEAR(first.mean, 2.3, 0.1);
  const FaultJudge::Verdict second = judge.Judge(WithLoss(3.5), true);
  EXPECT_TRUE(second.spike && !second.first && second.roll_back);
  EXPECT_EQ(judge.counts().loss_spikes, 2);
  // A loss that falls by as much is good news.
  EXPECT_FALSE(judge.Judge(WithLoss(0.5), true).spike);
}

TEST(FaultJudge, ASpikeThatStaysIsWhereTheLossIsNow) {
  FaultJudge judge(ConfigOf(5, config::FaultConfig::warn));
  for (const double loss : Falling(200, 8)) judge.Judge(WithLoss(loss), true);
  int spikes = 0;
  for (int i = 0; i < 100; ++i) {
    const FaultJudge::Verdict verdict = judge.Judge(WithLoss(4 + 0.01 * (i % 3)), true);
    spikes += verdict.spike;
    EXPECT_FALSE(verdict.roll_back);
  }
  EXPECT_EQ(spikes, 5);
}

TEST(FaultJudge, LooksAtNoLossThatTellsNothingAndAtNoneWithoutThreshold) {
  config::FaultConfig off = ConfigOf(1, config::FaultConfig::rollback);
  off.set_spike_threshold(0);
  FaultJudge silent(off), untold(ConfigOf(1, config::FaultConfig::rollback));
  for (const double loss : Falling(200, 9)) {
    silent.Judge(WithLoss(loss), true);
    untold.Judge(WithLoss(loss), false);
  }
  EXPECT_FALSE(silent.Judge(WithLoss(100), true).spike);
  EXPECT_FALSE(untold.Judge(WithLoss(100), false).spike);
}

TEST(FaultJudge, GoesOnFromItsStateAlike) {
  const auto losses = Falling(300, 10);
  FaultJudge whole(ConfigOf(4, config::FaultConfig::rollback));
  for (int i = 0; i < 150; ++i) whole.Judge(i % 40 == 0 ? Skipped() : WithLoss(losses[i]), true);
  whole.Judge(WithLoss(9), true);
  FaultJudge resumed(ConfigOf(4, config::FaultConfig::rollback));
  ASSERT_TRUE(resumed.RestoreState(whole.SaveState()).ok());
  EXPECT_EQ(resumed.bad_in_a_row(), 1);
  EXPECT_EQ(resumed.counts().skipped_steps, 4);
  for (int i = 150; i < 300; ++i) {
    const double loss = i > 290 ? 9 : losses[i];
    const FaultJudge::Verdict a = whole.Judge(WithLoss(loss), true), b = resumed.Judge(WithLoss(loss), true);
    EXPECT_EQ(a.deviations, b.deviations) << i;
    EXPECT_EQ(a.roll_back, b.roll_back) << i;
  }
  EXPECT_EQ(whole.SaveState(), resumed.SaveState());
}

TEST(FaultJudge, RefusesAStateThatIsNoneAndTakesAnEmptyOneForNew) {
  FaultJudge judge(ConfigOf(3, config::FaultConfig::warn));
  judge.Judge(Skipped(), true);
  for (const char* text : {"1", "1 2 3 4 5 6 7 8 x", "1 2 3 4 5 6 7 8 9 10"}) {
    const absl::Status refused = judge.RestoreState(text);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << text;
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(text));
  }
  EXPECT_EQ(judge.bad_in_a_row(), 1);  // as it was
  ASSERT_TRUE(judge.RestoreState("").ok());
  EXPECT_EQ(judge.bad_in_a_row(), 0);
}

}  // namespace
}  // namespace tanren
