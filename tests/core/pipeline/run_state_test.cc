#include "core/pipeline/run_state.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

class RunStateTest : public testing::Test {
 protected:
  RunStateTest() : directory_(absl::StrCat(testing::TempDir(), "/run_state_test_", getpid())) {
    std::filesystem::create_directories(directory_);
    gethostname(host_, sizeof(host_) - 1);
  }
  ~RunStateTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(directory_ + "/" + name).parent_path());
    std::ofstream(directory_ + "/" + name) << text;
  }
  void Record(const std::string& state, int code, const std::string& job, const std::string& host,
              long process) const {
    Write("stage.json", absl::StrCat("{\"state\":\"", state, "\",\"exit_code\":", code, ",\"hash\":\"",
                                     Sha256Hex("text"), "\",\"job\":\"", job, "\",\"host\":\"", host,
                                     "\",\"process\":", process, ",\"restarts\":2,\"time\":\"now\"}\n"));
  }
  void Commit(int step) const {
    const std::string name = absl::StrFormat("step-%08d/", step);
    Write(name + "manifest.pb", "manifest");
    Write(name + "COMMIT", Sha256Hex("manifest") + "\n");
  }
  RunState Read(const std::string& queue = "") const {
    return ReadRunState(directory_, [&](const std::string&) { return queue; });
  }
  PlannedStage Stage() const {
    PlannedStage stage;
    stage.name = "sft";
    stage.directory = directory_;
    stage.steps = 10;
    stage.text = "text";
    stage.hash = Sha256Hex(stage.text);
    return stage;
  }

  std::string directory_;
  char host_[256] = "";
};

TEST_F(RunStateTest, TellsTheStatesApart) {
  EXPECT_EQ(Read().state, "new");
  Write("job.id", "12\n");
  EXPECT_EQ(Read("PENDING").state, "queued");
  EXPECT_EQ(Read("RUNNING").state, "running");
  EXPECT_EQ(Read().state, "interrupted");
  Record("running", 0, "12", host_, 1);
  EXPECT_EQ(Read("RUNNING").state, "running");
  EXPECT_EQ(Read("PENDING").state, "queued");
  Record("running", 0, "", host_, getpid());
  EXPECT_EQ(Read().state, "running");
  Record("running", 0, "", host_, 0x3fffffff);  // above every process id
  EXPECT_EQ(Read().state, "interrupted");
  Record("running", 0, "", "elsewhere", 1);
  EXPECT_EQ(Read().state, "running");
  EXPECT_THAT(Read().detail, HasSubstr("not seen from here"));
  Record("saved", 75, "12", host_, 1);
  EXPECT_EQ(Read("PENDING").state, "queued");
  EXPECT_EQ(Read().state, "saved");
  Record("finished", 0, "12", host_, 1);
  EXPECT_EQ(Read().state, "finished");
}

TEST_F(RunStateTest, TakesLastWordsForTheEnd) {
  Record("running", 0, "12", host_, 0x3fffffff);
  const auto ends_meanwhile = [&](const std::string&) {
    Record("saved", 75, "", host_, 0x3fffffff);
    return std::string();
  };
  EXPECT_EQ(ReadRunState(directory_, ends_meanwhile).state, "saved");
}

TEST_F(RunStateTest, GivesTheLastErrorOfAFailedStage) {
  Record("failed", 2, "", host_, 1);
  Write("job.log",
        "tanren stage sft: begins\nerror: of before\ntanren stage sft: begins\nloss 1\nerror: run.yaml:1:1: "
        "no\x1b[31m\n"
        "tanren stage sft: failed\n");
  EXPECT_EQ(Read().state, "failed");
  EXPECT_THAT(Read().detail, HasSubstr("exit code 2: error: run.yaml:1:1: no\\x1b"));
  Write("job.log", "error: of before\ntanren stage sft: begins\nlast words\n");
  EXPECT_THAT(Read().detail, HasSubstr("last words"));
}

TEST_F(RunStateTest, ReadsRunsThatNoPipelineMade) {
  Write("resolved.yaml", "model: {layers: 1, width: 32, heads: 2}\nstage: pretrain\ntrain: {steps: 10}\n");
  Commit(4);
  EXPECT_EQ(Read().step, 4);
  EXPECT_EQ(Read().steps, 10);
  EXPECT_EQ(Read().state, "saved");
  Write("run.lock", absl::StrCat("host ", host_, ", process ", getpid(), ", since now, tanren train\n"));
  EXPECT_EQ(Read().state, "running");
  Write("run.lock", absl::StrCat("host ", host_, ", process 1073741823, since now, tanren train\n"));
  EXPECT_EQ(Read().state, "interrupted");
  EXPECT_THAT(Read().detail, HasSubstr("stale lock"));
  Write("run.lock", "");
  Commit(10);
  EXPECT_EQ(Read().state, "finished");
}

TEST_F(RunStateTest, DamagedFilesCountAsMissing) {
  Write("stage.json", "{\"state\":\"finished\"");
  EXPECT_EQ(Read().state, "new");
  Write("stage.json", "[1]");
  Write("job.id", "$(x)");
  Write("resolved.yaml", "\x01");
  EXPECT_EQ(Read("RUNNING").state, "new");
}

TEST_F(RunStateTest, AFinishedStageHasItsRecordAndItsLastStep) {
  EXPECT_EQ(*ProgressOf(Stage()), Progress::kNothing);
  Record("saved", 75, "", host_, 1);
  EXPECT_EQ(*ProgressOf(Stage()), Progress::kBegun);
  Record("finished", 0, "", host_, 1);
  EXPECT_THAT(ProgressOf(Stage()).status().message(), HasSubstr("its last step is not there any more"));
  Commit(10);
  EXPECT_EQ(*ProgressOf(Stage()), Progress::kFinished);
}

TEST_F(RunStateTest, OtherSettingsAreRefusedWithTheFirstThatDiffers) {
  Commit(3);
  EXPECT_THAT(ProgressOf(Stage()).status().message(),
              HasSubstr("holds a run that no pipeline began; --redo sft"));
  Record("saved", 75, "", host_, 1);
  Write("stage.yaml", "text");
  PlannedStage stage = Stage();
  stage.text = "other";
  stage.hash = Sha256Hex(stage.text);
  EXPECT_THAT(ProgressOf(stage).status().message(),
              HasSubstr("was begun with other settings (was \"text\", now \"other\")"));
  // Without a commit there is nothing to lose; with a result there is.
  std::filesystem::remove_all(directory_ + "/step-00000003");
  EXPECT_EQ(*ProgressOf(stage), Progress::kNothing);
  Record("finished", 0, "", host_, 1);
  EXPECT_THAT(ProgressOf(stage).status().message(), HasSubstr("was finished with other settings"));
}

TEST_F(RunStateTest, FindsRunsThreeLevelsDown) {
  Write("a/b/stage.json", "{}");
  Write("c/resolved.yaml", "");
  Write("d/e/f/g/resolved.yaml", "");
  const auto runs = FindRuns(directory_ + "/");
  ASSERT_TRUE(runs.ok()) << runs.status();
  EXPECT_THAT(*runs, testing::ElementsAre(directory_ + "/a/b", directory_ + "/c"));
  EXPECT_FALSE(FindRuns(directory_ + "/none").ok());
}

}  // namespace
}  // namespace tanren
