// The commit protocol under faults: the old checkpoint or the new one, never neither.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "core/base/status.h"
#include "core/checkpoint/resume.h"
#include "core/checkpoint/run_directory.h"
#include "tests/core/checkpoint/testing.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;
using testing::GlobalTensor;
using ::testing::HasSubstr;
using testing::ScratchDirectory;

std::vector<GlobalTensor> TensorsOf(char fill, int64_t rows) {
  std::vector<GlobalTensor> tensors(2);
  for (int i = 0; i < 2; ++i) {
    tensors[i].info = {"policy", "w", i == 0 ? Role::kWeight : Role::kSecondMoment, DType::kF32, {rows, 8}};
    tensors[i].data.assign(static_cast<size_t>(rows * 32), static_cast<char>(fill + i));
    tensors[i].shard_dim = 0;
  }
  return tensors;
}

FaultPlan Plan(const std::string& text) {
  absl::StatusOr<FaultPlan> plan = FaultPlan::Parse(text);
  TANREN_CHECK_MSG(plan.ok(), plan.status().ToString());
  return *std::move(plan);
}

absl::Status SaveWithFault(const std::string& run, int64_t step, const std::vector<GlobalTensor>& tensors,
                           const std::string& fault, SaveReport* report = nullptr, int keep_last = 2) {
  std::vector<SaveFaults> faults(4, SaveFaults(Plan(fault)));
  return testing::SaveAt(
      run, step, tensors, 2, 2,
      [&](int rank, SaveRequest* request) {
        request->faults = &faults[rank];
        request->retention.keep_last = keep_last;
      },
      report);
}

std::vector<std::string> Leftovers(const std::string& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename();
    if (name.find(".tmp-") != std::string::npos) names.push_back(name);
  }
  return names;
}

// What `auto` finds, its bits checked.
int64_t ResumedStep(const std::string& run, const std::map<int64_t, std::vector<GlobalTensor>>& truth) {
  const auto solo = MakeSoloComm("world");
  const auto& any = truth.begin()->second;
  const testing::RankPieces mine = testing::MakePieces(any, 1, 1, 0, false);
  const auto loaded =
      LoadCheckpoint(*solo, {run, "auto", {}}, [&](const CheckpointReader&) { return mine.pieces; });
  if (!loaded.ok() || loaded->reader == nullptr) {
    ADD_FAILURE() << "neither: " << loaded.status();
    return -1;
  }
  EXPECT_TRUE(loaded->warnings.empty()) << loaded->warnings[0];
  const int64_t step = loaded->reader->manifest().step;
  for (size_t i = 0; i < any.size(); ++i) EXPECT_EQ(*mine.memory[i], truth.at(step)[i].data);
  return step;
}

// A new owner takes the lock, sweeps, and saves on.
void ExpectRunGoesOn(const std::string& run, int64_t step, const std::vector<GlobalTensor>& tensors) {
  auto lock = RunLock::Acquire(run, "the next job");
  ASSERT_TRUE(lock.ok()) << lock.status();
  ASSERT_TRUE(SweepLeftovers(**lock).ok());
  EXPECT_TRUE(Leftovers(run).empty());
  ASSERT_TRUE(SaveWithFault(run, step, tensors, "").ok());
  ASSERT_TRUE(testing::CheckHolds(run + "/" + StepName(step), tensors).ok());
}

struct KillPoint {
  const char* fault;
  bool new_survives;
};

TEST(CommitTest, KilledAtEveryPointOfSaving) {
  const KillPoint points[] = {
      {"save:open:kill", false},
      {"save:open:kill:hit=2", false},
      {"save:open:kill:rank=3", false},
      {"save:write:kill", false},
      {"save:write:kill:hit=2", false},
      {"save:write:kill:rank=2", false},
      {"save:fsync:kill", false},
      {"save:fsync:kill:hit=2", false},
      {"save:fsync:kill:rank=0:hit=4", false},
      {"save:manifest:kill", false},
      {"save:commit:kill", false},
      {"save:rename:kill", false},
      {"save:parent:kill", true},
      {"save:latest:kill", true},
      {"save:prune:kill", true},
      {"save:prune:kill:hit=2", true},
  };
  const std::map<int64_t, std::vector<GlobalTensor>> truth = {{1, TensorsOf('a', 9)},
                                                              {2, TensorsOf('c', 9)},
                                                              {3, TensorsOf('e', 9)},
                                                              {4, TensorsOf('g', 9)},
                                                              {5, TensorsOf('i', 9)}};
  for (const KillPoint& point : points) {
    SCOPED_TRACE(point.fault);
    ScratchDirectory scratch;
    for (int64_t step = 1; step <= 4; ++step) {
      ASSERT_TRUE(SaveWithFault(scratch.path(), step, truth.at(step), "", nullptr, 9).ok());
    }
    const pid_t child = fork();
    if (child == 0) {
      const auto lock = RunLock::Acquire(scratch.path(), "the job to be killed");
      (void)SaveWithFault(scratch.path(), 5, truth.at(5), point.fault);
      _exit(lock.ok() ? 0 : 1);  // not reached where the fault strikes
    }
    int result = 0;
    ASSERT_EQ(waitpid(child, &result, 0), child);
    ASSERT_TRUE(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL) << "the fault did not strike: " << result;
    EXPECT_EQ(ResumedStep(scratch.path(), truth), point.new_survives ? 5 : 4);
    EXPECT_TRUE(testing::CheckHolds(scratch / "step-00000004", truth.at(4)).ok()) << "two commits at least";
    ExpectRunGoesOn(scratch.path(), 6, truth.at(1));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(CommitTest, KilledFromOutsideAtRandomTimes) {
  std::mt19937_64 random(testing::FreshSeed());
  const std::map<int64_t, std::vector<GlobalTensor>> truth = {{1, TensorsOf('a', 60000)},
                                                              {2, TensorsOf('c', 60000)}};
  int old_ones = 0, new_ones = 0;
  for (int round = 0; round < (testing::Soak() ? 200 : 25); ++round) {
    ScratchDirectory scratch;
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(SaveWithFault(scratch.path(), 1, truth.at(1), "").ok());
    const auto took =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
    const uint64_t longest = 2 * static_cast<uint64_t>(took.count()) + 1;
    const pid_t child = fork();
    if (child == 0) _exit(SaveWithFault(scratch.path(), 2, truth.at(2), "").ok() ? 0 : 1);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % longest));
    kill(child, SIGKILL);
    int result = 0;
    ASSERT_EQ(waitpid(child, &result, 0), child);
    ++(ResumedStep(scratch.path(), truth) == 1 ? old_ones : new_ones);
  }
  printf("killed at random: %d kept the old, %d had the new\n", old_ones, new_ones);
}

TEST(CommitTest, EveryFailureIsAgreedOnAndLeavesNothing) {
  const auto tensors = TensorsOf('a', 9);
  for (const char* point : {"open", "write", "fsync", "manifest", "commit", "rename"}) {
    for (const char* action : {"enospc", "eio", "short"}) {
      for (int rank = 0; rank < 4; rank += std::string(point) == "open" ? 1 : 3) {
        const bool only_rank_0 = std::string(point) == "manifest" || std::string(point) == "commit" ||
                                 std::string(point) == "rename";
        if (only_rank_0 && rank != 0) continue;
        const std::string fault = absl::StrFormat("save:%s:%s:rank=%d", point, action, rank);
        SCOPED_TRACE(fault);
        ScratchDirectory scratch;
        ASSERT_TRUE(SaveWithFault(scratch.path(), 1, tensors, "").ok());
        const absl::Status status = SaveWithFault(scratch.path(), 2, tensors, fault);
        EXPECT_EQ(status.code(), std::string(action) == "enospc" ? absl::StatusCode::kResourceExhausted
                                                                 : absl::StatusCode::kDataLoss);
        EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("rank ", rank, ": ")));
        EXPECT_TRUE(Leftovers(scratch.path()).empty());
        EXPECT_FALSE(fs::exists(scratch / "step-00000002"));
        ASSERT_TRUE(SaveWithFault(scratch.path(), 2, tensors, "").ok()) << "training goes on and saves later";
      }
    }
  }
}

TEST(CommitTest, APartialWriteIsContinued) {
  const auto tensors =
      TensorsOf('a', 300000);  // 9.6 MB per tensor: several buffers, direct where the system allows it
  ScratchDirectory scratch(ScratchDirectory::kDisk);
  ASSERT_TRUE(SaveWithFault(scratch.path(), 1, tensors, "save:write:partial").ok());
  EXPECT_TRUE(testing::CheckHolds(scratch / "step-00000001", tensors).ok());
}

TEST(CommitTest, FailuresAfterTheCommitAreWarnings) {
  const auto tensors = TensorsOf('a', 9);
  ScratchDirectory scratch;
  for (int64_t step = 1; step <= 3; ++step)
    ASSERT_TRUE(SaveWithFault(scratch.path(), step, tensors, "", nullptr, 9).ok());
  SaveReport report;
  ASSERT_TRUE(SaveWithFault(scratch.path(), 4, tensors, "save:latest:eio,save:prune:eio", &report).ok());
  ASSERT_EQ(report.warnings.size(), 2u);
  EXPECT_THAT(report.warnings[0], HasSubstr("LATEST"));
  EXPECT_THAT(report.warnings[1], HasSubstr("old checkpoints were not removed"));
  EXPECT_TRUE(testing::CheckHolds(scratch / "step-00000004", tensors).ok());
}

TEST(CommitTest, RetentionKeepsTwoCommitsAndTheEvery) {
  const auto tensors = TensorsOf('a', 3);
  ScratchDirectory scratch;
  const auto steps = [&] {
    const auto run = Directory::Open(scratch.path());
    return *ListSteps(*run);
  };
  for (int64_t step = 10; step <= 60; step += 10) {
    ASSERT_TRUE(testing::SaveAt(scratch.path(), step, tensors, 1, 1, [](int, SaveRequest* request) {
                  request->retention = {0, 30};
                }).ok());
  }
  EXPECT_EQ(steps(), (std::vector<std::string>{"step-00000060", "step-00000050", "step-00000030"}));
  // A damaged directory is no commit: with it, three valid ones are needed before one goes.
  fs::remove(scratch / "step-00000060/COMMIT");
  const auto run = Directory::Open(scratch.path());
  EXPECT_TRUE(ApplyRetention(*run, {2, 0}, nullptr)->empty());
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 70, tensors, 1, 1).ok());
  EXPECT_EQ(*ApplyRetention(*run, {2, 0}, nullptr), std::vector<std::string>{"step-00000030"});
}

TEST(CommitTest, ASecondJobIsRefusedByTheOwnersName) {
  ScratchDirectory scratch;
  const std::string run = scratch / "new/run";
  auto held = RunLock::Acquire(run, "job 4711");
  ASSERT_TRUE(held.ok()) << held.status();
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = fork();
  if (child == 0) {
    const absl::Status status = RunLock::Acquire(run, "job 4712").status();
    const std::string text(status.message());
    _exit(text.find("job 4711") != std::string::npos && text.find("process") != std::string::npos ? 0 : 1);
  }
  int result = -1;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  testing::OnRanks(2, [&](Comm& world) {
    EXPECT_THAT(std::string(RunLock::AcquireForJob(world, run, "").status().message()),
                HasSubstr("job 4711"));
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  held->reset();
  EXPECT_TRUE(RunLock::Acquire(run, "job 4713").ok());
}

TEST(CommitTest, SweepTakesLeftoversOnly) {
  ScratchDirectory scratch;
  const char* const stay[] = {"notes.tmp-1", "step-1.tmp-2", "step-00000001", "step-00000001.damaged-3",
                              "metrics.jsonl"};
  for (const char* name : stay) fs::create_directories(scratch / name);
  fs::create_directories(scratch / "step-00000002.tmp-ab/tokenizer");
  testing::WriteFile(scratch / "step-00000002.tmp-ab/tokenizer/x", "x");
  testing::WriteFile(scratch / "precious", "x");
  fs::create_directory_symlink(scratch.path(), scratch / "step-00000002.tmp-ab/link");
  testing::WriteFile(scratch / "LATEST.tmp-ab", "x");
  const auto lock = RunLock::Acquire(scratch.path(), "");
  EXPECT_EQ(*SweepLeftovers(**lock), (std::vector<std::string>{"LATEST.tmp-ab", "step-00000002.tmp-ab"}));
  for (const char* name : stay) EXPECT_TRUE(fs::exists(scratch / name)) << name;
  EXPECT_TRUE(fs::exists(scratch / "precious")) << "links are removed, not followed";
}

TEST(CommitTest, FaultPlansAreParsedStrictly) {
  for (const char* bad :
       {"manifest:kill", "save:manifest", "save:nowhere:kill", "save:write:explode", "save:write:eio:rank=x",
        "save:write:eio:when=1", "save:write:eio:hit=-1", "save:write:flip", "step:replica:kill",
        "step:forward:eio", "step:write:kill", "step:forward"}) {
    EXPECT_FALSE(FaultPlan::Parse(bad).ok()) << bad;
  }
}

// In a mount namespace of its own: 0 the tests hold there, 77 mounting is not permitted, else the failing
// line.
int SaveOnFullDisk(const std::string& mount_point) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return 77;
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
  if (mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=16m") != 0) return 77;
  const auto tensors = TensorsOf('a', 90000);  // 2.9 MB each, 5.8 MB in all
  const std::string run = mount_point + "/run";
  fs::create_directory(run);
  if (!SaveWithFault(run, 1, tensors, "").ok()) return 1;
  // Too full from the start: refused before anything is written.
  testing::WriteFile(mount_point + "/filler", std::string(3 << 20, 'x'));
  const absl::Status refused = SaveWithFault(run, 2, tensors, "");
  if (!absl::IsResourceExhausted(refused) ||
      std::string(refused.message()).find("are free") == std::string::npos)
    return 2;
  fs::remove(mount_point + "/filler");
  // Filled up by another between the check and the write.
  const auto solo = MakeSoloComm("world");
  const testing::RankPieces mine = testing::MakePieces(tensors, 1, 1, 0, true);
  SaveRequest request;
  request.run_dir = run;
  request.step = 2;
  request.pieces = mine.pieces;
  auto save = CheckpointSave::Begin(*solo, request);
  if (!save.ok()) return 3;
  testing::WriteFile(mount_point + "/filler", std::string(8 << 20, 'x'));
  const absl::Status written = save->WriteShards();
  if (!absl::IsResourceExhausted(written)) return 4;
  if (!absl::IsResourceExhausted(save->Commit(*solo, written).status())) return 5;
  if (!Leftovers(run).empty() || !testing::CheckHolds(run + "/step-00000001", tensors).ok()) return 6;
  fs::remove(mount_point + "/filler");
  return SaveWithFault(run, 2, tensors, "").ok() ? 0 : 7;
}

TEST(CommitTest, AFullDisk) {
  ScratchDirectory scratch;
  const pid_t child = fork();
  if (child == 0) _exit(SaveOnFullDisk(scratch.path()));
  int result = -1;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  ASSERT_TRUE(WIFEXITED(result)) << result;
  if (WEXITSTATUS(result) == 77)
    GTEST_SKIP() << "mounting a tmpfs is not permitted; the injected ENOSPC tests ran";
  EXPECT_EQ(WEXITSTATUS(result), 0);
}

}  // namespace
}  // namespace tanren
