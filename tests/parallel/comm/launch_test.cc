// `tanren launch`: exit codes, signals, output, and that no process survives it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <string>
#include <vector>

#include "parallel/runtime/affinity.h"
#include "tests/parallel/comm/child_process.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kSeconds = 60;

std::vector<std::string> LaunchTool(int ranks, const std::string& scene, const std::string& argument = "") {
  return {TANREN_LAUNCH_TOOL, std::to_string(ranks), TANREN_COMM_CHILD, scene, argument};
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

class LaunchTest : public ::testing::Test {
 protected:
  std::map<std::string, std::string> Environment() { return {{"COMM_CHILD_PIDS", pids_.path()}}; }
  PidDirectory pids_;
};

TEST_F(LaunchTest, ReturnsTheRanksExitCodeExactly) {
  for (const int code : {0, 1, 2, 75, 42}) {
    ChildProcess job(LaunchTool(3, "exit", std::to_string(code)), {});
    EXPECT_EQ(job.Wait(kSeconds), code) << job.Output();
    // mpirun's lecture about codes that are not 0 is not for users.
    EXPECT_EQ(job.Output(), "rank 0 says hello\n");
  }
}

TEST_F(LaunchTest, ReturnsTheCodeOfOneRankThatEndsAll) {
  ChildProcess aborted(LaunchTool(3, "abort", "75"), {});
  EXPECT_EQ(aborted.Wait(kSeconds), 75) << aborted.Output();
  ChildProcess killed(LaunchTool(3, "die", std::to_string(SIGKILL)), {});
  EXPECT_EQ(killed.Wait(kSeconds), 137);
  EXPECT_THAT(killed.Output(), HasSubstr("a rank was ended by signal 9"));
  ChildProcess crashed(LaunchTool(3, "die", std::to_string(SIGSEGV)), {});
  EXPECT_EQ(crashed.Wait(kSeconds), 139);
}

TEST_F(LaunchTest, AllOutputAndPlanOnRequest) {
  ChildProcess job(LaunchTool(2, "exit", "0"),
                   {{"LAUNCH_TOOL_ALL_OUTPUT", "1"}, {"LAUNCH_TOOL_VERBOSE", "1"}});
  EXPECT_EQ(job.Wait(kSeconds), 0);
  EXPECT_THAT(job.Output(), HasSubstr("rank 0 says hello"));
  EXPECT_THAT(job.Output(), HasSubstr("rank 1 says hello"));
  EXPECT_THAT(job.Output(), HasSubstr("rank 1: "));
}

TEST_F(LaunchTest, RanksGetCoresOfTheirOwn) {
  ChildProcess job(LaunchTool(2, "mesh", "1x0x1x1"), {});
  ASSERT_EQ(job.Wait(kSeconds), 0) << job.Output();
  if (UsableCores() < 2) GTEST_SKIP() << "fewer than two cores here";
  const std::vector<std::vector<Core>> parts = DivideCores(AllowedCores(), 2);
  if (UsableCores() < static_cast<int>(AllowedCores().size())) {
    EXPECT_THAT(job.Output(), HasSubstr("shared by 2 ranks"));  // a quota of time binds nobody
    return;
  }
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_THAT(job.Output(),
                HasSubstr("rank " + std::to_string(rank) + ": " + Describe(parts[rank]) + ", "));
  }
  EXPECT_THAT(job.Output(), Not(HasSubstr("shared by")));
}

TEST_F(LaunchTest, DoctorTestsCollectives) {
  ChildProcess alone({TANREN_COMM_CHILD, "doctor", pids_.path()}, {});
  EXPECT_EQ(alone.Wait(kSeconds), 0) << alone.Output();
  EXPECT_THAT(alone.Output(), HasSubstr("a world of one"));
  ChildProcess job(LaunchTool(2, "doctor", pids_.path()), {});
  EXPECT_EQ(job.Wait(kSeconds), 0) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("collectives  right; all-reduce of 32 MB at "));
  EXPECT_EQ(Count(job.Output(), "cpu  "), 1) << "only rank 0 prints";
  ChildProcess unwritable(LaunchTool(2, "doctor", "/nowhere"), {});
  EXPECT_EQ(unwritable.Wait(kSeconds), 1);
  EXPECT_THAT(unwritable.Output(),
              HasSubstr("warning:     cannot write to /nowhere: No such file or directory"));
}

TEST_F(LaunchTest, StopSignalsSaveOnceAndReturn75) {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) {
    PidDirectory pids;
    ChildProcess job(LaunchTool(3, "train"),
                     {{"COMM_CHILD_PIDS", pids.path()}, {"LAUNCH_TOOL_ALL_OUTPUT", "1"}});
    ASSERT_EQ(pids.WaitForRanks(3, kSeconds).size(), 3) << job.Output();
    job.Signal(number);
    EXPECT_EQ(job.Wait(kSeconds), 75) << job.Output();
    EXPECT_EQ(Count(job.Output(), "saved step of rank 0"), 3) << job.Output();
  }
}

// A stop in the middle of start-up is not lost, and does not kill ranks that have no handlers yet.
TEST_F(LaunchTest, EarlyStopSignalIsRepeated) {
  ChildProcess job(LaunchTool(2, "train"), Environment());
  // The launcher itself is given the time to get its handlers.
  EXPECT_FALSE(job.Wait(0.05).has_value());
  job.Signal(SIGTERM);
  EXPECT_EQ(job.Wait(kSeconds), 75) << job.Output();
}

TEST_F(LaunchTest, SecondInterruptEndsAtOnce) {
  ChildProcess job(LaunchTool(2, "wait"), Environment());
  const std::vector<pid_t> ranks = pids_.WaitForRanks(2, kSeconds);
  ASSERT_EQ(ranks.size(), 2) << job.Output();
  job.Signal(SIGINT);
  EXPECT_FALSE(job.Wait(0.5).has_value());
  job.Signal(SIGINT);
  EXPECT_EQ(job.Wait(kSeconds), 130) << job.Output();
  EXPECT_TRUE(WaitForEnd(ranks, 5));
}

TEST_F(LaunchTest, KilledLauncherLeavesNobody) {
  ChildProcess job(LaunchTool(3, "wait"), Environment());
  const std::vector<pid_t> ranks = pids_.WaitForRanks(3, kSeconds);
  ASSERT_EQ(ranks.size(), 3) << job.Output();
  job.Signal(SIGKILL);
  EXPECT_TRUE(WaitForEnd(ranks, 10));
}

TEST_F(LaunchTest, WrongOptionsAreExplained) {
  ChildProcess no_ranks(LaunchTool(0, "exit", "0"), {});
  EXPECT_EQ(no_ranks.Wait(kSeconds), 2);
  EXPECT_THAT(no_ranks.Output(), HasSubstr("-n 0: expected a number of ranks"));
  ChildProcess no_mpirun(LaunchTool(2, "exit", "0"), {{"LAUNCH_TOOL_MPIRUN", "/nowhere/mpirun"}});
  EXPECT_EQ(no_mpirun.Wait(kSeconds), 127);
  EXPECT_THAT(no_mpirun.Output(), HasSubstr("no executable /nowhere/mpirun"));
  ChildProcess no_program({TANREN_LAUNCH_TOOL, "2", "/nowhere/tanren", "train"}, {});
  EXPECT_EQ(no_program.Wait(kSeconds), 2);
  EXPECT_THAT(no_program.Output(), HasSubstr("no executable /nowhere/tanren"));
}

}  // namespace
}  // namespace tanren
