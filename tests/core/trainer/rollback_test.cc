// A run goes back to its newest checkpoint and past the data that made its steps go wrong: with a stage whose
// data are numbered batches, some of which are bad.
#include <filesystem>
#include <functional>
#include <random>
#include <set>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/checkpoint/resume.h"
#include "core/comm/comm.h"
#include "core/config/config.h"
#include "core/loss/next_token.h"
#include "core/tokenizer/tokenizer.h"
#include "core/trainer/setup.h"
#include "core/trainer/trainer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/engine/mesh_engine.h"
#include "tests/core/tokenizer/test_data.h"
#include "tests/test_device.h"

namespace tanren {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr const char* kConfig = R"(
stage: pretrain
model: {layers: 1, width: 16, heads: 2, mlp_width: 16, context_length: 64}
tokenizer: {kind: bytes}
batch: {micro_batch_tokens: 128, micro_batches: 1}
data: {train: [{path: nowhere}]}
optimizer: {learning_rate: 1e-3}
train: {steps: 40, log_interval: 1}
checkpoint: {interval_steps: 10}
log: {tensorboard: false}
faults: {patience: 3, max_rollbacks: 2}
)";

MicroBatch BatchOf(int64_t number) {
  std::mt19937 random(static_cast<uint32_t>(number));
  Unit unit;
  const int length = 40;
  for (int t = 0; t < length; ++t) unit.ids.push_back(static_cast<int32_t>(random() % 200));
  for (int t = 0; t < length; ++t) {
    unit.targets.push_back(t + 1 < length ? unit.ids[t + 1] : -1);
    unit.mask.push_back(t + 1 < length);
  }
  unit.segment_lengths = {length};
  MicroBatch batch;
  TANREN_CHECK(PackMicroBatch({unit}, 128, &batch).ok());
  return batch;
}

class NumberedStage final : public Stage {
 public:
  absl::Status Open(const config::Config&, const Tokenizer&, const Mesh&) override {
    return absl::OkStatus();
  }
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t, double learning_rate) override {
    StageStep out;
    const int64_t number = next_++;
    out.tokens = 40;
    if (bad(number)) {  // as the engine does where the gradient is not finite: nothing changes
      out.loss = NAN;
      out.skipped = true;
      return out;
    }
    const std::vector<MicroBatch> batches = {BatchOf(batch_of(number))};
    TANREN_ASSIGN_OR_RETURN(const StepResult result,
                            engine.Train("policy", batches, NextTokenLoss(), learning_rate));
    trained.push_back(number);
    out.loss = result.loss + extra(number);
    return out;
  }
  absl::StatusOr<StageValidation> Validate(Engine&) override { return StageValidation{}; }
  absl::Status SkipSteps(int64_t steps) override {
    next_ += steps;
    return absl::OkStatus();
  }
  std::map<std::string, std::string> SaveState() const override { return {{"next", std::to_string(next_)}}; }
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override {
    if (!absl::SimpleAtoi(state.at("next"), &next_)) return InvalidInput("no number");
    return absl::OkStatus();
  }

  std::function<bool(int64_t)> bad = [](int64_t) { return false; };
  std::function<int64_t(int64_t)> batch_of = [](int64_t number) { return number; };
  std::function<double(int64_t)> extra = [](int64_t) { return 0; };
  std::vector<int64_t> trained;  // in this order, by this start

 private:
  int64_t next_ = 0;
};

class RollbackTest : public testing::Test {
 protected:
  RollbackTest() {
    mesh_.stream = TestDeviceStream();
    mesh_.world = world_.get();
    mesh_.data = data_.get();
    mesh_.tensor = tensor_.get();
  }

  // A start of the run in `run`, to its end or an error.
  absl::StatusOr<Trainer::Outcome> Start(const std::string& run, Stage* stage,
                                         std::vector<std::string> overrides = {}) {
    overrides.push_back("run_directory=" + (directory_ / run));
    absl::StatusOr<config::Config> config = config::LoadConfigText(kConfig, "test.yaml", overrides);
    TANREN_CHECK_MSG(config.ok(), config.status().ToString());
    const config::Config resolved = config::Resolve(*config);
    const std::unique_ptr<Tokenizer> tokenizer = *TokenizerFromConfig(resolved);
    engine_ = *MakeMeshEngine(*EngineOptionsFromConfig(resolved, tokenizer->vocab_size()), mesh_, 0);
    TrainerOptions options;
    options.config = &resolved;
    options.config_text = config::ToYaml(resolved, true);
    options.engine = engine_.get();
    options.stage = stage;
    options.tokenizer = tokenizer.get();
    return Trainer(options).Run();
  }

  std::vector<std::string> Steps(const std::string& run) const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / run)) {
      const std::string name = entry.path().filename();
      if (name.starts_with("step-")) names.insert(name);
    }
    return {names.begin(), names.end()};
  }

  std::string Metrics(const std::string& run) const {
    std::ifstream file(directory_ / run + "/metrics.jsonl");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Comm> world_ = MakeSoloComm("world"), data_ = MakeSoloComm("data"),
                        tensor_ = MakeSoloComm("tensor");
  Mesh mesh_;
  std::unique_ptr<Engine> engine_;
};

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> out;
  for (int64_t i = begin; i < end; ++i) out.push_back(i);
  return out;
}

bool IsBad(int64_t number) { return number >= 25 && number < 28; }

// Steps 26 to 28 go wrong: back to 20, and on with the data behind them.
TEST_F(RollbackTest, GoesBackAndPastTheData) {
  NumberedStage stage;
  stage.bad = IsBad;
  const auto outcome = Start("run", &stage);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  std::vector<int64_t> expected = Range(0, 25);
  for (const int64_t i : Range(28, 48)) expected.push_back(i);
  EXPECT_THAT(stage.trained, ElementsAreArray(expected));
  const uint64_t digest = engine_->DigestWeights("policy").own;
  EXPECT_THAT(Metrics("run"), HasSubstr("\"rollbacks\":1"));
  EXPECT_THAT(Metrics("run"), HasSubstr("\"skipped_data_steps\":8"));
  EXPECT_THAT(Metrics("run"), HasSubstr("\"skipped_steps\":3"));
  EXPECT_THAT(Metrics("run"), testing::Not(HasSubstr("nan")));  // those steps were done again

  // The weights are those of a run that never met that data.
  NumberedStage without;
  without.batch_of = [](int64_t number) { return number < 20 ? number : number + 8; };
  ASSERT_TRUE(Start("without", &without).ok());
  EXPECT_EQ(engine_->DigestWeights("policy").own, digest);

  // Interrupted in their row, of which nothing is saved, or behind them, it ends with the same bits.
  for (const int stop : {27, 33}) {
    const std::string name = absl::StrCat("stopped", stop);
    NumberedStage first, second;
    first.bad = second.bad = IsBad;
    ASSERT_EQ(*Start(name, &first, {absl::StrCat("train.stop_after=", stop)}), Trainer::Outcome::kStopped);
    const auto resumed = Start(name, &second);
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_EQ(engine_->DigestWeights("policy").own, digest) << stop;
    EXPECT_EQ(engine_->updates("policy"), 40) << stop;
  }
}

TEST_F(RollbackTest, EachTryGoesPastMoreData) {
  NumberedStage stage;
  stage.bad = [](int64_t number) { return IsBad(number) || (number >= 30 && number < 33); };
  const auto outcome = Start("run", &stage);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  // Back from 28 to 20, data from 28 on; back from step 25 (data 30 to 32) to 20, data from 33 on.
  std::vector<int64_t> expected = Range(0, 25);
  for (const int64_t i : {28, 29}) expected.push_back(i);
  for (const int64_t i : Range(33, 53)) expected.push_back(i);
  EXPECT_THAT(stage.trained, ElementsAreArray(expected));
}

TEST_F(RollbackTest, GivesUpWithTheNewestCommitIntact) {
  NumberedStage stage;
  stage.bad = [](int64_t number) { return number >= 25; };
  const auto outcome = Start("run", &stage);
  ASSERT_TRUE(absl::IsInternal(outcome.status())) << outcome.status();
  EXPECT_THAT(std::string(outcome.status().message()),
              HasSubstr("after the run went back to step 20 2 times, each time past more data"));
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("lower optimizer.learning_rate"));
  EXPECT_EQ(Steps("run").back(), "step-00000020");
  NumberedStage healed;
  ASSERT_TRUE(Start("run", &healed).ok());
  EXPECT_THAT(healed.trained, ElementsAreArray(Range(20, 40)));
}

TEST_F(RollbackTest, HasNothingToGoBackToBeforeTheFirstCommit) {
  NumberedStage stage;
  stage.bad = [](int64_t number) { return number >= 4; };
  const auto outcome = Start("run", &stage);
  EXPECT_THAT(
      std::string(outcome.status().message()),
      HasSubstr(
          "3 steps in a row, up to step 7, went wrong (gradients that are not finite), and the run has no "
          "checkpoint yet"));
}

TEST_F(RollbackTest, MayBeForbidden) {
  NumberedStage stage;
  stage.bad = [](int64_t number) { return number >= 14; };
  const auto outcome = Start("run", &stage, {"faults.max_rollbacks=0"});
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("up to step 17"));
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("faults.max_rollbacks is 0"));
}

// A save that falls into a row of bad steps waits for its end: the run may have to go back behind it.
TEST_F(RollbackTest, SavesBehindARowOfBadStepsAndNotInIt) {
  NumberedStage stage;
  stage.bad = [](int64_t number) { return number == 19 || number == 20; };
  ASSERT_TRUE(Start("run", &stage, {"checkpoint.keep=20"}).ok());
  EXPECT_THAT(Steps("run"),
              testing::ElementsAre("step-00000010", "step-00000022", "step-00000030", "step-00000040"));
}

TEST_F(RollbackTest, SpikesCountWhereTheConfigSaysSo) {
  const auto spiked = [](int64_t number) { return number >= 34 && number < 37 ? 50.0 : 0.0; };
  NumberedStage warned, back;
  warned.extra = back.extra = spiked;
  ASSERT_TRUE(Start("warned", &warned).ok());
  EXPECT_THAT(warned.trained, ElementsAreArray(Range(0, 40)));
  EXPECT_THAT(Metrics("warned"), HasSubstr("\"loss_spikes\":3"));
  ASSERT_TRUE(Start("back", &back, {"faults.spike_action=rollback"}).ok());
  std::vector<int64_t> expected = Range(0, 37);
  for (const int64_t i : Range(37, 47)) expected.push_back(i);
  EXPECT_THAT(back.trained, ElementsAreArray(expected));
  EXPECT_THAT(Metrics("back"), HasSubstr("\"rollbacks\":1"));
}

// A stage that does not override SkipSteps.
class ForgetfulStage final : public Stage {
 public:
  absl::Status Open(const config::Config&, const Tokenizer&, const Mesh&) override {
    return absl::OkStatus();
  }
  absl::StatusOr<StageStep> Step(Engine&, int64_t step, double) override {
    StageStep out;
    out.skipped = step >= 12;
    return out;
  }
  absl::StatusOr<StageValidation> Validate(Engine&) override { return StageValidation{}; }
  std::map<std::string, std::string> SaveState() const override { return {}; }
  absl::Status RestoreState(const std::map<std::string, std::string>&) override { return absl::OkStatus(); }
};

TEST_F(RollbackTest, AStageThatCannotPassOverDataSaysWhatItLacks) {
  ForgetfulStage stage;
  const auto outcome = Start("run", &stage);
  EXPECT_TRUE(absl::IsUnimplemented(outcome.status())) << outcome.status();
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("Stage::SkipSteps"));
}

}  // namespace
}  // namespace tanren
