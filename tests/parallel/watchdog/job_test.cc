// Jobs in which a rank goes wrong: the watchdog names it and the job ends, or does not when nothing is wrong.
// The child's limits are 2 s of silence or standstill.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/runtime/runtime.h"
#include "tests/parallel/comm/child_process.h"

namespace tanren {
namespace {

using ::testing::AnyOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Generous: the machine may be busy. A hang is minutes.
constexpr double kSeconds = 60;

class WatchdogJobTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<std::string> Command(const std::string& kind, int ranks = 3) {
    return {TANREN_MPIRUN, "-np", std::to_string(ranks), TANREN_COMM_CHILD, "watch", kind};
  }
  std::map<std::string, std::string> Environment() {
    return {{"TANREN_COMM", GetParam()}, {"COMM_CHILD_PIDS", pids_.path()}};
  }
  PidDirectory pids_;
};

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TEST_P(WatchdogJobTest, SaysNothingWhenNothingIsWrong) {
  ChildProcess job(Command("even"), Environment());
  EXPECT_EQ(job.Wait(kSeconds), 0) << job.Output();
  EXPECT_THAT(job.Output(), Not(HasSubstr("watchdog:")));
}

TEST_P(WatchdogJobTest, LongWorkThatTicksOrIsACommandIsLeftAlone) {
  for (const char* kind : {"ticks", "command"}) {
    ChildProcess job(Command(kind), Environment());
    EXPECT_EQ(job.Wait(kSeconds), 0) << job.Output();
    EXPECT_THAT(job.Output(), Not(HasSubstr("watchdog:")));
  }
}

TEST_P(WatchdogJobTest, AStuckRankIsNamedWithStepAndCollective) {
  ChildProcess job(Command("stuck"), Environment());
  EXPECT_EQ(job.Wait(kSeconds), kExitWatchdog) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("watchdog: rank 2 of 3 on "));
  EXPECT_THAT(job.Output(), HasSubstr(" is stuck: no progress for "));
  EXPECT_THAT(job.Output(), HasSubstr("last seen in step 4, after collective #"));
  EXPECT_THAT(job.Output(), HasSubstr("ranks 0-1 wait in #4 'gradients' of axis data"));
}

TEST_P(WatchdogJobTest, ARankThatSkipsACollectiveIsNamedWithWhatEachRankIsIn) {
  ChildProcess job(Command("skip"), Environment());
  EXPECT_EQ(job.Wait(kSeconds), kExitWatchdog) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("watchdog: ranks wait for each other"));
  EXPECT_THAT(job.Output(), HasSubstr("step 4, inside collective #4 'gradients' of axis data"));
  EXPECT_THAT(job.Output(), HasSubstr("'step end' of axis world"));
}

TEST_P(WatchdogJobTest, AKilledRankIsNamedAndItsCodeKept) {
  ChildProcess job(Command("die"), Environment());
  EXPECT_EQ(job.Wait(kSeconds), 128 + SIGKILL) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("watchdog: rank 2 of 3 on "));
  // It died in step 4; its last heartbeat may be of the step before.
  EXPECT_THAT(job.Output(), ContainsRegex("has gone without a goodbye, last seen in step [34]"));
}

TEST_P(WatchdogJobTest, ARankThatEndsTheJobItselfIsNotMissed) {
  ChildProcess job(Command("fail"), Environment());
  EXPECT_EQ(job.Wait(kSeconds), 1) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("the test's own failure"));
  EXPECT_THAT(job.Output(), Not(HasSubstr("watchdog:")));
}

TEST_P(WatchdogJobTest, AStoppedRankIsNamedAndEnded) {
  for (const int stopped : {0, 1}) {
    PidDirectory pids;
    ChildProcess job(Command("run"), {{"TANREN_COMM", GetParam()}, {"COMM_CHILD_PIDS", pids.path()}});
    const std::vector<pid_t> ranks = pids.WaitForRanks(3, kSeconds);
    ASSERT_EQ(ranks.size(), 3) << job.Output();
    sleep(1);  // into the steps
    const double begin = Now();
    kill(ranks[stopped], SIGSTOP);
    EXPECT_EQ(job.Wait(kSeconds), kExitWatchdog) << job.Output();
    std::printf("rank %d stopped: the job ended after %.1f s, with a limit of 2 s\n", stopped, Now() - begin);
    EXPECT_THAT(job.Output(), HasSubstr("watchdog: rank " + std::to_string(stopped) + " of 3 on "));
    EXPECT_THAT(job.Output(), HasSubstr("has sent nothing for "));
    EXPECT_THAT(job.Output(), HasSubstr("the process is stopped, by SIGSTOP"));
    EXPECT_TRUE(WaitForEnd(ranks, 10));
  }
}

TEST_P(WatchdogJobTest, AJobThatIsStoppedAsAWholeGoesOn) {
  ChildProcess job(Command("ticks"), Environment());
  const std::vector<pid_t> ranks = pids_.WaitForRanks(3, kSeconds);
  ASSERT_EQ(ranks.size(), 3) << job.Output();
  sleep(1);
  for (const pid_t rank : ranks) kill(rank, SIGSTOP);
  sleep(4);
  for (const pid_t rank : ranks) kill(rank, SIGCONT);
  EXPECT_EQ(job.Wait(kSeconds), 0) << job.Output();
}

TEST_P(WatchdogJobTest, KilledMpirunLeavesNobody) {
  ChildProcess job(Command("run"), Environment());
  const std::vector<pid_t> ranks = pids_.WaitForRanks(3, kSeconds);
  ASSERT_EQ(ranks.size(), 3) << job.Output();
  kill(ranks[1], SIGSTOP);
  job.Signal(SIGKILL);
  EXPECT_TRUE(WaitForEnd(ranks, 10));
}

TEST_P(WatchdogJobTest, ASlowRankIsReportedAndNotEnded) {
  ChildProcess job(Command("slow", 2), Environment());
  EXPECT_EQ(job.Wait(kSeconds), 0) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("rank 1 of 2 on "));
  EXPECT_THAT(job.Output(), HasSubstr("is slow: 0.2"));
  EXPECT_THAT(job.Output(), Not(HasSubstr("rank 0 of 2")));
}

INSTANTIATE_TEST_SUITE_P(All, WatchdogJobTest, ::testing::Values("shm", "mpi"));

}  // namespace
}  // namespace tanren
