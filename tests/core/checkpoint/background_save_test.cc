// A save beside the run: it holds what was there at its start, fails as one that is waited for does, and the
// ranks need not be done at the same time.
#include "core/checkpoint/background_save.h"

#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/checkpoint/testing.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;
using testing::GlobalTensor;
using ::testing::HasSubstr;
using testing::ScratchDirectory;

std::vector<GlobalTensor> TensorsOf(char fill) {
  std::vector<GlobalTensor> tensors;
  for (const Role role : {Role::kWeight, Role::kFirstMoment}) {
    GlobalTensor tensor;
    tensor.info = {"policy", "a", role, DType::kF32, {6, 4}};
    tensor.data.assign(6 * 4 * 4, static_cast<char>(fill + static_cast<char>(role)));
    tensor.shard_dim = 0;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

class BackgroundSaveTest : public ::testing::Test {
 protected:
  // On 2 x 2 ranks; `meanwhile` runs on each rank once the save has started. Returns the agreed result.
  absl::StatusOr<SaveReport> Save(int64_t step, const std::string& fault,
                                  const std::function<void(BackgroundSave&)>& meanwhile, bool poll = true) {
    std::vector<absl::StatusOr<SaveReport>> reports(4);
    testing::OnRanks(4, [&](Comm& world) {
      const testing::RankPieces mine = testing::MakePieces(TensorsOf('a'), 2, 2, world.rank(), true);
      SaveFaults faults{*FaultPlan::Parse(fault)};
      SaveRequest request;
      request.run_dir = run_.path();
      request.run_id = "test";
      request.stage = "pretrain";
      request.step = step;
      request.mesh.data = request.mesh.tensor = 2;
      request.pieces = mine.pieces;
      request.retention.keep_last = 2;
      request.faults = &faults;
      absl::StatusOr<std::unique_ptr<BackgroundSave>> save = BackgroundSave::Start(world, request);
      if (!save.ok()) {
        reports[world.rank()] = save.status();
        return;
      }
      meanwhile(**save);
      reports[world.rank()] = poll ? Poll(world, **save) : (*save)->Finish(world);
    });
    for (const auto& report : reports) EXPECT_EQ(report.status(), reports[0].status());
    return reports[0];
  }

  // What a training loop does: one exchange a step, until all are ready.
  static absl::StatusOr<SaveReport> Poll(Comm& world, BackgroundSave& save) {
    for (;;) {
      int32_t writing = save.Ready() ? 0 : 1;
      world.AllReduce(Stream(), "step", Buffer(&writing), 1, ReduceOp::kMax);
      if (writing != 0) continue;
      std::optional<absl::StatusOr<SaveReport>> ended = save.Advance(world);
      if (ended.has_value()) return *std::move(ended);
    }
  }

  std::vector<std::string> Entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(run_.path())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  ScratchDirectory run_;
};

void Nothing(BackgroundSave&) {}

TEST_F(BackgroundSaveTest, HoldsWhatWasThere) {
  for (const bool poll : {true, false}) {
    const int64_t step = poll ? 1 : 2;
    const absl::StatusOr<SaveReport> report = Save(step, "", Nothing, poll);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->path, run_ / StepName(step));
    EXPECT_EQ(report->bytes, 2 * 6 * 4 * 4);
    EXPECT_TRUE(testing::CheckHolds(report->path, TensorsOf('a')).ok());
  }
  EXPECT_THAT(Entries(), ::testing::ElementsAre("LATEST", StepName(1), StepName(2)));
}

TEST_F(BackgroundSaveTest, IsNotReadyWhileItWrites) {
  std::atomic<int> waited{0};
  // Only the rank that is slow is not ready, and the others wait for it in the exchange of a step only.
  const auto meanwhile = [&](BackgroundSave& save) {
    if (!save.Ready()) ++waited;
  };
  const absl::StatusOr<SaveReport> report = Save(1, "save:open:delay:rank=2", meanwhile);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GE(waited, 1);
  EXPECT_TRUE(testing::CheckHolds(report->path, TensorsOf('a')).ok());
}

TEST_F(BackgroundSaveTest, PrunesBesideTheRun) {
  for (int64_t step = 1; step <= 4; ++step) ASSERT_TRUE(Save(step, "", Nothing).ok());
  EXPECT_THAT(Entries(), ::testing::ElementsAre("LATEST", StepName(3), StepName(4)));
}

TEST_F(BackgroundSaveTest, FailuresAreAgreedOnAndLeaveTheOldCommit) {
  ASSERT_TRUE(Save(1, "", Nothing).ok());
  const std::vector<std::string> before = Entries();
  for (const std::string point : {"open", "write", "fsync", "manifest", "commit", "rename"}) {
    for (const std::string action : {"eio", "enospc"}) {
      const absl::StatusOr<SaveReport> report = Save(2, absl::StrCat("save:", point, ":", action), Nothing);
      EXPECT_FALSE(report.ok()) << point;
      EXPECT_THAT(std::string(View(report.status().message())), HasSubstr("injected"));
      EXPECT_EQ(Entries(), before) << point;
    }
  }
  EXPECT_TRUE(testing::CheckHolds(run_ / StepName(1), TensorsOf('a')).ok());
  EXPECT_TRUE(Save(2, "", Nothing).ok());
}

TEST_F(BackgroundSaveTest, WhatFailsAfterTheCommitIsAWarning) {
  const absl::StatusOr<SaveReport> report = Save(1, "save:latest:eio", Nothing);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(testing::CheckHolds(run_ / StepName(1), TensorsOf('a')).ok());
  EXPECT_THAT(Entries(), ::testing::ElementsAre(StepName(1)));
}

TEST_F(BackgroundSaveTest, GivenUpBeforeItsEndIsNoCommit) {
  ASSERT_TRUE(Save(1, "", Nothing).ok());
  testing::OnRanks(1, [&](Comm& world) {
    const testing::RankPieces mine = testing::MakePieces(TensorsOf('a'), 1, 1, 0, true);
    SaveFaults faults;
    SaveRequest request;
    request.run_dir = run_.path();
    request.step = 2;
    request.pieces = mine.pieces;
    request.faults = &faults;
    ASSERT_TRUE(BackgroundSave::Start(world, request).ok());  // destroyed at once
  });
  const std::vector<std::string> entries = Entries();
  ASSERT_EQ(entries.size(), 3) << "LATEST, a commit and a leftover";
  EXPECT_TRUE(absl::StartsWith(entries[2], StepName(2) + ".tmp-")) << entries[2];
  EXPECT_EQ(*FindStep(run_.path()), run_ / StepName(1));
}

}  // namespace
}  // namespace tanren
