#include "core/pipeline/plan.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "stages/stages.h"

namespace tanren {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kConfig = R"(stage: %s
model: {layers: 1, width: 32, heads: 2, context_length: 64}
data: {train: [{path: home/data/tokens}], examples: [{path: home/data/x.jsonl}]}
train: {steps: 7}
)";
constexpr const char* kSuite = R"(checkpoint: nowhere
tests: [{name: t, cases: c.jsonl, strategies: [{name: greedy}]}]
gates: [{test: t, strategy: greedy, figure: accuracy, minimum: 0.5}]
)";
constexpr const char* kPipeline = R"(name: p
home: home
overrides: [parallel.threads=1]
stages:
  - name: data
    run: ['make {home}/data']
  - name: pretrain
    config: pretrain.yaml
  - name: sft
    config: sft.yaml
    inputs: [init.from=pretrain]
  - name: gate
    eval: suite.yaml
    inputs: [checkpoint=sft]
  - name: answers
    after: [gate]
    command: [eval, '{home}/sft', --cases, c.jsonl]
)";

class PlanTest : public testing::Test {
 protected:
  PlanTest() : before_(std::filesystem::current_path()) {
    RegisterOnce();
    directory_ = std::filesystem::path(testing::TempDir()) / absl::StrCat("plan_test_", getpid());
    std::filesystem::create_directories(directory_);
    std::filesystem::current_path(directory_);
    std::string text = kConfig;
    std::ofstream("pretrain.yaml") << std::string(text).replace(text.find("%s"), 2, "pretrain");
    std::ofstream("sft.yaml") << std::string(text).replace(text.find("%s"), 2, "sft");
    std::ofstream("suite.yaml") << kSuite;
  }
  ~PlanTest() override {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(directory_);
  }

  static void RegisterOnce() {
    static const bool registered = (RegisterStages(), true);
    (void)registered;
  }
  absl::StatusOr<PipelinePlan> Plan(const std::vector<std::string>& overrides = {}) {
    const auto pipeline = LoadPipelineText(kPipeline, "p.yaml", overrides);
    if (!pipeline.ok()) return pipeline.status();
    return PlanPipeline(*pipeline);
  }
  std::string ErrorOf(const std::vector<std::string>& overrides) {
    const auto plan = Plan(overrides);
    return plan.ok() ? "" : std::string(plan.status().message());
  }

  std::filesystem::path before_, directory_;
};

TEST_F(PlanTest, GivesEachStageItsCommandAndDirectory) {
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->stages.size(), 5);
  EXPECT_THAT(plan->stages[0].lines, ElementsAre("make home/data"));
  EXPECT_EQ(plan->stages[1].directory, "home/pretrain");
  EXPECT_EQ(plan->stages[1].steps, 7);
  EXPECT_THAT(plan->stages[2].arguments,
              ElementsAre("train", "sft.yaml", "parallel.threads=1", "init.from='home/pretrain'",
                          "run_directory='home/sft'"));
  EXPECT_THAT(plan->stages[3].arguments,
              ElementsAre("eval", "suite.yaml", "checkpoint='home/sft'", "out='home/gate'"));
  EXPECT_THAT(plan->stages[4].arguments, ElementsAre("eval", "home/sft", "--cases", "c.jsonl"));
  EXPECT_THAT(plan->stages[4].ancestors, ElementsAre("data", "pretrain", "sft", "gate"));
}

TEST_F(PlanTest, SaysAllErrorsOfAllStages) {
  std::ofstream("sft.yaml", std::ios::app) << "optimizer: {leraning_rate: 1}\n";
  std::filesystem::remove("suite.yaml");
  const std::string error = ErrorOf({});
  EXPECT_THAT(error, HasSubstr("stage sft: sft.yaml:5:13: optimizer.leraning_rate: unknown key"));
  EXPECT_THAT(error, HasSubstr("stage gate: suite.yaml"));
}

TEST_F(PlanTest, RefusesToReadAStageThatDoesNotComeBefore) {
  EXPECT_THAT(
      ErrorOf({"stages.1.overrides=[init.from=home/sft]"}),
      HasSubstr("stage pretrain: init.from reads home/sft, but stage sft is not among the stages before it"));
  EXPECT_THAT(ErrorOf({"stages.4.after=[pretrain]"}), HasSubstr("stage answers: command reads home/sft"));
  EXPECT_THAT(ErrorOf({"stages.0.run=['cp {home}/gate/summary.json x']"}),
              HasSubstr("stage data: run reads home/gate"));
  EXPECT_EQ(ErrorOf({"stages.0.run=['cp {home}/gates x']"}), "");  // another name
  EXPECT_THAT(ErrorOf({"stages.1.overrides=[run_directory=x]"}),
              HasSubstr("run_directory is the stage's directory"));
}

TEST_F(PlanTest, HashesWhatDecidesTheResult) {
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok());
  const auto hashes = [&](const std::vector<std::string>& overrides) {
    std::vector<bool> same;
    const auto other = Plan(overrides);
    EXPECT_TRUE(other.ok()) << other.status();
    for (size_t i = 0; other.ok() && i < plan->stages.size(); ++i) {
      same.push_back(plan->stages[i].hash == other->stages[i].hash);
    }
    return same;
  };
  EXPECT_THAT(hashes({}), ElementsAre(true, true, true, true, true));
  EXPECT_THAT(hashes({"ranks=2", "slurm.partition=x"}), ElementsAre(true, true, true, true, true));
  // A change shows in what comes of it.
  EXPECT_THAT(hashes({"stages.1.overrides=[train.steps=8]"}), ElementsAre(true, false, false, false, false));
  EXPECT_THAT(hashes({"stages.2.overrides=[train.steps=8]"}), ElementsAre(true, true, false, false, false));
  // A gate makes nothing that another stage reads.
  EXPECT_THAT(hashes({"stages.3.overrides=[gates.0.minimum=0.4]"}),
              ElementsAre(true, true, true, false, true));
}

}  // namespace
}  // namespace tanren
