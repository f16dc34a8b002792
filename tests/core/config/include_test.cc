#include <string>

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

class Include : public testing::Test {
 protected:
  std::string Errors(const std::string& name, const std::vector<std::string>& overrides = {}) {
    return std::string(LoadConfig(directory_ / name, overrides).status().message());
  }
  Config Load(const std::string& name, const std::vector<std::string>& overrides = {}) {
    const auto config = LoadConfig(directory_ / name, overrides);
    EXPECT_TRUE(config.ok()) << config.status().message();
    return config.ok() ? *config : Config();
  }
  TemporaryDirectory directory_;
};

TEST_F(Include, LocalKeysWinWhereverTheIncludeStands) {
  directory_.Write("models/small.yaml",
                   "layers: 2\nwidth: 64\nheads: 4\nrotary_scaling: {kind: linear, factor: 4}\n");
  directory_.Write("run.yaml",
                   "model:\n  heads: 8\n  rotary_scaling: {factor: 2}\n  include: models/small.yaml\n");
  const Config config = Load("run.yaml");
  EXPECT_EQ(config.model().layers(), 2);
  EXPECT_EQ(config.model().heads(), 8);
  EXPECT_EQ(config.model().rotary_scaling().kind(), RotaryScaling::linear);  // sections merge
  EXPECT_EQ(config.model().rotary_scaling().factor(), 2);
}

TEST_F(Include, NestsRelativeToTheIncludingFileAndListsReplace) {
  directory_.Write("a/base.yaml", "include: ../b/model.yaml\ndata: {train: [{path: x}, {path: y}]}\n");
  directory_.Write("b/model.yaml", "model: {include: shape.yaml, width: 128}\n");
  directory_.Write("b/shape.yaml", "layers: 2\nwidth: 64\nheads: 4\n");
  directory_.Write("run.yaml", "include: a/base.yaml\ndata: {train: [{path: z}]}\n");
  const Config config = Load("run.yaml");
  EXPECT_EQ(config.model().width(), 128);
  ASSERT_EQ(config.data().train_size(), 1);
  EXPECT_EQ(config.data().train(0).path(), "z");
}

TEST_F(Include, SeveralFilesLaterWins) {
  directory_.Write("one.yaml", "model: {layers: 1, width: 64, heads: 4}\nseed: 1\n");
  directory_.Write("two.yaml", "seed: 2\n");
  directory_.Write("run.yaml", "include: [one.yaml, two.yaml]\n");
  EXPECT_EQ(Load("run.yaml").seed(), 2);
}

TEST_F(Include, ErrorsPointIntoTheRightFile) {
  directory_.Write("models/bad.yaml", "layers: 2\nwidht: 64\nheads: [\n");
  directory_.Write("models/typo.yaml", "layers: 2\nwidth: 64\nheads: 4\nnorm: batch_norm\n");
  directory_.Write("run.yaml", "model: {include: models/bad.yaml}\nseed: x\n");
  EXPECT_EQ(Errors("run.yaml"),
            directory_ / "models/bad.yaml:4:1: not valid YAML: end of sequence flow not found\n" +
                (directory_ / "run.yaml:2:7: seed: x is not an integer"));
  directory_.Write("run.yaml", "model: {include: models/typo.yaml, heads: 6}\n");
  EXPECT_EQ(Errors("run.yaml"),
            directory_ / "models/typo.yaml:4:7: model.norm: batch_norm is not one of layer_norm, rms_norm\n" +
                (directory_ /
                 "models/typo.yaml:2:8: model.width: 64 is not a multiple of model.heads 6; use 60 or 66, "
                 "or set model.head_dim"));
}

TEST_F(Include, CyclesBombsAndWrongPaths) {
  directory_.Write("a.yaml", "include: b.yaml\n");
  directory_.Write("b.yaml", "include: ./x/../a.yaml\n");
  EXPECT_EQ(Errors("a.yaml"),
            directory_ / "b.yaml:1:10: include: " + (directory_ / "a.yaml") + " includes itself");
  directory_.Write("self.yaml", "include: self.yaml\n");
  EXPECT_EQ(Errors("self.yaml"),
            directory_ / "self.yaml:1:10: include: " + (directory_ / "self.yaml") + " includes itself");
  directory_.Write(
      "run.yaml",
      "include: none.yaml\nmodel: {include: [3, {a: 1}]}\ntrain: {include: ''}\nlog: {include: ~}\n");
  EXPECT_EQ(
      Errors("run.yaml"),
      directory_ / "run.yaml:1:10: include: " + (directory_ / "none.yaml") +
          " cannot be opened: No such file or directory\n" +
          (directory_ / "run.yaml:2:19: model.include: " + (directory_ / "3")) +
          " cannot be opened: No such file or directory\n" +
          (directory_ / "run.yaml:2:22: model.include: expected the path of a YAML file, found a section of "
                        "keys and values\n") +
          (directory_ /
           "run.yaml:3:18: train.include: expected the path of a YAML file, found an empty string\n") +
          (directory_ / "run.yaml:4:7: log.include: has no value; give one or leave the key out"));
  // Each file includes the next twice: 2^14 readings without a limit.
  for (int i = 0; i < 14; ++i) {
    const std::string next = std::to_string(i + 1) + ".yaml";
    directory_.Write(std::to_string(i) + ".yaml", "include: [" + next + ", " + next + "]\n");
  }
  directory_.Write("14.yaml", "seed: 1\n");
  EXPECT_THAT(Errors("0.yaml"), testing::HasSubstr("more than 100 files are included"));
  for (int i = 0; i < 20; ++i) {
    directory_.Write("c" + std::to_string(i) + ".yaml", "include: c" + std::to_string(i + 1) + ".yaml\n");
  }
  EXPECT_EQ(Errors("c0.yaml"),
            directory_ / "c15.yaml:1:10: include: files include each other more than 16 deep");
  directory_.Write("list.yaml", "- a\n");
  directory_.Write("run.yaml", "include: list.yaml\n");
  EXPECT_EQ(Errors("run.yaml"), directory_ / "list.yaml:1:1: expected keys and values, found a list");
  directory_.Write("run.yaml", "include: empty.yaml\n" + std::string(kModel));
  directory_.Write("empty.yaml", "\n");
  EXPECT_EQ(Errors("run.yaml"), "");
}

TEST_F(Include, OverrideReplacesTheInclude) {
  directory_.Write("small.yaml", "layers: 2\nwidth: 64\nheads: 4\nqkv_bias: true\n");
  const std::string large = directory_.Write("large.yaml", "layers: 3\nwidth: 128\nheads: 4\n");
  directory_.Write("run.yaml", "model: {include: small.yaml, context_length: 512}\n");
  const Config config = Load("run.yaml", {"model.heads=8", "model.include=" + large});
  EXPECT_EQ(config.model().layers(), 3);
  EXPECT_FALSE(config.model().qkv_bias());          // nothing of small.yaml is left
  EXPECT_EQ(config.model().context_length(), 512);  // the file's own keys still win
  EXPECT_EQ(config.model().heads(), 8);             // and so do overrides, in any order
  directory_.Write("bare.yaml", "seed: 1\n");
  EXPECT_EQ(Load("bare.yaml", {"model.include=" + large}).model().layers(), 3);
  EXPECT_EQ(Load("bare.yaml", {"include=" + directory_.Write("all.yaml", kModel)}).model().layers(), 2);
}

TEST_F(Include, OverrideErrors) {
  directory_.Write("run.yaml", kModel);
  EXPECT_EQ(Errors("run.yaml", {"modle.include=x"}),
            "override 'modle.include=x': modle: unknown key; did you mean model?");
  EXPECT_EQ(Errors("run.yaml", {"seed.include=x"}),
            "override 'seed.include=x': seed: is not a section, so nothing can be included in it");
  EXPECT_EQ(
      Errors("run.yaml", {"data.train.include=x"}),
      "override 'data.train.include=x': data.train: is not a section, so nothing can be included in it");
  EXPECT_EQ(Errors("run.yaml", {"model.include=none.yaml"}),
            "override 'model.include=none.yaml': model.include: none.yaml cannot be opened: No such file or "
            "directory");
  EXPECT_EQ(Errors("run.yaml", {"model={include: none.yaml}"}),
            "override 'model={include: none.yaml}': model.include: cannot stand in a value; use the override "
            "model.include=PATH");
}

}  // namespace
}  // namespace tanren::config
