#include <string>

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

TEST(Override, SetsScalarsListsAndSections) {
  const Config config =
      MustLoad(std::string(kModel) + "data: {train: [{path: a}, {path: b}]}\nseed: 3\n",
               {"seed=4", "optimizer.learning_rate=3e-4", "data.train.1.path=c", "data.train.2.path=d",
                "data.train.2.weight=5", "data.validation=[{path: x, weight: 2}]",
                "samples.prompts=[a b, \"c, d\"]", "samples.prompts.0=first", "samples.prompts.2=last",
                "model.rotary_scaling={kind: linear, factor: 2}", "run_directory=''", "seed=5"});
  EXPECT_EQ(config.seed(), 5);  // the last one wins
  EXPECT_EQ(config.optimizer().learning_rate(), 3e-4);
  ASSERT_EQ(config.data().train_size(), 3);
  EXPECT_EQ(config.data().train(0).path(), "a");
  EXPECT_EQ(config.data().train(1).path(), "c");
  EXPECT_EQ(config.data().train(2).path(), "d");
  EXPECT_EQ(config.data().train(2).weight(), 5);
  ASSERT_EQ(config.data().validation_size(), 1);
  EXPECT_EQ(config.data().validation(0).weight(), 2);
  EXPECT_THAT(config.samples().prompts(), testing::ElementsAre("first", "c, d", "last"));
  EXPECT_EQ(config.model().rotary_scaling().factor(), 2);
  EXPECT_EQ(config.model().layers(), 2);
}

TEST(Override, ListReplacesTheFilesList) {
  const Config config =
      MustLoad(std::string(kModel) + "data: {train: [{path: a}, {path: b}]}\n", {"data.train=[{path: z}]"});
  ASSERT_EQ(config.data().train_size(), 1);
  EXPECT_EQ(config.data().train(0).path(), "z");
  EXPECT_EQ(MustLoad(std::string(kModel) + "plugins: [a]\n", {"plugins=[]"}).plugins_size(), 0);
}

TEST(Override, ErrorsNameTheOverride) {
  EXPECT_EQ(ErrorsAfterModel("", {"optimizer.beta1=1.5"}),
            "override 'optimizer.beta1=1.5': optimizer.beta1: 1.5 is outside [0, 1)");
  EXPECT_EQ(ErrorsAfterModel("", {"optimizer.leraning_rate=1"}),
            "override 'optimizer.leraning_rate=1': optimizer.leraning_rate: unknown key; did you mean "
            "optimizer.learning_rate?");
  EXPECT_EQ(ErrorsAfterModel("", {"lr=1"}),
            "override 'lr=1': lr: unknown key; did you mean optimizer.learning_rate?");
  EXPECT_EQ(ErrorsAfterModel("", {"seed"}),
            "override 'seed': expected key=value, for example optimizer.learning_rate=3e-4");
  EXPECT_EQ(ErrorsAfterModel("", {"=3"}),
            "override '=3': expected key=value, for example optimizer.learning_rate=3e-4");
  EXPECT_EQ(ErrorsAfterModel("", {"seed="}),
            "override 'seed=': seed: has no value; write '' for an empty string");
  EXPECT_EQ(ErrorsAfterModel("", {"seed=[1"}),
            "override 'seed=[1': seed: not valid YAML: end of sequence flow not found");
  EXPECT_EQ(ErrorsAfterModel("", {"seed=[1]"}),
            "override 'seed=[1]': seed: expected an integer, found a list");
  EXPECT_EQ(ErrorsAfterModel("", {"seed.x=1"}), "override 'seed.x=1': seed: is not a section");
  EXPECT_EQ(ErrorsAfterModel("", {"data.train.1.path=x"}),
            "override 'data.train.1.path=x': data.train: has 0 elements; 1 is not an index from 0 to 0 (0 "
            "appends)");
  EXPECT_EQ(ErrorsAfterModel("", {"data.train.path=x"}),
            "override 'data.train.path=x': data.train: has 0 elements; path is not an index from 0 to 0 (0 "
            "appends)");
  EXPECT_EQ(ErrorsAfterModel("", {"samples.prompts.0.x=x"}),
            "override 'samples.prompts.0.x=x': samples.prompts.0: is not a section");
  EXPECT_EQ(ErrorsAfterModel("", {"data.train=[{path: x, wieght: 2}]"}),
            "override 'data.train=[{path: x, wieght: 2}]': data.train.0.wieght: unknown key; did you mean "
            "data.train.0.weight?");
  EXPECT_EQ(ErrorsAfterModel("", {"data.train.0.weight=2"}),
            "override 'data.train.0.weight=2': data.train.0.path: is required: token shard directory made by "
            "`tanren data tokenize` (a string)");
  EXPECT_EQ(ErrorsAfterModel("", {"a\x1b[0m=1"}), "override 'a\\x1b[0m=1': a\\x1b[0m: unknown key");
}

TEST(Override, RulesNameTheOverrideThatBrokeThem) {
  EXPECT_EQ(ErrorsAfterModel("", {"parallel.tensor=3", "batch.micro_batch_tokens=1152"}),
            "override 'parallel.tensor=3': parallel.tensor: 3 does not divide model.heads 4; use 1, 2 or 4\n"
            "override 'parallel.tensor=3': parallel.tensor: 3 neither divides nor is a multiple of "
            "model.kv_heads 4; "
            "use one of its divisors or multiples\n"
            "override 'parallel.tensor=3': parallel.tensor: 3 does not divide model.mlp_width 256; use a "
            "divisor, or "
            "mlp_width 255 or 258");
}

TEST(Plugins, AreFoundBeforeTheirKeysAreKnown) {
  const TemporaryDirectory directory;
  const std::string path =
      directory.Write("run.yaml", "plugins: [libone.so, libtwo.so]\nunknown_stage: {a: 1}\n");
  const auto is = [&](const char* so, const std::string& place) {
    return testing::AllOf(testing::Field(&PluginPath::path, so), testing::Field(&PluginPath::place, place));
  };
  const auto one = is("libone.so", path + ":1:11: plugins.0"),
             two = is("libtwo.so", path + ":1:22: plugins.1");
  EXPECT_THAT(PluginsOf(path), testing::ElementsAre(one, two));
  const std::vector<std::string> overrides = {"plugins.2=libthree.so", "other=1"};
  EXPECT_THAT(
      PluginsOf(path, overrides),
      testing::ElementsAre(one, two, is("libthree.so", "override 'plugins.2=libthree.so': plugins.2")));
  const std::string including =
      directory.Write("including.yaml", "include: run.yaml\nplugins: [libfour.so]\n");
  EXPECT_THAT(PluginsOf(including), testing::ElementsAre(is("libfour.so", including + ":2:11: plugins.0")));
  EXPECT_THAT(PluginsOf(directory.Write("only.yaml", "include: run.yaml\n")).size(), 2);
}

}  // namespace
}  // namespace tanren::config
