// Options of stages built outside the tree: extensions of Config, with the same strictness.
#include <string>

#include "core/config/schema.h"
#include "tests/core/config/config_testing.h"
#include "tests/core/config/test_plugin.pb.h"

namespace tanren::config {
namespace {

TEST(Plugin, KeysAreExtensions) {
  const Config config =
      MustLoad(std::string(kModel) +
                   "distill:\n  teacher: runs/t\n  temperature: 3\n  taps: [1, 2]\n  mix: 0.1\n"
                   "  mode: features\n  port: 4294967295\n",
               {"distill.top=7", "distill.taps.1=9"});
  const auto& distill = config.GetExtension(acme::stages::distill);
  EXPECT_EQ(distill.teacher(), "runs/t");
  EXPECT_EQ(distill.temperature(), 3);
  EXPECT_EQ(distill.top(), 7);
  EXPECT_THAT(distill.taps(), testing::ElementsAre(1, 9));
  EXPECT_EQ(distill.mix(), 0.1f);
  EXPECT_EQ(distill.mode(), acme::stages::DistillConfig::features);
  EXPECT_EQ(distill.port(), 4294967295u);
}

TEST(Plugin, FullNameWhereTheShortOneIsTaken) {
  for (const std::string key : {"[acme.stages.data]", "'[acme.stages.data]'"}) {
    const Config config = MustLoad(kModel + key + ": {fast: true}\n");
    EXPECT_TRUE(config.GetExtension(acme::stages::data).fast());
  }
  const Config config = MustLoad(kModel, {"[acme.stages.data].fast=true", "[acme.stages.distill].teacher=t"});
  EXPECT_TRUE(config.GetExtension(acme::stages::data).fast());
  EXPECT_EQ(config.GetExtension(acme::stages::distill).teacher(), "t");
  EXPECT_EQ(ErrorsAfterModel("distill: {teacher: t}\n'[acme.stages.distill]': {}\n"),
            "run.yaml:3:1: distill: duplicate key, first given at run.yaml:2:1");
}

TEST(Plugin, IsAsStrict) {
  EXPECT_EQ(ErrorsAfterModel("distill: {teacher: t, temprature: 3}\n"),
            "run.yaml:2:23: distill.temprature: unknown key; did you mean distill.temperature?");
  EXPECT_EQ(ErrorsAfterModel("distill: {temperature: 0}\n"),
            "run.yaml:2:24: distill.temperature: 0 is outside (0, 100]\n"
            "run.yaml:2:10: distill.teacher: is required: checkpoint of the teacher (a string)");
  EXPECT_EQ(ErrorsAfterModel("distill: {teacher: t, top: 3e9}\n"),
            "run.yaml:2:28: distill.top: 3000000000 does not fit int32");
  EXPECT_EQ(ErrorsAfterModel("distill: {teacher: t, port: -1}\n"),
            "run.yaml:2:29: distill.port: -1 does not fit uint32");
  EXPECT_EQ(ErrorsAfterModel("distill: {teacher: t, mix: 1e39}\n"),
            "run.yaml:2:28: distill.mix: 1e39 does not fit float");
  EXPECT_EQ(ErrorsAfterModel("distill: {teacher: t, blob: x}\n"),
            "run.yaml:2:29: distill.blob: has a type that YAML cannot set");
  EXPECT_EQ(ErrorsAfterModel("dist1ll: {}\n"), "run.yaml:2:1: dist1ll: unknown key; did you mean distill?");
}

TEST(Plugin, OptionsNotUsedAreNotDemanded) { EXPECT_EQ(ErrorsOf(kModel), ""); }

TEST(Plugin, SurvivesYaml) {
  const Config config = MustLoad(std::string(kModel) +
                                 "'[acme.stages.data]': {fast: true}\n"
                                 "distill: {teacher: a, mix: 0.3, taps: [3], next: {teacher: b}}\n");
  EXPECT_THAT(ToYaml(config, false), testing::HasSubstr("  mix: 0.3\n"));  // not 0.30000001192092896
  for (const bool with_defaults : {false, true}) {
    const Config again = MustLoad(ToYaml(config, with_defaults));
    EXPECT_TRUE(again.GetExtension(acme::stages::data).fast());
    EXPECT_EQ(again.GetExtension(acme::stages::distill).mix(), 0.3f);
    EXPECT_EQ(again.GetExtension(acme::stages::distill).next().teacher(), "b");
    EXPECT_EQ(ConfigHash(again), ConfigHash(config));
  }
}

TEST(Plugin, IsLeftOutOfSavedConfigsWhereItIsNotLoaded) {
  const std::string with = "plugins: [libgone.so]\nmodel: {layers: 2, width: 64, heads: 4}\n";
  const std::string gone = "gone: {a: 1, model: {layers: 9}}\n'[acme.gone.data]': {b: 2}\n";
  EXPECT_EQ(ErrorsOf(with + gone).substr(0, 31), "run.yaml:3:1: gone: unknown key");
  const auto saved = LoadSavedConfig(with + gone, "run.yaml", std::vector<std::string>{"seed=3"});
  ASSERT_TRUE(saved.ok()) << saved.status();
  EXPECT_EQ(saved->model().layers(), 2);
  EXPECT_EQ(saved->seed(), 3);
  // What is loaded is read, and everything else is as strict as ever.
  EXPECT_EQ(LoadSavedConfig(with + "distill: {teacher: t}\n", "run.yaml")
                ->GetExtension(acme::stages::distill)
                .teacher(),
            "t");
  EXPECT_FALSE(LoadSavedConfig(with + "distill: {teacher: t, temprature: 1}\n", "run.yaml").ok());
  EXPECT_FALSE(LoadSavedConfig(with + "gone: 1\n", "run.yaml").ok());
  EXPECT_FALSE(LoadSavedConfig(with + gone, "run.yaml", std::vector<std::string>{"gone.a=2"}).ok());
  EXPECT_FALSE(LoadSavedConfig("model: {layers: 2, width: 64, heads: 4}\n" + gone, "run.yaml").ok());
}

TEST(Plugin, IsDescribed) {
  EXPECT_THAT(JsonSchema(), testing::HasSubstr("\"acme.stages.DistillConfig\""));
  EXPECT_THAT(MarkdownTable(),
              testing::HasSubstr("| `temperature` | number | `2` | (0, 100] | of teacher and student |"));
}

}  // namespace
}  // namespace tanren::config
