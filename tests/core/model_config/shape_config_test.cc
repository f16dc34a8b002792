// Which keys of the model section make a model compute something else from the same weights.
#include "core/model_config/shape_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "google/protobuf/text_format.h"

namespace tanren {
namespace {

config::ModelConfig Base() {
  config::ModelConfig model;
  model.set_layers(2);
  model.set_width(64);
  model.set_heads(4);
  return model;
}

// Of the base and the base with `text` merged into it.
std::vector<std::string> Differing(const std::string& text) {
  config::ModelConfig changed = Base();
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &changed)) << text;
  const absl::StatusOr<ModelShape> own = ShapeFromConfig(changed, 100), other = ShapeFromConfig(Base(), 100);
  EXPECT_TRUE(own.ok()) << own.status() << " " << text;
  if (!own.ok()) return {"error"};
  std::vector<std::string> keys;
  for (const ShapeDifference& difference : ShapeDifferences(*own, *other)) {
    EXPECT_NE(difference.own, difference.other);
    keys.push_back(difference.key);
  }
  return keys;
}

TEST(ShapeDifferences, NamesEveryKeyThatChangesTheArithmetic) {
  using ::testing::Contains;
  EXPECT_EQ(Differing(""), std::vector<std::string>());
  // A value other than the default for each key; a key that is added to the schema must be added here or
  // there.
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"layers", "3"},
      {"width", "128"},
      {"heads", "2"},
      {"kv_heads", "2"},
      {"head_dim", "32"},
      {"mlp_width", "96"},
      {"norm", "layer_norm"},
      {"norm_epsilon", "1e-6"},
      {"position", "learned"},
      {"rotary_base", "500000"},
      {"rotary_scaling", "{kind: linear factor: 2}"},
      {"mlp", "geglu"},
      {"qkv_bias", "true"},
      {"attention_output_bias", "true"},
      {"mlp_bias", "true"},
      {"qk_norm", "true"},
      {"sliding_window", "16"},
      {"tied_embeddings", "true"},
      {"attention_soft_cap", "50"},
      {"logit_soft_cap", "30"},
      {"embedding_scale", "8"}};
  const std::vector<std::pair<std::string, std::string>> harmless = {{"family", "\"llama\""},
                                                                     {"vocab_size", "128"},
                                                                     {"context_length", "4096"},
                                                                     {"init_std", "0.5"},
                                                                     {"scale_residual_init", "false"}};
  for (const auto& [key, value] : changes) {
    EXPECT_THAT(Differing(absl::StrCat(key, ": ", value)), Contains(key));
  }
  for (const auto& [key, value] : harmless) {
    EXPECT_EQ(Differing(absl::StrCat(key, ": ", value)), std::vector<std::string>()) << key;
  }
  EXPECT_EQ(static_cast<int>(changes.size() + harmless.size()),
            config::ModelConfig::descriptor()->field_count());
}

TEST(ShapeDifferences, GivesBothValues) {
  config::ModelConfig longer = Base();
  longer.set_rotary_base(500000);
  const std::vector<ShapeDifference> differences =
      ShapeDifferences(*ShapeFromConfig(longer, 100), *ShapeFromConfig(Base(), 100));
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_EQ(differences[0].own, "500000");
  EXPECT_EQ(differences[0].other, "10000");
}

}  // namespace
}  // namespace tanren
