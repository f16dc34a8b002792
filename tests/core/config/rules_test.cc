// Rules between values, each with its message; a value that just satisfies each rule passes.
#include <string>

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

std::string Model(const std::string& keys, const std::string& rest = "") {
  return ErrorsOf("model: {layers: 2, " + keys + "}\n" + rest);
}

TEST(Rules, Heads) {
  EXPECT_EQ(Model("width: 96, heads: 12, kv_heads: 5"),
            "run.yaml:1:52: model.kv_heads: 5 does not divide model.heads 12; use 1, 2, 3, 4, 6 or 12");
  EXPECT_EQ(Model("width: 96, heads: 12, kv_heads: 4"), "");
  EXPECT_EQ(Model("width: 100, heads: 12"),
            "run.yaml:1:27: model.width: 100 is not a multiple of model.heads 12; use 96 or 108, or set "
            "model.head_dim");
  EXPECT_EQ(Model("width: 100, heads: 12, head_dim: 16"), "");
  EXPECT_EQ(
      Model("width: 4, heads: 12"),
      "run.yaml:1:27: model.width: 4 is not a multiple of model.heads 12; use 12, or set model.head_dim");
  EXPECT_EQ(Model("width: 36, heads: 12"),
            "run.yaml:1:27: model.head_dim: 3 (model.width 36 / model.heads 12) is odd; rotary position "
            "turns pairs, "
            "so make it even");
  EXPECT_EQ(Model("width: 36, heads: 4, head_dim: 7"),
            "run.yaml:1:51: model.head_dim: 7 is odd; rotary position turns pairs, so make it even");
  EXPECT_EQ(Model("width: 36, heads: 12, position: learned"), "");
  EXPECT_EQ(Model("width: 64, heads: 4, qk_norm: true"), "");
}

TEST(Rules, RotaryScaling) {
  EXPECT_EQ(Model("width: 64, heads: 4, position: learned, rotary_scaling: {kind: linear, factor: 2}"),
            "run.yaml:1:83: model.rotary_scaling.kind: linear has no effect with model.position learned; use "
            "none, or "
            "position rotary");
  EXPECT_EQ(Model("width: 64, heads: 4, position: learned, rotary_scaling: {kind: none}"), "");
  EXPECT_EQ(Model("width: 64, heads: 4, rotary_scaling: {kind: llama3, low_frequency_factor: 4}"),
            "run.yaml:1:94: model.rotary_scaling.low_frequency_factor: 4 must be less than "
            "high_frequency_factor 4");
  EXPECT_EQ(Model("width: 64, heads: 4, rotary_scaling: {kind: yarn, beta_slow: 33}"),
            "run.yaml:1:81: model.rotary_scaling.beta_slow: 33 must be less than beta_fast 32");
  EXPECT_EQ(Model("width: 64, heads: 4, rotary_scaling: {kind: linear, beta_slow: 33}"), "");
}

TEST(Rules, Layout) {
  EXPECT_EQ(ErrorsAfterModel("parallel: {pipe: 2, context: 4}\n"),
            "run.yaml:2:18: parallel.pipe: 2: pipeline parallelism is named but not available; use 1, and "
            "parallel.tensor to share a model that does not fit one rank\n"
            "run.yaml:2:30: parallel.context: 4: context parallelism is named but not available; use 1, and "
            "parallel.tensor, which also splits the row of tokens");
  EXPECT_EQ(Model("width: 96, heads: 12", "parallel: {tensor: 8}\n"),
            "run.yaml:2:20: parallel.tensor: 8 does not divide model.heads 12; use 1, 2, 3, 4, 6 or 12\n"
            "run.yaml:2:20: parallel.tensor: 8 neither divides nor is a multiple of model.kv_heads 12; use "
            "one of its "
            "divisors or multiples");
  EXPECT_EQ(Model("width: 96, heads: 12, kv_heads: 3", "parallel: {tensor: 4}\n"),
            "run.yaml:2:20: parallel.tensor: 4 neither divides nor is a multiple of model.kv_heads 3; use "
            "one of its "
            "divisors or multiples");
  EXPECT_EQ(Model("width: 96, heads: 12, kv_heads: 2", "parallel: {tensor: 4}\n"),
            "");  // heads are replicated
  EXPECT_EQ(Model("width: 96, heads: 12, kv_heads: 4", "parallel: {tensor: 2}\n"), "");
  EXPECT_EQ(Model("width: 96, heads: 12, mlp_width: 250", "parallel: {tensor: 4}\n"),
            "run.yaml:2:20: parallel.tensor: 4 does not divide model.mlp_width 250; use a divisor, or "
            "mlp_width 248 "
            "or 252");
}

TEST(Rules, Batch) {
  EXPECT_EQ(ErrorsAfterModel("batch: {micro_batch_tokens: 1000}\ndata: {sequence_length: 64}\n"),
            "run.yaml:2:29: batch.micro_batch_tokens: 1000 is not a multiple of 128 * parallel.tensor 1 = "
            "128; use 896 "
            "or 1024");
  EXPECT_EQ(ErrorsAfterModel("batch: {micro_batch_tokens: 128}\ndata: {sequence_length: 64}\n"), "");
  EXPECT_EQ(ErrorsAfterModel(
                "batch: {micro_batch_tokens: 128}\ndata: {sequence_length: 64}\nparallel: {tensor: 2}\n"),
            "run.yaml:2:29: batch.micro_batch_tokens: 128 is not a multiple of 128 * parallel.tensor 2 = "
            "256; use 256");
  EXPECT_EQ(ErrorsAfterModel("data: {sequence_length: 1025}\nbatch: {micro_batch_tokens: 2048}\n"),
            "run.yaml:2:25: data.sequence_length: 1025 is longer than model.context_length 1024; shorten it "
            "or raise "
            "model.context_length");
  EXPECT_EQ(ErrorsAfterModel("batch: {micro_batch_tokens: 512}\n"),
            "run.yaml:2:29: data.sequence_length: 1024 (from model.context_length) does not fit "
            "batch.micro_batch_tokens 512; raise micro_batch_tokens or set a shorter data.sequence_length");
  EXPECT_EQ(ErrorsAfterModel("data: {sequence_length: 513}\nbatch: {micro_batch_tokens: 512}\n"),
            "run.yaml:2:25: data.sequence_length: 513 does not fit batch.micro_batch_tokens 512; raise "
            "micro_batch_tokens or set a shorter data.sequence_length");
  EXPECT_EQ(ErrorsAfterModel("data: {sequence_length: 512}\nbatch: {micro_batch_tokens: 512}\n"), "");
}

TEST(Rules, Schedule) {
  EXPECT_EQ(ErrorsAfterModel("train: {steps: 10}\nschedule: {warmup_steps: 11}\n"),
            "run.yaml:3:26: schedule.warmup_steps: 11 is more than train.steps 10; shorten the warm-up");
  EXPECT_EQ(ErrorsAfterModel("train: {steps: 10}\nschedule: {warmup_steps: 10}\n"), "");
  EXPECT_EQ(ErrorsAfterModel("train: {steps: 10}\nschedule: {warmup_steps: 5, decay_steps: 4}\n"),
            "run.yaml:3:42: schedule.decay_steps: 4 is before the end of schedule.warmup_steps 5; it counts "
            "from step "
            "0, so make it larger, or 0 for train.steps");
  EXPECT_EQ(
      ErrorsAfterModel("train: {steps: 10}\nschedule: {warmup_steps: 5, decay_steps: 4, kind: constant}\n"),
      "");
  EXPECT_EQ(ErrorsAfterModel("train: {steps: 10}\nschedule: {kind: warmup_stable_decay, warmup_steps: 5, "
                             "decay_steps: 6}\n"),
            "run.yaml:3:69: schedule.decay_steps: 6 and schedule.warmup_steps 5 are together more than "
            "train.steps 10; "
            "shorten one");
  EXPECT_EQ(ErrorsAfterModel("train: {steps: 10}\nschedule: {kind: warmup_stable_decay, warmup_steps: 5, "
                             "decay_steps: 5}\n"),
            "");
}

TEST(Rules, TokenizerCheckpointSamplesStage) {
  EXPECT_EQ(
      ErrorsAfterModel("tokenizer: {kind: bpe}\n"),
      "run.yaml:2:19: tokenizer.path: is required by tokenizer.kind bpe: a tokenizer directory or file");
  EXPECT_EQ(ErrorsAfterModel("tokenizer: {path: x}\n"),
            "run.yaml:2:19: tokenizer.path: x is not read by tokenizer.kind bytes; set the kind of that "
            "tokenizer, or "
            "remove the path");
  EXPECT_EQ(ErrorsAfterModel("tokenizer: {kind: bpe, path: x}\n"), "");
  EXPECT_EQ(ErrorsAfterModel("checkpoint: {interval_steps: 100, keep_every_steps: 250}\n"),
            "run.yaml:2:53: checkpoint.keep_every_steps: 250 is not a multiple of checkpoint.interval_steps "
            "100, so "
            "those steps are not saved; use 200 or 300");
  EXPECT_EQ(ErrorsAfterModel("checkpoint: {interval_steps: 100, keep_every_steps: 300}\n"), "");
  EXPECT_EQ(
      ErrorsAfterModel("samples: {interval_steps: 5}\n"),
      "run.yaml:2:27: samples.prompts: is empty, but samples.interval_steps is 5; give prompts, for example "
      "[\"\"], or set the interval to 0");
  EXPECT_EQ(ErrorsAfterModel("samples: {interval_steps: 5, prompts: ['']}\n"), "");
  EXPECT_EQ(ErrorsAfterModel("stage: ''\n"),
            "run.yaml:2:8: stage: is empty; name a stage, for example pretrain");
}

TEST(Rules, SayNothingAboutValuesThatAreWrongAnyway) {
  EXPECT_EQ(Model("width: 96, heads: x, kv_heads: 5"), "run.yaml:1:38: model.heads: x is not an integer");
  EXPECT_EQ(ErrorsOf("model: 3\n"),
            "run.yaml:1:8: model: expected a section of keys and values, found a single value");
}

TEST(Resolve, FillsDerivedValues) {
  const Config config =
      MustLoad("model: {layers: 2, width: 96, heads: 12, context_length: 512}\ntrain: {steps: 55}\n");
  const Config resolved = Resolve(config);
  EXPECT_EQ(resolved.model().kv_heads(), 12);
  EXPECT_EQ(resolved.model().head_dim(), 8);
  EXPECT_EQ(resolved.model().mlp_width(), 384);
  EXPECT_EQ(resolved.data().sequence_length(), 512);
  EXPECT_EQ(resolved.schedule().decay_steps(), 55);
  EXPECT_EQ(resolved.parallel().data(), 0);
  EXPECT_EQ(Resolve(resolved).SerializeAsString(), resolved.SerializeAsString());
  Config stable = config;
  stable.mutable_schedule()->set_kind(ScheduleConfig::warmup_stable_decay);
  EXPECT_EQ(Resolve(stable).schedule().decay_steps(), 5);
  stable.mutable_train()->set_steps(3);
  EXPECT_EQ(Resolve(stable).schedule().decay_steps(), 1);
  stable.mutable_schedule()->set_kind(ScheduleConfig::constant);
  EXPECT_EQ(Resolve(stable).schedule().decay_steps(), 0);
}

TEST(Resolve, KeepsWhatWasGiven) {
  const Config config = MustLoad(
      "model: {layers: 2, width: 96, heads: 12, kv_heads: 3, head_dim: 16, mlp_width: 100}\n"
      "data: {sequence_length: 64}\nschedule: {decay_steps: 7}\n");
  EXPECT_EQ(Resolve(config).SerializeAsString(), config.SerializeAsString());
}

}  // namespace
}  // namespace tanren::config
