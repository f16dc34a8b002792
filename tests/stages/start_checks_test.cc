// Checks that no configuration can trip, because a policy's weights would have to change outside the trainer:
// here they do. A DPO policy that claims to be its reference starts at ln 2, and the first minibatch of a
// rollout has a ratio of exactly 1.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/status.h"
#include "core/checkpoint/save.h"
#include "core/comm/comm.h"
#include "core/config/config.h"
#include "core/proto/config.pb.h"
#include "core/trainer/pieces.h"
#include "core/trainer/setup.h"
#include "parallel/engine/mesh_engine.h"
#include "stages/preference/preference_stage.h"
#include "stages/rl/rl_stage.h"
#include "tests/core/tokenizer/test_data.h"
#include "tests/test_device.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

constexpr const char* kConfig = R"(
model: {layers: 1, width: 16, heads: 2, mlp_width: 16, context_length: 128}
batch: {micro_batch_tokens: 128, micro_batches: 2}
chat: {template: chatml}
data: {examples: [{path: examples.jsonl}]}
)";

// Adds to a weight of the policy.
void Nudge(Engine& engine) {
  const std::unique_ptr<StateAccess> state = engine.State("policy");
  for (const StatePiece& piece : state->pieces()) {
    if (piece.role == StatePiece::Role::kWeight && piece.name == "final_norm.weight") {
      piece.data.as<float>()[0] += 0.5f;
    }
  }
  state->Commit();
}

// An engine whose policy changes between scoring and training.
class NudgingEngine final : public Engine {
 public:
  explicit NudgingEngine(Engine& inner) : inner_(inner) {}
  const Mesh& mesh() const override { return inner_.mesh(); }
  const EngineOptions& options() const override { return inner_.options(); }
  const MemoryPlan& plan() const override { return inner_.plan(); }
  bool HasModel(const std::string& model) const override { return inner_.HasModel(model); }
  const ModelOptions& model(const std::string& model) const override { return inner_.model(model); }
  absl::StatusOr<StepResult> Train(const std::string& model, std::span<const MicroBatch> micro_batches,
                                   const Loss& loss, double learning_rate) override {
    Nudge(inner_);
    return inner_.Train(model, micro_batches, loss, learning_rate);
  }
  absl::StatusOr<StepResult> Evaluate(const std::string& model, std::span<const MicroBatch> micro_batches,
                                      const Loss& loss) override {
    return inner_.Evaluate(model, micro_batches, loss);
  }
  absl::StatusOr<Statistics> Score(const std::string& model, const MicroBatch& batch, uint32_t statistics,
                                   bool per_segment, float temperature) override {
    return inner_.Score(model, batch, statistics, per_segment, temperature);
  }
  absl::StatusOr<std::vector<GenerationResult>> Generate(
      const std::string& model, std::span<const GenerationRequest> requests) override {
    return inner_.Generate(model, requests);
  }
  std::unique_ptr<StateAccess> State(const std::string& model) override { return inner_.State(model); }
  std::unique_ptr<StateAccess> Snapshot(const std::string& model) override { return inner_.Snapshot(model); }
  WeightsDigest DigestWeights(const std::string& model) override { return inner_.DigestWeights(model); }
  void DamageWeightsForTest(const std::string& model, Damage damage) override {
    inner_.DamageWeightsForTest(model, damage);
  }
  int64_t updates(const std::string& model) const override { return inner_.updates(model); }
  void set_updates(const std::string& model, int64_t updates) override { inner_.set_updates(model, updates); }
  std::string gradient_ranges(const std::string& model) const override {
    return inner_.gradient_ranges(model);
  }
  absl::Status set_gradient_ranges(const std::string& model, const std::string& ranges) override {
    return inner_.set_gradient_ranges(model, ranges);
  }
  absl::StatusOr<StepResult> GradientsForTest(const std::string& model,
                                              std::span<const MicroBatch> micro_batches, const Loss& loss,
                                              std::vector<float>* gradients) override {
    return inner_.GradientsForTest(model, micro_batches, loss, gradients);
  }
  const ParameterSet& parameters(const std::string& model) const override { return inner_.parameters(model); }

 private:
  Engine& inner_;
};

class StartChecks : public testing::Test {
 protected:
  StartChecks() {
    mesh_.stream = TestDeviceStream();
    mesh_.world = world_.get();
    mesh_.data = data_.get();
    mesh_.tensor = tensor_.get();
  }

  void Load(const std::string& more, const std::string& examples) {
    WriteAll(directory_ / "examples.jsonl", examples);
    const std::vector<std::string> place = {"data.examples.0.path=" + directory_ / "examples.jsonl"};
    absl::StatusOr<config::Config> config = config::LoadConfigText(kConfig + more, "test.yaml", place);
    TANREN_CHECK_MSG(config.ok(), config.status().ToString());
    config_ = config::Resolve(*config);
    tokenizer_ = *TokenizerFromConfig(config_);
    options_ = *EngineOptionsFromConfig(config_, tokenizer_->vocab_size());
  }

  std::unique_ptr<Engine> MakeEngine() {
    absl::StatusOr<std::unique_ptr<Engine>> engine = MakeMeshEngine(options_, mesh_, 0);
    TANREN_CHECK_MSG(engine.ok(), engine.status().ToString());
    return *std::move(engine);
  }

  // A checkpoint of the policy's start values in `run`.
  void Save(const std::string& run) {
    std::filesystem::create_directories(run);
    const std::unique_ptr<Engine> engine = MakeEngine();
    const std::unique_ptr<StateAccess> state = engine->State("policy");
    const std::vector<TensorPiece> pieces = ToTensorPieces(state->pieces());
    SaveRequest request;
    request.run_dir = run;
    request.run_id = "test";
    request.stage = "pretrain";
    request.pieces = pieces;
    request.config_text = config::ToYaml(config_, true);
    request.tokenizer = *TokenizerFilesOf(*tokenizer_);
    request.retention.keep_last = 2;
    const absl::Status saved = SaveCheckpoint(*world_, request).status();
    TANREN_CHECK_MSG(saved.ok(), saved.ToString());
  }

  // Stage preference takes a policy that is its reference; what it says of one that was changed since.
  std::string RefusalOfAChangedPolicy() {
    Save(directory_ / "start");
    config_.mutable_init()->set_from(directory_ / "start");
    PreferenceStage stage;
    EXPECT_TRUE(stage.Declare(config_, *tokenizer_, &options_).ok());
    EXPECT_TRUE(stage.Open(config_, *tokenizer_, mesh_).ok());
    // Both start from the same seed.
    const std::unique_ptr<Engine> engine = MakeEngine();
    const absl::Status equal = stage.Begin(*engine);
    EXPECT_TRUE(equal.ok()) << equal;
    Nudge(*engine);
    const absl::Status refused = stage.Begin(*engine);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    return std::string(refused.message());
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Comm> world_ = MakeSoloComm("world"), data_ = MakeSoloComm("data"),
                        tensor_ = MakeSoloComm("tensor");
  Mesh mesh_;
  config::Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  EngineOptions options_;
};

TEST_F(StartChecks, ADpoPolicyThatClaimsToBeItsReferenceIsIt) {
  Load("stage: preference\n", R"({"prompt": "1", "chosen": "22", "rejected": "3"})");
  const std::string refusal = RefusalOfAChangedPolicy();
  EXPECT_THAT(refusal, HasSubstr("and not 0.6931472"));
  EXPECT_THAT(refusal, HasSubstr("init.from and the reference differ"));
  EXPECT_THAT(refusal, HasSubstr("init.reference"));
}

TEST_F(StartChecks, SoIsAKtoPolicyWhateverTheShareOfGoodAnswers) {
  Load("stage: preference\npreference: {loss: kto, undesirable_weight: 3}\n",
       "{\"prompt\": \"1\", \"completion\": \"22\", \"label\": true}\n"
       "{\"prompt\": \"2\", \"completion\": \"3\", \"label\": false}\n"
       "{\"prompt\": \"3\", \"completion\": \"1\", \"label\": false}\n");
  EXPECT_THAT(RefusalOfAChangedPolicy(), HasSubstr("init.from and the reference differ"));
}

TEST_F(StartChecks, SoIsThePolicyOfTheFirstRollout) {
  Load(
      "stage: rl\nrl: {algorithm: grpo, kl_coefficient: 0.1}\nrewards: {checker: numeric}\n"
      "rollout: {prompts: 2, samples: 4, max_tokens: 8}\n",
      "{\"prompt\": \"1\", \"answer\": \"1\"}\n{\"prompt\": \"22\", \"answer\": \"2\"}\n");
  Save(directory_ / "start");
  config_.mutable_init()->set_from(directory_ / "start");
  for (const bool nudge : {false, true}) {
    RlStage stage;
    options_ = *EngineOptionsFromConfig(config_, tokenizer_->vocab_size());
    ASSERT_TRUE(stage.Declare(config_, *tokenizer_, &options_).ok());
    ASSERT_TRUE(stage.Open(config_, *tokenizer_, mesh_).ok());
    const std::unique_ptr<Engine> engine = MakeEngine();
    ASSERT_TRUE(stage.Begin(*engine).ok());
    if (nudge) Nudge(*engine);
    const absl::Status stepped = stage.Step(*engine, 0, 1e-3).status();
    EXPECT_EQ(stepped.ok(), !nudge) << stepped;
    if (nudge) {
      EXPECT_TRUE(absl::IsInvalidArgument(stepped));
      EXPECT_THAT(std::string(stepped.message()), HasSubstr("the policy and its reference differ by"));
    }
  }
}

TEST_F(StartChecks, AReferenceMustTakeWhatThePolicyTakes) {
  Load("stage: preference\n", R"({"prompt": "1", "chosen": "22", "rejected": "3"})");
  Save(directory_ / "start");
  config_.mutable_init()->set_from(directory_ / "start");
  config_.mutable_model()->set_context_length(256);
  options_ = *EngineOptionsFromConfig(config_, tokenizer_->vocab_size());
  // The micro-batch lets nothing longer in.
  EXPECT_TRUE(PreferenceStage().Declare(config_, *tokenizer_, &options_).ok());
  config_.mutable_batch()->set_micro_batch_tokens(256);
  options_ = *EngineOptionsFromConfig(config_, tokenizer_->vocab_size());
  PreferenceStage stage;
  const absl::Status refused = stage.Declare(config_, *tokenizer_, &options_);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("has a context of 128 tokens"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("set model.context_length: 128"));
}

// A run that goes back, once or again, in the middle of a rollout or at its end, draws prompts that it has
// not drawn.
TEST_F(StartChecks, ARolloutThatIsPassedOverIsNotDrawnAgain) {
  Load(
      "stage: rl\nrl: {algorithm: grpo, epochs: 3}\nrewards: {checker: numeric}\n"
      "rollout: {prompts: 2, samples: 4, max_tokens: 8}\n",
      "{\"prompt\": \"1\", \"answer\": \"1\"}\n{\"prompt\": \"22\", \"answer\": \"2\"}\n");
  RlStage stage;
  ASSERT_TRUE(stage.Declare(config_, *tokenizer_, &options_).ok());
  ASSERT_TRUE(stage.Open(config_, *tokenizer_, mesh_).ok());
  const std::unique_ptr<Engine> engine = MakeEngine();
  const auto drawn = [&] { return std::stoll(stage.SaveState().at("cursor")); };
  const auto step = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const absl::Status stepped = stage.Step(*engine, i, 1e-3).status();
      ASSERT_TRUE(stepped.ok()) << stepped;
    }
  };
  step(2);
  const auto commit = stage.SaveState();  // a rollout of three steps, of which two are done
  EXPECT_EQ(drawn(), 2);
  step(2);  // its last, and the first of the next
  EXPECT_EQ(drawn(), 4);
  for (const int64_t expected : {6, 8, 10}) {
    ASSERT_TRUE(stage.RestoreState(commit).ok());
    EXPECT_EQ(drawn(), 2);
    ASSERT_TRUE(stage.SkipSteps(2).ok());
    step(1);
    EXPECT_EQ(drawn(), expected);
  }
}

TEST_F(StartChecks, TheFirstRatioOfARolloutIsExactlyOne) {
  for (const char* algorithm : {"grpo", "gspo"}) {
    SCOPED_TRACE(algorithm);
    Load(absl::StrCat("stage: rl\nrl: {algorithm: ", algorithm, "}\n",
                      "rewards: {checker: numeric}\nrollout: {prompts: 2, samples: 4, max_tokens: 8}\n"),
         "{\"prompt\": \"1\", \"answer\": \"1\"}\n{\"prompt\": \"22\", \"answer\": \"2\"}\n");
    RlStage stage, nudged;
    ASSERT_TRUE(stage.Declare(config_, *tokenizer_, &options_).ok());
    ASSERT_TRUE(stage.Open(config_, *tokenizer_, mesh_).ok());
    const std::unique_ptr<Engine> engine = MakeEngine();
    const absl::Status untouched = stage.Step(*engine, 0, 1e-3).status();
    EXPECT_TRUE(untouched.ok()) << untouched;
    EngineOptions unused = *EngineOptionsFromConfig(config_, tokenizer_->vocab_size());
    ASSERT_TRUE(nudged.Declare(config_, *tokenizer_, &unused).ok());
    ASSERT_TRUE(nudged.Open(config_, *tokenizer_, mesh_).ok());
    NudgingEngine nudging(*engine);
    const absl::Status refused = nudged.Step(nudging, 0, 1e-3).status();
    EXPECT_TRUE(absl::IsInternal(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("step 1: the first minibatch of a rollout has a ratio"));
    EXPECT_THAT(std::string(refused.message()), HasSubstr("run again"));
  }
}

}  // namespace
}  // namespace tanren
