// The judge on tables and times of the test's choosing.
#include "parallel/watchdog/judge.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = WatchVerdict::Kind;

constexpr double kStart = 1000;

void PutAxis(RankView& view, int slot, const char* axis, int group, uint64_t entered, const char* name,
             bool inside) {
  AxisActivity& out = view.record.axes[slot];
  std::strcpy(out.axis, axis);
  std::strcpy(out.collective, name);
  out.group = group;
  out.entered = entered;
  out.inside = inside ? 1 : 0;
}

// Ranks in step 3 of half a second each, all outside of collectives, heard and seen to progress at kStart.
std::vector<RankView> Ranks(int size) {
  std::vector<RankView> ranks(size);
  for (int rank = 0; rank < size; ++rank) {
    RankView& view = ranks[rank];
    std::strcpy(view.identity.host, "node");
    view.identity.pid = 100 + rank;
    view.heard = view.progressed = kStart;
    view.record.phase = Phase::kStep;
    view.record.step = 3;
    view.record.work = Work::kBackward;
    view.record.longest_step_seconds = 0.5;
    PutAxis(view, 0, "world", 0, 10, "step check", false);
    PutAxis(view, 1, "data", 0, 20, "gradients", false);
  }
  return ranks;
}

// Heartbeats without progress go on until `now`.
void KeepBeating(std::vector<RankView>& ranks, double now) {
  for (RankView& view : ranks) view.heard = now;
}

const WatchLimits kLimits;

TEST(JudgeTest, NothingIsSaidOfRanksThatBeatAndProgress) {
  std::vector<RankView> ranks = Ranks(3);
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 19).has_value());
  for (double now = kStart; now < kStart + 300; now += 1) {
    for (RankView& view : ranks) {
      ActivityRecord record = view.record;
      ++record.progress;
      Hear(record, now, view);
    }
    ASSERT_FALSE(Judge(ranks, kLimits, now).has_value());
  }
}

TEST(JudgeTest, ALostRankIsNamedAtOnce) {
  std::vector<RankView> ranks = Ranks(3);
  ranks[2].lost = true;
  const auto verdict = Judge(ranks, kLimits, kStart);
  ASSERT_TRUE(verdict.has_value());
  EXPECT_EQ(verdict->kind, Kind::kLost);
  EXPECT_THAT(verdict->ranks, ElementsAre(2));
  EXPECT_THAT(
      Describe(*verdict, ranks),
      HasSubstr("rank 2 of 3 on node (pid 102) has gone without a goodbye, last seen in step 3, backward, "
                "after collective #10 'step check' of axis world and #20 'gradients' of axis data"));
}

TEST(JudgeTest, ARankThatSaidGoodbyeIsNotMissed) {
  std::vector<RankView> ranks = Ranks(2);
  ranks[1].left = ranks[1].lost = true;
  ranks[0].heard = kStart + 1000;
  ranks[0].progressed = kStart + 1000;
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 1000).has_value());
}

TEST(JudgeTest, ASilentRankIsNamedNotThoseThatWaitForIt) {
  std::vector<RankView> ranks = Ranks(3);
  for (const int waiting : {0, 2}) PutAxis(ranks[waiting], 1, "data", 0, 21, "gradients", true);
  ranks[0].heard = ranks[2].heard = kStart + 20;
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 19.9).has_value());
  const auto verdict = Judge(ranks, kLimits, kStart + 20);
  ASSERT_TRUE(verdict.has_value());
  EXPECT_EQ(verdict->kind, Kind::kSilent);
  EXPECT_THAT(verdict->ranks, ElementsAre(1));
  const std::string text = Describe(*verdict, ranks);
  EXPECT_THAT(
      text, HasSubstr("rank 1 of 3 on node (pid 101) has sent nothing for 20.0 s (limit 20.0 s), last seen"));
  EXPECT_THAT(text, HasSubstr("; ranks 0, 2 wait in #21 'gradients' of axis data"));
}

TEST(JudgeTest, AStuckRankIsTheOneThatIsInNoCollective) {
  std::vector<RankView> ranks = Ranks(4);
  for (const int waiting : {0, 1, 3}) PutAxis(ranks[waiting], 1, "data", 0, 21, "gradients", true);
  KeepBeating(ranks, kStart + 30);
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 29.9).has_value());
  const auto verdict = Judge(ranks, kLimits, kStart + 30);
  ASSERT_TRUE(verdict.has_value());
  EXPECT_EQ(verdict->kind, Kind::kStuck);
  EXPECT_THAT(verdict->ranks, ElementsAre(2));
  const std::string text = Describe(*verdict, ranks);
  EXPECT_THAT(text,
              HasSubstr("rank 2 of 4 on node (pid 102) is stuck: no progress for 30.0 s (limit 30.0 s), last "
                        "seen in step 3, backward, after collective #10"));
  EXPECT_THAT(text, HasSubstr("; ranks 0-1, 3 wait in #21 'gradients' of axis data"));
}

TEST(JudgeTest, WaitingForARankThatProgressesIsNoFault) {
  std::vector<RankView> ranks = Ranks(3);
  for (const int waiting : {0, 1}) PutAxis(ranks[waiting], 1, "data", 0, 21, "gradients", true);
  const double now = kStart + 500;
  KeepBeating(ranks, now);
  ranks[2].progressed = now - 1;
  EXPECT_FALSE(Judge(ranks, kLimits, now).has_value());
}

TEST(JudgeTest, AStuckRankIsNamedThroughOthersThatWait) {
  // Ranks 0 and 1 share a tensor group, and so do 2 and 3; 0 and 2 a data group, and so do 1 and 3.
  std::vector<RankView> ranks = Ranks(4);
  for (int rank = 0; rank < 4; ++rank) {
    PutAxis(ranks[rank], 1, "data", rank % 2, 20, "gradients", false);
    PutAxis(ranks[rank], 2, "tensor", rank / 2, 50, "hidden", false);
  }
  PutAxis(ranks[2], 2, "tensor", 1, 51, "hidden", true);   // waits for 3
  PutAxis(ranks[0], 1, "data", 0, 21, "gradients", true);  // waits for 2
  PutAxis(ranks[1], 1, "data", 1, 21, "gradients", true);  // waits for 3
  KeepBeating(ranks, kStart + 40);
  const auto verdict = Judge(ranks, kLimits, kStart + 40);
  ASSERT_TRUE(verdict.has_value());
  EXPECT_EQ(verdict->kind, Kind::kStuck);
  EXPECT_THAT(verdict->ranks, ElementsAre(3));
}

TEST(JudgeTest, HostsThatWaitForADeviceAreNotTakenForTheOneThatIsBehind) {
  // Collectives are queued on a device: no host is inside of one.
  std::vector<RankView> ranks = Ranks(3);
  for (const int waiting : {0, 2}) PutAxis(ranks[waiting], 1, "data", 0, 21, "gradients", false);
  KeepBeating(ranks, kStart + 30);
  EXPECT_THAT(Judge(ranks, kLimits, kStart + 30)->ranks, ElementsAre(1));
  // Equal counts: nobody can be told apart.
  PutAxis(ranks[1], 1, "data", 0, 21, "gradients", false);
  EXPECT_THAT(Judge(ranks, kLimits, kStart + 30)->ranks, ElementsAre(0, 1, 2));
}

TEST(JudgeTest, RanksInDifferentCollectivesHaveDiverged) {
  std::vector<RankView> ranks = Ranks(3);
  for (const int there : {0, 2}) PutAxis(ranks[there], 1, "data", 0, 21, "gradients", true);
  PutAxis(ranks[1], 0, "world", 0, 11, "step check", true);  // skipped the gradients
  KeepBeating(ranks, kStart + 30);
  const auto verdict = Judge(ranks, kLimits, kStart + 30);
  ASSERT_TRUE(verdict.has_value());
  EXPECT_EQ(verdict->kind, Kind::kDiverged);
  EXPECT_THAT(verdict->ranks, ElementsAre(0, 1, 2));
  const std::string text = Describe(*verdict, ranks);
  EXPECT_THAT(
      text,
      HasSubstr("rank 0 of 3 on node (pid 100) step 3, backward, inside collective #21 'gradients' of "
                "axis data; rank 1 of 3 on node (pid 101) step 3, backward, inside collective #11 'step "
                "check' of axis world"));
}

TEST(JudgeTest, ACollectiveThatIsStillUnderWayIsNotJudged) {
  std::vector<RankView> ranks = Ranks(2);
  for (RankView& view : ranks) PutAxis(view, 1, "data", 0, 21, "gradients", true);
  KeepBeating(ranks, kStart + 31);
  ranks[1].progressed = kStart + 10;  // rank 1 came later: its limit is not over
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 31).has_value());
  KeepBeating(ranks, kStart + 40);
  EXPECT_THAT(Judge(ranks, kLimits, kStart + 40)->ranks, ElementsAre(0, 1));
}

TEST(JudgeTest, ARankThatWaitsForOneThatLeftIsNamed) {
  std::vector<RankView> ranks = Ranks(2);
  PutAxis(ranks[0], 1, "data", 0, 21, "gradients", true);
  ranks[1].left = true;
  KeepBeating(ranks, kStart + 30);
  EXPECT_THAT(Judge(ranks, kLimits, kStart + 30)->ranks, ElementsAre(0));
}

TEST(JudgeTest, LimitsFollowStepsAndPhases) {
  RankView view = Ranks(1)[0];
  EXPECT_EQ(StallLimit(view, 0.5, kLimits), 30);
  EXPECT_EQ(StallLimit(view, 100, kLimits), 500);
  EXPECT_EQ(StallLimit(view, 0, kLimits), 600) << "no step has ended yet";
  for (const Phase phase : {Phase::kStart, Phase::kLoad, Phase::kSave, Phase::kEnd}) {
    view.record.phase = phase;
    EXPECT_EQ(StallLimit(view, 0.5, kLimits), 600);
    EXPECT_EQ(StallLimit(view, 200, kLimits), 1000);
  }
  for (const Phase phase : {Phase::kValidation, Phase::kSamples}) {
    view.record.phase = phase;
    EXPECT_EQ(StallLimit(view, 0.5, kLimits), 30);
  }
  view.record.work = Work::kCommand;
  EXPECT_GT(StallLimit(view, 0.5, kLimits), 1e300);
}

TEST(JudgeTest, TheLongestStepOfAllRanksCounts) {
  std::vector<RankView> ranks = Ranks(2);
  ranks[0].record.longest_step_seconds = 20;
  KeepBeating(ranks, kStart + 99);
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 99).has_value());
  KeepBeating(ranks, kStart + 100);
  EXPECT_TRUE(Judge(ranks, kLimits, kStart + 100).has_value());
}

TEST(JudgeTest, TimeInWhichTheJudgeSleptIsForgiven) {
  std::vector<RankView> ranks = Ranks(2);
  Forgive(3600, ranks);
  EXPECT_FALSE(Judge(ranks, kLimits, kStart + 3600 + 19).has_value());
  EXPECT_EQ(Judge(ranks, kLimits, kStart + 3600 + 21)->kind, Kind::kSilent);
}

TEST(JudgeTest, ManyNamesAreCutShort) {
  std::vector<RankView> ranks = Ranks(100);
  for (RankView& view : ranks) view.lost = true;
  const std::string text = Describe(*Judge(ranks, kLimits, kStart), ranks);
  EXPECT_THAT(text, HasSubstr("rank 7 of 100"));
  EXPECT_THAT(text, Not(HasSubstr("rank 8 of 100")));
  EXPECT_THAT(text, HasSubstr("and 92 more"));
}

}  // namespace
}  // namespace tanren
