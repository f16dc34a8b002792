// Every class of wrong file with its message.
#include <limits>
#include <string>

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

TEST(Load, ReadsEveryKindOfValue) {
  const Config config = MustLoad(
      "model:\n"
      "  layers: 1e1\n"
      "  width: 64\n"
      "  heads: 4\n"
      "  norm: layer_norm\n"
      "  norm_epsilon: 1e-6\n"
      "  qkv_bias: true\n"
      "  rotary_scaling: {kind: linear, factor: 2}\n"
      "optimizer: {learning_rate: 2e-5, clip_norm: 0}\n"
      "seed: 9223372036854775807\n"
      "run_directory: runs/x\n"
      "data:\n"
      "  train:\n"
      "    - path: a\n"
      "    - {path: '010', weight: 3}\n"
      "samples:\n"
      "  prompts: [\"tab\\t\", plain words, 'it''s', 鍛錬, 12]\n");
  EXPECT_EQ(config.model().layers(), 10);
  EXPECT_EQ(config.model().norm(), ModelConfig::layer_norm);
  EXPECT_EQ(config.model().norm_epsilon(), 1e-6);
  EXPECT_TRUE(config.model().qkv_bias());
  EXPECT_EQ(config.model().rotary_scaling().kind(), RotaryScaling::linear);
  EXPECT_EQ(config.optimizer().learning_rate(), 2e-5);
  EXPECT_TRUE(config.optimizer().has_clip_norm());
  EXPECT_FALSE(config.optimizer().has_beta1());
  EXPECT_EQ(config.optimizer().beta1(), 0.9);
  EXPECT_EQ(config.seed(), 9223372036854775807);
  EXPECT_EQ(config.run_directory(), "runs/x");
  ASSERT_EQ(config.data().train_size(), 2);
  EXPECT_EQ(config.data().train(1).path(), "010");
  EXPECT_EQ(config.data().train(1).weight(), 3);
  EXPECT_THAT(config.samples().prompts(), testing::ElementsAre("tab\t", "plain words", "it's", "鍛錬", "12"));
}

TEST(Load, AliasesShareAValue) {
  const Config config = MustLoad(
      "model: {layers: &n 4, width: 64, heads: *n}\n"
      "data:\n  train: &all [{path: x}]\n  validation: *all\n");
  EXPECT_EQ(config.model().heads(), 4);
  EXPECT_EQ(config.data().validation(0).path(), "x");
}

TEST(Load, UnknownKeys) {
  EXPECT_EQ(ErrorsAfterModel("optimizer:\n  leraning_rate: 1\n"),
            "run.yaml:3:3: optimizer.leraning_rate: unknown key; did you mean optimizer.learning_rate?");
  EXPECT_EQ(ErrorsAfterModel("optimizer: {steps: 4}\n"),
            "run.yaml:2:13: optimizer.steps: unknown key; did you mean train.steps?");
  EXPECT_EQ(ErrorsAfterModel("train.steps: 4\n"),
            "run.yaml:2:1: train.steps: unknown key; in a file keys are nested: train: {steps: ...}");
  EXPECT_EQ(ErrorsAfterModel("tokenizer: {zzzzzzzz: 4}\n"),
            "run.yaml:2:13: tokenizer.zzzzzzzz: unknown key; known here: kind or path");
  EXPECT_EQ(ErrorsAfterModel("zzzzzzzz: 4\n"), "run.yaml:2:1: zzzzzzzz: unknown key");
  EXPECT_EQ(ErrorsAfterModel("data:\n  train:\n    - {path: x, wieght: 2}\n"),
            "run.yaml:4:17: data.train.0.wieght: unknown key; did you mean data.train.0.weight?");
  EXPECT_EQ(ErrorsAfterModel("base: &base {a: 1}\noptimizer:\n  <<: *base\n"),
            "run.yaml:2:1: base: unknown key\n"
            "run.yaml:4:3: optimizer.<<: merge keys are not supported; use include");
}

TEST(Load, DuplicateKeys) {
  EXPECT_EQ(ErrorsAfterModel("seed: 1\ntrain: {steps: 5, steps: 6}\nseed: 2\n"),
            "run.yaml:3:19: train.steps: duplicate key, first given at run.yaml:3:9\n"
            "run.yaml:4:1: seed: duplicate key, first given at run.yaml:2:1");
}

TEST(Load, KeysThatAreNotWords) {
  EXPECT_EQ(ErrorsAfterModel("? {a: 1}\n: 2\n"),
            "run.yaml:2:3: a key is a word, found a section of keys and values");
  EXPECT_EQ(ErrorsAfterModel("train: {~: 3}\n"), "run.yaml:2:9: train: a key is a word, found nothing");
}

TEST(Load, WrongShapes) {
  EXPECT_EQ(ErrorsAfterModel("optimizer: 3\n"),
            "run.yaml:2:12: optimizer: expected a section of keys and values, found a single value");
  EXPECT_EQ(ErrorsAfterModel("optimizer: [beta1]\n"),
            "run.yaml:2:12: optimizer: expected a section of keys and values, found a list");
  EXPECT_EQ(ErrorsAfterModel("seed: [1, 2]\n"), "run.yaml:2:7: seed: expected an integer, found a list");
  EXPECT_EQ(ErrorsAfterModel("seed: {a: 1}\n"),
            "run.yaml:2:7: seed: expected an integer, found a section of keys and values");
  EXPECT_EQ(ErrorsAfterModel("data: {train: x}\n"),
            "run.yaml:2:15: data.train: expected a list, found a single value");
  EXPECT_EQ(ErrorsAfterModel("data: {train: {path: x}}\n"),
            "run.yaml:2:15: data.train: expected a list, found a section of keys and values");
  EXPECT_EQ(ErrorsAfterModel("data: {train: [x]}\n"),
            "run.yaml:2:16: data.train.0: expected a section of keys and values, found a single value");
  EXPECT_EQ(ErrorsAfterModel("plugins: [[a]]\n"),
            "run.yaml:2:11: plugins.0: expected a string, found a list");
  EXPECT_EQ(ErrorsAfterModel("plugins: [~]\n"), "run.yaml:2:11: plugins.0: expected a string, found nothing");
  EXPECT_EQ(ErrorsOf("- a\n"), "run.yaml:1:1: expected keys and values, found a list");
  EXPECT_EQ(ErrorsOf("hello\n"), "run.yaml:1:1: expected keys and values, found a single value");
}

TEST(Load, MissingValues) {
  EXPECT_EQ(ErrorsAfterModel("train:\nseed: ~\nrun_directory: null\n"),
            "run.yaml:2:1: train: has no value; give one or leave the key out\n"
            "run.yaml:3:1: seed: has no value; give one or leave the key out\n"
            "run.yaml:4:1: run_directory: has no value; give one or leave the key out");
}

TEST(Load, WrongScalars) {
  EXPECT_EQ(ErrorsAfterModel("seed: twelve\n"), "run.yaml:2:7: seed: twelve is not an integer");
  EXPECT_EQ(ErrorsAfterModel("seed: '12'\n"),
            "run.yaml:2:7: seed: '12' is a string; expected an integer, without quotes");
  EXPECT_EQ(ErrorsAfterModel("seed: 010\n"),
            "run.yaml:2:7: seed: 010 starts with a zero, which some programs read as octal; leave it out");
  EXPECT_EQ(ErrorsAfterModel("seed: 9223372036854775808\n"),
            "run.yaml:2:7: seed: 9223372036854775808 does not fit a 64-bit integer");
  EXPECT_EQ(ErrorsAfterModel("optimizer: {learning_rate: .nan}\n"),
            "run.yaml:2:28: optimizer.learning_rate: .nan is not finite");
  EXPECT_EQ(ErrorsAfterModel("log: {tensorboard: yes}\n"),
            "run.yaml:2:20: log.tensorboard: yes is not true or false");
  EXPECT_EQ(ErrorsAfterModel("log: {tensorboard: 'true'}\n"),
            "run.yaml:2:20: log.tensorboard: 'true' is a string; expected true or false, without quotes");
  EXPECT_EQ(
      ErrorsAfterModel("schedule: {kind: cosin}\n"),
      "run.yaml:2:18: schedule.kind: cosin is not one of constant, linear, cosine, warmup_stable_decay; "
      "did you mean cosine?");
  EXPECT_EQ(ErrorsAfterModel("parallel: {device: 0}\n"),
            "run.yaml:2:20: parallel.device: 0 is not one of cpu, cuda");
  EXPECT_EQ(ErrorsOf("model: {layers: 2, width: 64, heads: 4, family: lama}\n"),
            "run.yaml:1:49: model.family: lama is not one of gpt2, llama, mistral, qwen2, qwen3, custom; "
            "did you mean llama?");
  EXPECT_EQ(ErrorsAfterModel("stage: \"a\\0b\"\n"), "run.yaml:2:8: stage: a\\x00b contains a NUL character");
  EXPECT_EQ(ErrorsAfterModel("run_directory: \"a\\nb\"\n"),
            "run.yaml:2:16: run_directory: a\\nb has a control character in a path");
}

TEST(Load, Ranges) {
  EXPECT_EQ(ErrorsAfterModel("optimizer:\n  beta1: 1.5\n  epsilon: 0\n  learning_rate: -1\n"),
            "run.yaml:3:10: optimizer.beta1: 1.5 is outside [0, 1)\n"
            "run.yaml:4:12: optimizer.epsilon: 0 is outside (0, 1]\n"
            "run.yaml:5:18: optimizer.learning_rate: -1 is outside [0, 1000]");
  EXPECT_EQ(ErrorsAfterModel("optimizer: {beta2: 1}\n"),
            "run.yaml:2:20: optimizer.beta2: 1 is outside [0, 1)");
  EXPECT_EQ(ErrorsAfterModel("seed: -1\n"), "run.yaml:2:7: seed: -1 is not >= 0");
  EXPECT_EQ(ErrorsAfterModel("train: {steps: 0}\n"),
            "run.yaml:2:16: train.steps: 0 is outside [1, 1000000000000000]");
  EXPECT_EQ(ErrorsAfterModel("checkpoint: {keep: 1}\n"),
            "run.yaml:2:20: checkpoint.keep: 1 is outside [2, 1000000]");
  EXPECT_EQ(ErrorsAfterModel("optimizer: {beta1: 0}\n"), "");
}

TEST(Load, Required) {
  EXPECT_EQ(ErrorsOf(""),
            "run.yaml: model.layers: is required: blocks of attention and MLP (an integer)\n"
            "run.yaml: model.width: is required: size of the residual stream (an integer)\n"
            "run.yaml: model.heads: is required: query heads of each layer (an integer)");
  EXPECT_EQ(ErrorsOf("# nothing\n"), ErrorsOf(""));
  EXPECT_EQ(ErrorsOf("seed: 1\nmodel: {layers: 1, heads: 2}\n"),
            "run.yaml:2:8: model.width: is required: size of the residual stream (an integer)");
  EXPECT_EQ(
      ErrorsAfterModel("data:\n  train:\n    - path: x\n    - weight: 2\n  validation: [{path: ''}]\n"),
      "run.yaml:5:7: data.train.1.path: is required: token shard directory made by `tanren data tokenize` "
      "(a string)\n"
      "run.yaml:6:23: data.validation.0.path: is required: token shard directory made by `tanren data "
      "tokenize` (a string)");
  // The wrong type is said once, not also as missing.
  EXPECT_EQ(ErrorsOf("model: {layers: x, width: 64, heads: 4}\n"),
            "run.yaml:1:17: model.layers: x is not an integer");
}

TEST(Load, AllErrorsAtOnce) {
  EXPECT_EQ(ErrorsAfterModel("optimizer:\n  beta1: 1.5\n  lr: 1\nseed: x\nparallel: {pipe: 2}\n",
                             {"trian.steps=3"}),
            "run.yaml:3:10: optimizer.beta1: 1.5 is outside [0, 1)\n"
            "run.yaml:4:3: optimizer.lr: unknown key; did you mean optimizer.learning_rate?\n"
            "run.yaml:5:7: seed: x is not an integer\n"
            "override 'trian.steps=3': trian: unknown key; did you mean train?\n"
            "run.yaml:6:18: parallel.pipe: 2: pipeline parallelism is named but not available; use 1, and "
            "parallel.tensor to share a model that does not fit one rank");
}

TEST(Load, ManyErrorsAreCounted) {
  std::string text = kModel;
  for (int i = 0; i < 500; ++i) text += "qqqqqqqq" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(ErrorsOf(text), testing::EndsWith("qqqqqqqq99: unknown key\n... and 400 more errors"));
}

TEST(Load, UntrustedTextIsCutAndEscaped) {
  const std::string long_word(5000, 'w');
  for (const std::string& text :
       {long_word + ": 1\n", "stage: " + long_word + "\nseed: " + long_word + "\n",
        "schedule: {kind: " + long_word + "}\n", "a: !" + long_word + " 1\n", "a: *" + long_word + "\n",
        "include: " + long_word + "\n", "tokenizer: {path: " + long_word + "}\n"}) {
    const std::string errors = ErrorsAfterModel(text);
    ASSERT_NE(errors, "");
    EXPECT_LT(errors.size(), 400) << errors;
  }
  EXPECT_EQ(ErrorsAfterModel("\"\\e[31mred\\n\": 1\n"), "run.yaml:2:1: \\x1b[31mred\\n: unknown key");
  EXPECT_LT(ErrorsAfterModel("", {long_word + "=" + long_word}).size(), 400);
}

TEST(Load, FilesThatCannotBeRead) {
  const TemporaryDirectory directory;
  const auto errors = [](const std::string& path) {
    return std::string(LoadConfig(path).status().message());
  };
  EXPECT_EQ(errors(directory / "none.yaml"),
            directory / "none.yaml: cannot be opened: No such file or directory");
  EXPECT_EQ(errors(directory / "."), directory / ".: is a directory");
  EXPECT_EQ(errors("/dev/zero"), "/dev/zero: is not a regular file");
  EXPECT_EQ(errors(directory.Write("big.yaml", std::string((1 << 20) + 1, ' '))),
            directory / "big.yaml: longer than 1048576 bytes (1048577)");
  EXPECT_EQ(errors(directory.Write("bad.yaml", "a: [\n")),
            directory / "bad.yaml:2:1: not valid YAML: end of sequence flow not found");
}

TEST(Validate, ChecksConfigsMadeInCode) {
  Config config = MustLoad(kModel);
  EXPECT_TRUE(Validate(config).ok());
  config.mutable_optimizer()->set_beta1(1.5);
  config.mutable_optimizer()->set_epsilon(std::numeric_limits<double>::quiet_NaN());
  config.mutable_model()->clear_heads();
  config.mutable_model()->set_family("bert");
  config.mutable_data()->add_train()->set_weight(-1);
  EXPECT_EQ(
      Validate(config).message(),
      "model.family: bert is not one of gpt2, llama, mistral, qwen2, qwen3, custom\n"
      "data.train.0.weight: -1 is outside (0, 1000000000]\n"
      "optimizer.beta1: 1.5 is outside [0, 1)\n"
      "optimizer.epsilon: nan is not finite\n"
      "model.heads: is required: query heads of each layer (an integer)\n"
      "data.train.0.path: is required: token shard directory made by `tanren data tokenize` (a string)");
  config = MustLoad(kModel);
  config.mutable_model()->set_heads(3);
  EXPECT_EQ(Validate(config).message(),
            "model.width: 64 is not a multiple of model.heads 3; use 63 or 66, or set model.head_dim");
}

}  // namespace
}  // namespace tanren::config
