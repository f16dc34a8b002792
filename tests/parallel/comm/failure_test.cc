// What goes wrong between ranks ends the job, with names, and leaves nothing behind. Each scene is a job of
// its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "parallel/runtime/affinity.h"
#include "parallel/runtime/launch_check.h"
#include "parallel/runtime/stop_signal.h"
#include "tests/parallel/comm/child_process.h"

namespace tanren {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Generous: the machine may be busy. A hang is minutes.
constexpr double kSeconds = 60;

std::vector<std::string> Mpirun(int ranks, const std::string& scene, const std::string& argument) {
  return {TANREN_MPIRUN, "-np", std::to_string(ranks), TANREN_COMM_CHILD, scene, argument};
}

struct MismatchCase {
  const char* kind;
  const char* one_side;
  const char* other_side;
};

class MismatchTest : public ::testing::TestWithParam<std::tuple<const char*, MismatchCase>> {};

TEST_P(MismatchTest, IsNamedAndEndsTheJob) {
  const auto& [comm, scene] = GetParam();
  ChildProcess job(Mpirun(3, "mismatch", scene.kind), {{"TANREN_COMM", comm}});
  const std::optional<int> code = job.Wait(kSeconds);
  ASSERT_TRUE(code.has_value()) << "hangs\n" << job.Output();
  EXPECT_EQ(*code, 1) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("of axis 'world': collective #"));
  EXPECT_THAT(job.Output(), HasSubstr(scene.one_side));
  EXPECT_THAT(job.Output(), HasSubstr(scene.other_side));
}

INSTANTIATE_TEST_SUITE_P(
    All, MismatchTest,
    ::testing::Combine(
        ::testing::Values("shm", "mpi"),
        ::testing::Values(
            MismatchCase{"name", "#4 'head_max' (all-reduce max, 4096 float32)",
                         "#4 'loss_sum' (all-reduce max, 4096 float32)"},
            MismatchCase{"count", "(all-reduce max, 4096 float32)", "(all-reduce max, 70000 float32)"},
            MismatchCase{"op", "(all-reduce max, 4096 float32)", "(all-reduce sum, 4096 float32)"},
            MismatchCase{"dtype", "(all-reduce max, 4096 float32)", "(all-reduce max, 4096 float64)"},
            MismatchCase{"root", "(broadcast from rank 0, 100000 float32)",
                         "(broadcast from rank 1, 100000 float32)"},
            MismatchCase{"kind", "'head_max' (all-reduce max, 4096 float32)", "'head_max' (barrier)"},
            MismatchCase{"large", "'head_max' (all-reduce sum, 100000 float32)",
                         "'embedding' (all-gather, 100000 float32)"},
            MismatchCase{"pair", "#1 'gradients' (send and receive, 12 float32)",
                         "but rank 0 called #1 'activations' (send and receive, 10 float32)"},
            MismatchCase{"missing", "#4 'head_max' (all-reduce max, 4096 float32)",
                         "#4 'end of the job' (barrier)"})),
    [](const auto& info) {
      return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param).kind;
    });

class FailureTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::map<std::string, std::string> Environment() {
    return {{"TANREN_COMM", GetParam()}, {"COMM_CHILD_PIDS", pids_.path()}};
  }
  PidDirectory pids_;
};

TEST_P(FailureTest, StuckRankIsReportedThenGivenUp) {
  auto environment = Environment();
  environment["TANREN_COMM_STALL_SECONDS"] = "0.5";
  environment["TANREN_COMM_TIMEOUT_SECONDS"] = "1.5";
  ChildProcess job(Mpirun(2, "mismatch", "stuck"), environment);
  EXPECT_EQ(job.Wait(kSeconds), 1) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("s in #4 'head_max' (all-reduce max, 4096 float32)"));
  EXPECT_THAT(job.Output(), HasSubstr("gave up after"));
  if (std::string(GetParam()) == "shm") {
    EXPECT_THAT(job.Output(), HasSubstr("for rank 1, which was last seen here in #3 'gradients'"));
  }
}

TEST_P(FailureTest, KilledRankEndsAll) {
  ChildProcess job(Mpirun(3, "die", std::to_string(SIGKILL)), Environment());
  EXPECT_EQ(job.Wait(kSeconds), 128 + SIGKILL) << job.Output();
  EXPECT_TRUE(WaitForEnd(pids_.WaitForRanks(3, 1), 5));
}

TEST_P(FailureTest, KilledMpirunLeavesNobody) {
  ChildProcess job(Mpirun(3, "wait", ""), Environment());
  const std::vector<pid_t> ranks = pids_.WaitForRanks(3, kSeconds);
  ASSERT_EQ(ranks.size(), 3) << job.Output();
  job.Signal(SIGKILL);
  EXPECT_TRUE(WaitForEnd(ranks, 10));
}

INSTANTIATE_TEST_SUITE_P(All, FailureTest, ::testing::Values("shm", "mpi"));

TEST(RuntimeTest, MeshCoordinatesAndGroups) {
  ChildProcess job(Mpirun(4, "mesh", "1x0x1x2"), {});
  ASSERT_EQ(job.Wait(kSeconds), 0) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("rank 0: data 0/2 sum 2, tensor 0/2 sum 1"));
  EXPECT_THAT(job.Output(), HasSubstr("rank 1: data 0/2 sum 4, tensor 1/2 sum 1"));
  EXPECT_THAT(job.Output(), HasSubstr("rank 2: data 1/2 sum 2, tensor 0/2 sum 5"));
  EXPECT_THAT(job.Output(), HasSubstr("rank 3: data 1/2 sum 4, tensor 1/2 sum 5"));
  EXPECT_THAT(job.Output(), HasSubstr("world 4 on 1 node, 4 per node"));
}

struct MeshError {
  const char* shape;
  const char* message;
};

TEST(RuntimeTest, WrongMeshesAreRefusedOnceByAllRanks) {
  for (const MeshError& wrong : std::vector<MeshError>{
           {"1x2x1x2",
            "the mesh data 2 x tensor 2 needs 4 ranks, but this job has 3; start it with tanren launch -n 4"},
           {"1x0x1x2", "parallel.tensor=2 does not divide the 3 ranks of this job"},
           {"2x0x1x1", "parallel.pipe=2: only 1 is available"},
           {"1x0x4x1", "parallel.context=4: only 1 is available"},
           {"1x65536x1x65536", "needs 4294967296 ranks, but this job has 3"}}) {
    ChildProcess job(Mpirun(3, "mesh", wrong.shape), {});
    EXPECT_EQ(job.Wait(kSeconds), 2) << job.Output();
    const std::string output = job.Output();
    const size_t first = output.find("error: ");
    EXPECT_THAT(output, HasSubstr(wrong.message));
    EXPECT_EQ(output.find("error: ", first + 1), std::string::npos) << "more than one rank speaks:\n"
                                                                    << output;
  }
}

TEST(RuntimeTest, RanksWithDifferentConfigsAreNamed) {
  ChildProcess job(Mpirun(2, "mesh", "1x0x1x1"), {{"COMM_CHILD_DIFFER", "1"}});
  EXPECT_EQ(job.Wait(kSeconds), 2) << job.Output();
  EXPECT_THAT(job.Output(),
              HasSubstr("rank 1 asks for the mesh data 0 x tensor 2, rank 0 for data 0 x tensor 1"));
}

TEST(RuntimeTest, RunsAloneWithoutMpi) {
  ChildProcess job({TANREN_COMM_CHILD, "mesh", "1x0x1x1"}, {});
  EXPECT_EQ(job.Wait(kSeconds), 0) << job.Output();
  EXPECT_THAT(job.Output(), HasSubstr("world 1 on 1 node"));
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) {
    PidDirectory pids;
    ChildProcess alone({TANREN_COMM_CHILD, "train"}, {{"COMM_CHILD_PIDS", pids.path()}});
    ASSERT_EQ(pids.WaitForRanks(1, kSeconds).size(), 1);
    alone.Signal(number);
    EXPECT_EQ(alone.Wait(kSeconds), 75) << alone.Output();
  }
}

// Inside oneDNN's gemm the stack pointer points into the heap: a signal handled there would corrupt it.
TEST(RuntimeTest, SignalsDoNotDisturbMatrixProducts) {
  PidDirectory pids;
  ChildProcess alone({TANREN_COMM_CHILD, "compute", "5"},
                     {{"COMM_CHILD_PIDS", pids.path()}, {"OMP_NUM_THREADS", "1"}});
  ASSERT_EQ(pids.WaitForRanks(1, kSeconds).size(), 1);
  for (int i = 0; i < 40'000 && IsAlive(alone.pid()); ++i) {
    alone.Signal(SIGUSR1);
    usleep(100);
  }
  EXPECT_EQ(alone.Wait(kSeconds), 75) << alone.Output();
}

TEST(RuntimeTest, SrunWithoutPmixIsExplained) {
  ChildProcess job(
      {TANREN_COMM_CHILD, "exit", "0"},
      {{"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}});
  EXPECT_EQ(job.Wait(kSeconds), 2);
  EXPECT_THAT(job.Output(), HasSubstr("srun --mpi=pmix -n 4 tanren"));
  ChildProcess quiet(
      {TANREN_COMM_CHILD, "exit", "0"},
      {{"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}});
  EXPECT_EQ(quiet.Wait(kSeconds), 2);
  EXPECT_EQ(quiet.Output(), "");
  ChildProcess batch({TANREN_COMM_CHILD, "exit", "0"}, {{"SLURM_NTASKS", "4"}});
  EXPECT_EQ(batch.Wait(kSeconds), 2);
  EXPECT_THAT(batch.Output(), HasSubstr("this SLURM job has 4 tasks"));
}

TEST(AffinityTest, CpuLists) {
  using ::testing::ElementsAre;
  using ::testing::IsEmpty;
  EXPECT_THAT(ParseCpuList("0-3,8,10-11\n"), ElementsAre(0, 1, 2, 3, 8, 10, 11));
  EXPECT_THAT(ParseCpuList(""), IsEmpty());
  EXPECT_THAT(ParseCpuList("nonsense"), IsEmpty());
  EXPECT_THAT(ParseCpuList("1,x"), ElementsAre(1));
  EXPECT_EQ(FormatCpuList({11, 0, 1, 2, 3, 8, 10}), "0-3,8,10-11");
  EXPECT_FALSE(AllowedCores().empty());
  EXPECT_GE(UsableCores(), 1);
}

// Cores of a machine with nodes of the given sizes and two hardware threads per core.
std::vector<Core> Machine(const std::vector<int>& node_sizes) {
  std::vector<Core> cores;
  for (int node = 0; node < static_cast<int>(node_sizes.size()); ++node) {
    for (int i = 0; i < node_sizes[node]; ++i) {
      const int cpu = static_cast<int>(cores.size());
      cores.push_back({node, {cpu, cpu + 1000}});
    }
  }
  return cores;
}

std::string Division(const std::vector<int>& node_sizes, int ranks) {
  std::string text;
  for (const std::vector<Core>& part : DivideCores(Machine(node_sizes), ranks)) {
    std::vector<int> first;
    for (const Core& core : part) first.push_back(core.cpus[0]);
    text += (text.empty() ? "" : " | ") + FormatCpuList(first);
  }
  return text;
}

TEST(AffinityTest, CoresAreDividedWithinNodes) {
  EXPECT_EQ(Division({2}, 2), "0 | 1");
  EXPECT_EQ(Division({4}, 1), "0-3");
  EXPECT_EQ(Division({4, 4}, 2), "0-3 | 4-7");
  EXPECT_EQ(Division({4, 4}, 4), "0-1 | 2-3 | 4-5 | 6-7");
  EXPECT_EQ(Division({4, 4}, 3), "0-1 | 2-3 | 4-5");
  EXPECT_EQ(Division({3, 3}, 3), "0-1 | 3-4 | 2,5");  // the third has to straddle
  EXPECT_EQ(Division({4, 4}, 1), "0-7");
  // More ranks than cores: nobody is bound.
  for (const std::vector<Core>& part : DivideCores(Machine({2}), 3)) EXPECT_TRUE(part.empty());
}

}  // namespace
}  // namespace tanren
