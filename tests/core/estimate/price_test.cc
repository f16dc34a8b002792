// Figures worked out by hand from the shapes of Llama 3 8B; the arithmetic stands beside each.
#include "core/estimate/price.h"

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/trainer/setup.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

constexpr const char* kLlama = R"(
run_directory: run
model: {family: llama, vocab_size: 128256, context_length: 8192, layers: 32, width: 4096, heads: 32, kv_heads: 8,
  mlp_width: 14336, norm: rms_norm, position: rotary, mlp: swiglu}
tokenizer: {kind: bytes}
data: {sequence_length: 8192, train: [{path: nowhere}]}
batch: {micro_batch_tokens: 8192, micro_batches: 512}
train: {steps: 100000, precision: bf16}
checkpoint: {interval_steps: 500}
)";

Machine Stated() {
  Machine machine;
  machine.flops_per_second = 800e12;
  machine.memory_bytes_per_second = 4e12;
  machine.node_link_bytes_per_second = 400e9;
  machine.network_bytes_per_second = 50e9;
  machine.hop_seconds = 0;
  machine.storage_bytes_per_second = 10e9;
  machine.ranks_per_node = 8;
  machine.failures_per_rank_day = 0.5e-3;
  machine.restart_seconds = 300;
  return machine;
}

struct OneRun {
  config::Config config;
  EngineOptions engine;
};

OneRun RunOf(const std::string& text, const std::vector<std::string>& overrides = {},
             int64_t vocabulary = 128256) {
  absl::StatusOr<config::Config> config = config::LoadConfigText(text, "test.yaml", overrides);
  TANREN_CHECK_MSG(config.ok(), config.status().ToString());
  OneRun run{config::Resolve(*config), {}};
  run.engine = *EngineOptionsFromConfig(run.config, vocabulary);
  return run;
}

MeshShape Shape(int data, int tensor) {
  MeshShape shape;
  shape.data = data;
  shape.tensor = tensor;
  return shape;
}

// A layer: 4096 * 128 * (2 * 32 + 2 * 8) + 3 * 4096 * 14336 = 218,103,808 weights of products; with 32 of
// them and the head 7,504,658,432. A token: 6 * 7,504,658,432 + 6 * 32 * 4096 * 8192 = 51,470,401,536.
constexpr double kTokenFlops = 51470401536.0;
constexpr double kStepTokens = 512 * 8192;
constexpr double kParameters = 8030261248.0;
// A micro-batch's hidden states: 8192 * 4096 * 2 bytes; 7 / 8 of them leave a rank of eight. They are
// exchanged 2 + 4 * 32 times forward and 2 + 6 * 32 times backward.
constexpr double kHidden = 8192.0 * 4096 * 2 * 7 / 8;
constexpr double kExchanges = 130 + 194;

TEST(Price, LlamaOn8Ranks) {
  const OneRun run = RunOf(kLlama);
  const Price price = PriceRun(run.config, run.engine, Shape(1, 8), Stated());
  EXPECT_EQ(price.parameters, kParameters);
  EXPECT_EQ(price.step_tokens, kStepTokens);
  EXPECT_DOUBLE_EQ(price.flops, kTokenFlops * kStepTokens);
  EXPECT_NEAR(price.compute_seconds, 33.73, 0.01);  // 2.1588e17 / 8 / 800e12
  EXPECT_EQ(price.axes[0].sent_bytes, 0);
  const double logits = 8192 * 4 * (1 + 3) * 2.0 * 7 / 8;
  EXPECT_NEAR(price.axes[1].sent_bytes, 512 * (kExchanges * kHidden + logits),
              1e-4 * price.axes[1].sent_bytes);
  EXPECT_FALSE(price.axes[1].crosses_nodes);
  EXPECT_NEAR(price.axes[1].seconds, 24.35, 0.01);  // 9.741e12 / 400e9
  EXPECT_EQ(price.checkpoint_bytes, 12 * kParameters);
  EXPECT_NEAR(price.save_seconds, 9.636, 0.001);
  EXPECT_EQ(price.saves, 200);
  EXPECT_NEAR(price.failures_per_day, 0.004, 1e-12);
}

TEST(Price, LlamaOn64Ranks) {
  const OneRun run = RunOf(kLlama);
  const Price price = PriceRun(run.config, run.engine, Shape(8, 8), Stated());
  EXPECT_NEAR(price.compute_seconds, 4.2165, 1e-3);
  EXPECT_NEAR(price.optimizer_seconds, 28 * kParameters / 64 / 4e12, 1e-9);
  // Gradients leave in fp32 and weights in bf16: 6 bytes of an eighth of the weights, 7 / 8 of it; padding
  // aside.
  EXPECT_NEAR(price.axes[0].sent_bytes, 6 * kParameters / 8 * 7 / 8, 1e-3 * price.axes[0].sent_bytes);
  EXPECT_TRUE(price.axes[0].crosses_nodes);
  EXPECT_NEAR(price.axes[0].seconds, 0.1054, 2e-4);
  EXPECT_NEAR(price.axes[1].sent_bytes, 64 * kExchanges * kHidden, 1e-3 * price.axes[1].sent_bytes);
  EXPECT_NEAR(price.step_seconds, 4.2165 + 0.0009 + 0.1054 + 3.0441, 2e-3);
  EXPECT_NEAR(price.rank_hours, (1e5 * price.step_seconds + 200 * price.save_seconds) / 3600 * 64,
              1e-6 * price.rank_hours);
}

TEST(Price, LlamaOn4096Ranks) {
  const OneRun run = RunOf(kLlama);
  Machine machine = Stated();
  machine.hop_seconds = 10e-6;
  const Price price = PriceRun(run.config, run.engine, Shape(512, 8), machine);
  EXPECT_NEAR(price.compute_seconds, 0.065883, 1e-5);
  EXPECT_NEAR(price.axes[0].sent_bytes, 6 * kParameters / 8 * 511 / 512, 1e-3 * price.axes[0].sent_bytes);
  // nine hops of each bucket's two collectives
  EXPECT_NEAR(price.axes[0].seconds, price.axes[0].sent_bytes / 50e9 + price.axes[0].calls * 9 * 10e-6, 1e-9);
  EXPECT_NEAR(price.failures_per_day, 2.048, 1e-9);
  const double between = 500 * price.step_seconds;
  EXPECT_NEAR(price.lost_hours_per_day,
              (2.048 * (between / 2 + 300 + 9.6363) + 86400 / (between + 9.6363) * 9.6363) / 3600, 1e-3);
  // Young: sqrt(2 * 9.6363 * 86400 / 2.048) = 901.7 s
  EXPECT_NEAR(price.best_interval_steps * price.step_seconds, 901.7, price.step_seconds);
}

TEST(Price, MomentsInBf16SaveBandwidthAndStorage) {
  const OneRun run = RunOf(kLlama, {"optimizer.moments=bf16"});
  const Price price = PriceRun(run.config, run.engine, Shape(8, 8), Stated());
  EXPECT_EQ(price.checkpoint_bytes, 8 * kParameters);
  EXPECT_NEAR(price.optimizer_seconds, 20 * kParameters / 64 / 4e12, 1e-9);
}

// All of it again for the layers, and their exchanges but for the last.
TEST(Price, RecomputationCosts) {
  const OneRun run = RunOf(kLlama, {"train.recompute=full"});
  const Price price = PriceRun(run.config, run.engine, Shape(1, 8), Stated());
  EXPECT_DOUBLE_EQ(price.flops, kTokenFlops * kStepTokens / 3 * 4);
  EXPECT_NEAR(price.axes[1].sent_bytes, 512 * (kExchanges + 3 * 32) * kHidden,
              1e-4 * price.axes[1].sent_bytes);
}

TEST(Price, AWindowShortensAttention) {
  const OneRun run = RunOf(kLlama, {"model.sliding_window=1024"});
  const Price price = PriceRun(run.config, run.engine, Shape(1, 1), Stated());
  // Of 8192 queries the first 1024 see half a window: 1024 - 1024 * 1024 / (2 * 8192) = 960 keys on average.
  EXPECT_DOUBLE_EQ(price.flops, (6 * 7504658432.0 + 12.0 * 32 * 4096 * 960) * kStepTokens);
}

TEST(Price, ReferencesAndRolloutsAreScored) {
  OneRun dpo = RunOf(kLlama, {"stage=preference", "data.train=[]", "data.examples=[{path: nowhere}]"});
  AssumeModels(dpo.config, &dpo.engine);
  ASSERT_EQ(dpo.engine.models.size(), 2u);
  const Price pairs = PriceRun(dpo.config, dpo.engine, Shape(1, 8), Stated());
  EXPECT_DOUBLE_EQ(pairs.flops, kTokenFlops * kStepTokens * 4 / 3);
  EXPECT_EQ(pairs.checkpoint_bytes, 12 * kParameters);  // the reference is not kept

  OneRun ppo = RunOf(
      kLlama, {"stage=rl", "data.train=[]", "data.examples=[{path: nowhere}]", "rewards.checker=numeric",
               "init.reward=nowhere", "rollout={prompts: 512, max_tokens: 1024, decode_slots: 64}",
               "rl={epochs: 2, minibatches: 4}"});
  AssumeModels(ppo.config, &ppo.engine);
  std::vector<std::string> names;
  for (const ModelOptions& model : ppo.engine.models) names.push_back(model.name);
  EXPECT_THAT(names, testing::ElementsAre("policy", "reference", "reward", "critic"));
  const StageWork work = WorkOf(ppo.config, ppo.engine, 8, {256, 512});
  // 512 answers of 768 tokens with their prompts in 2 * 4 steps.
  EXPECT_EQ(work.step_tokens, 512 * 768 / 4);
  for (const ModelWork& model : work.models) {
    EXPECT_EQ(model.scored_tokens, 512 * 768 / 8) << model.model;
    EXPECT_EQ(model.trained_tokens,
              model.model == "policy" || model.model == "critic" ? work.step_tokens : 0);
  }
  EXPECT_EQ(work.decode_steps, 512.0 / 64 / 8 * 512 / 8);
  EXPECT_EQ(work.decode_context, 512);
  EXPECT_THAT(work.assumption, testing::HasSubstr("answers of 512 tokens to prompts of 256"));
}

}  // namespace
}  // namespace tanren
