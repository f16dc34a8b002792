#include <sstream>
#include <string>

#include "launch/config_verbs.h"
#include "tests/core/config/config_testing.h"

namespace tanren {
namespace {

using config::TemporaryDirectory;

TEST(ConfigVerbs, ShowPrintsAConfigThatCanBeRun) {
  const TemporaryDirectory directory;
  const std::string path = directory.Write("run.yaml", config::kModel);
  std::ostringstream out, errors;
  const std::vector<std::string> overrides = {"seed=9"};
  EXPECT_EQ(ConfigShow(path, overrides, out, errors), 0);
  EXPECT_EQ(errors.str(), "");
  EXPECT_THAT(out.str(), testing::HasSubstr("seed: 9\n"));
  EXPECT_THAT(out.str(), testing::HasSubstr("  mlp_width: 256\n"));
  std::ostringstream again;
  EXPECT_EQ(ConfigShow(directory.Write("shown.yaml", out.str()), {}, again, errors), 0);
  EXPECT_EQ(again.str(), out.str());
  std::ostringstream valid;
  EXPECT_EQ(ConfigValidate(path, overrides, valid, errors), 0);
  EXPECT_EQ(valid.str(), path + ": valid, SHA-256 " + config::ConfigHash(config::MustLoad(out.str())) + "\n");
}

TEST(ConfigVerbs, WrongInputIsCode2WithOneLineEach) {
  const TemporaryDirectory directory;
  const std::string path = directory.Write("run.yaml", "model: {layers: 0, width: 64, heads: 4}\nsede: 1\n");
  for (auto* verb : {&ConfigShow, &ConfigValidate}) {
    std::ostringstream out, errors;
    EXPECT_EQ(verb(path, {}, out, errors), 2);
    EXPECT_EQ(out.str(), "");
    EXPECT_EQ(errors.str(), path + ":1:17: model.layers: 0 is outside [1, 10000]\n" + path +
                                ":2:1: sede: unknown key; did you mean seed?\n");
  }
}

TEST(ConfigVerbs, SchemaAndTable) {
  std::ostringstream schema, table;
  EXPECT_EQ(ConfigSchema({}, schema), 0);
  EXPECT_EQ(schema.str(), config::JsonSchema());
  EXPECT_EQ(ConfigTable({}, table), 0);
  EXPECT_EQ(table.str(), config::MarkdownTable());
}

}  // namespace
}  // namespace tanren
