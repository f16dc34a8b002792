#include <set>
#include <string>

#include "core/config/schema.h"
#include "nlohmann/json.hpp"
#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

using Json = nlohmann::json;

TEST(JsonSchema, DescribesEveryKey) {
  const Json schema = Json::parse(JsonSchema());
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["additionalProperties"], false);
  const Json& optimizer = schema["$defs"]["OptimizerConfig"];
  EXPECT_EQ(optimizer["additionalProperties"], false);
  const Json beta1 = {{"type", "number"},
                      {"minimum", 0.0},
                      {"exclusiveMaximum", 1.0},
                      {"default", 0.9},
                      {"description", "decay of the first moment"}};
  EXPECT_EQ(optimizer["properties"]["beta1"], beta1);
  const Json& model = schema["$defs"]["ModelConfig"]["properties"];
  EXPECT_EQ(model["norm"]["enum"], Json({"layer_norm", "rms_norm"}));
  EXPECT_EQ(model["norm"]["default"], "rms_norm");
  const Json layers = {{"type", "integer"},
                       {"minimum", 1},
                       {"maximum", 10000},
                       {"description", "blocks of attention and MLP (required)"}};
  EXPECT_EQ(model["layers"], layers);
  EXPECT_TRUE(model["layers"]["minimum"].is_number_integer());
  EXPECT_EQ(model["rotary_scaling"]["$ref"], "#/$defs/RotaryScaling");
  EXPECT_EQ(schema["$defs"]["DataConfig"]["properties"]["train"]["items"]["$ref"], "#/$defs/DataSource");
  EXPECT_EQ(schema["$defs"]["SamplesConfig"]["properties"]["prompts"]["items"]["type"], "string");
  EXPECT_TRUE(schema["properties"].contains("include"));
  ForEachField(Config::descriptor(), [&](const std::string& path, const FieldDescriptor* field) {
    if (field->containing_type()->file()->package() != "tanren.config" || !IsSupported(field)) return;
    const bool is_root = field->containing_type() == Config::descriptor();
    const Json& section = is_root ? schema : schema["$defs"][field->containing_type()->name()];
    ASSERT_TRUE(section["properties"].contains(KeyOf(field))) << path;
    if (!field->is_extension()) {
      EXPECT_TRUE(section["properties"][KeyOf(field)].contains("description")) << path;
    }
  });
}

void CollectReferences(const Json& json, std::set<std::string>* references) {
  if (json.is_object() && json.contains("$ref")) references->insert(json["$ref"].get<std::string>());
  if (!json.is_structured()) return;
  for (const Json& child : json) CollectReferences(child, references);
}

TEST(JsonSchema, ReferencesResolve) {
  const Json schema = Json::parse(JsonSchema());
  std::set<std::string> references;
  CollectReferences(schema, &references);
  EXPECT_GE(references.size(), 14);
  for (const std::string& reference : references) {
    EXPECT_TRUE(schema["$defs"].contains(reference.substr(std::string("#/$defs/").size()))) << reference;
  }
}

TEST(MarkdownTable, ShowsDefaultsRangesAndMeaning) {
  const std::string table = MarkdownTable();
  EXPECT_THAT(table,
              testing::HasSubstr(
                  "## `optimizer`\n\n| key | type | default | range | meaning |\n|---|---|---|---|---|\n"));
  EXPECT_THAT(table,
              testing::HasSubstr("| `beta1` | number | `0.9` | [0, 1) | decay of the first moment |\n"));
  EXPECT_THAT(table, testing::HasSubstr(
                         "| `layers` | integer | required | [1, 10000] | blocks of attention and MLP |\n"));
  EXPECT_THAT(table, testing::HasSubstr("| `norm` | layer_norm, rms_norm | `rms_norm` |"));
  EXPECT_THAT(table, testing::HasSubstr("## `data.train.N`\n"));
  EXPECT_THAT(table, testing::HasSubstr("## `model.rotary_scaling`\n"));
  EXPECT_THAT(table, testing::HasSubstr("| `prompts` | list of strings | empty |  | texts to continue |\n"));
}

}  // namespace
}  // namespace tanren::config
