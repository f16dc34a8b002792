// config.json of each family to a shape and back, and every setting that is refused.
#include "core/hugging_face/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/config/config.h"
#include "core/model/decoder.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"
#include "tests/core/hugging_face/directories.h"

namespace tanren {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json GoldenConfig(const std::string& family) {
  return json::parse(ReadFile(GoldenDirectory(family) + "/config.json"));
}

absl::StatusOr<HfConfig> Read(const json& config) { return ReadHfConfig(config.dump(), "config.json"); }

// The message of the refusal, "" when there was none.
std::string Refusal(const std::string& family, const std::string& key, const json& value) {
  json config = GoldenConfig(family);
  config[key] = value;
  return std::string(Read(config).status().message());
}

std::string RotaryRefusal(const json& section) { return Refusal("llama", "rope_parameters", section); }

TEST(HfConfig, GoldenFamiliesHaveTheShapesTheyWereMadeWith) {
  const ModelShape gpt2 = Read(GoldenConfig("gpt2"))->shape;
  EXPECT_EQ(gpt2.mlp_width, 52);
  EXPECT_EQ(gpt2.head_dim, 7);
  EXPECT_TRUE(gpt2.learned_positions && gpt2.qkv_bias && gpt2.mlp_bias && gpt2.attention_output_bias);
  EXPECT_TRUE(gpt2.tied_embeddings && gpt2.layer_norm());
  const ModelShape llama = Read(GoldenConfig("llama"))->shape;
  EXPECT_EQ(llama.kv_heads, 2);
  EXPECT_EQ(llama.rotary.scaling, RotaryShape::Scaling::kLlama3);
  EXPECT_EQ(llama.rotary.base, 500);
  EXPECT_EQ(llama.rotary.original_context_length, 16);
  EXPECT_FLOAT_EQ(llama.norm_epsilon, 1e-5f);
  EXPECT_FALSE(llama.tied_embeddings || llama.qkv_bias || llama.mlp_bias || llama.qk_norm);
  EXPECT_EQ(Read(GoldenConfig("mistral"))->shape.sliding_window, 5);
  const ModelShape qwen2 = Read(GoldenConfig("qwen2"))->shape;
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.attention_output_bias && qwen2.tied_embeddings);
  EXPECT_EQ(qwen2.sliding_window, 0);
  const ModelShape qwen3 = Read(GoldenConfig("qwen3"))->shape;
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 8);
  for (const std::string& family : kFamilies)
    EXPECT_THAT(Read(GoldenConfig(family))->unknown, testing::IsEmpty());
}

TEST(HfConfig, BothFormsOfRotarySettingsAreOne) {
  json old = GoldenConfig("llama");
  json section = old["rope_parameters"];
  old.erase("rope_parameters");
  old["rope_theta"] = section["rope_theta"];
  section.erase("rope_theta");
  old["rope_scaling"] = section;
  const auto a = Read(old), b = Read(GoldenConfig("llama"));
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  EXPECT_EQ(ConfigFromShape(a->shape).DebugString(), ConfigFromShape(b->shape).DebugString());
  old["rope_scaling"] = nullptr;
  EXPECT_EQ(Read(old)->shape.rotary.scaling, RotaryShape::Scaling::kNone);
  old["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  EXPECT_EQ(Read(old)->shape.rotary.factor, 2.5);
}

// Reading what was written gives the same model: every family, every switch it has.
TEST(HfConfig, WritingAndReadingIsIdentity) {
  for (const std::string& family : kFamilies) {
    ModelShape shape = Read(GoldenConfig(family))->shape;
    std::vector<ModelShape> variants = {shape};
    if (family != "gpt2") {
      shape.rotary.scaling = RotaryShape::Scaling::kYarn;
      shape.rotary.factor = 3;
      shape.rotary.beta_fast = 20;
      variants.push_back(shape);
      if (family != "llama") shape.sliding_window = 33;
      shape.tied_embeddings = !shape.tied_embeddings;
      shape.activation = kernels::Activation::kGeGlu;
      shape.head_dim = 10;
      variants.push_back(shape);
    } else {
      shape.activation = kernels::Activation::kGelu;
      shape.mlp_width = 4 * shape.width;
      shape.tied_embeddings = false;
      variants.push_back(shape);
    }
    for (const ModelShape& variant : variants) {
      const HfFamily* written = nullptr;
      const absl::StatusOr<std::string> text = WriteHfConfig(variant, {DType::kBF16, 3, -1}, &written);
      ASSERT_TRUE(text.ok()) << family << ": " << text.status();
      EXPECT_EQ(written->name, family);
      const absl::StatusOr<HfConfig> read = ReadHfConfig(*text, "again");
      ASSERT_TRUE(read.ok()) << read.status();
      config::ModelConfig a = ConfigFromShape(variant), b = ConfigFromShape(read->shape);
      a.clear_scale_residual_init();
      b.clear_scale_residual_init();
      EXPECT_EQ(a.DebugString(), b.DebugString());
      const json object = json::parse(*text);
      EXPECT_EQ(object["torch_dtype"], "bfloat16");
      EXPECT_EQ(object["bos_token_id"], 3);
      EXPECT_TRUE(object["eos_token_id"].is_null());
    }
  }
}

TEST(HfConfig, ACustomModelBecomesTheFirstFamilyThatHasItsSwitches) {
  const auto family_of = [](ModelShape shape) {
    shape.family = "custom";
    const HfFamily* family = nullptr;
    const absl::StatusOr<std::string> text = WriteHfConfig(shape, {}, &family);
    return text.ok() ? std::string(family->name) : std::string(text.status().message());
  };
  for (const char* family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"}) {
    EXPECT_EQ(family_of(Read(GoldenConfig(family))->shape), family);
  }
  ModelShape shape = Read(GoldenConfig("llama"))->shape;
  shape.logit_soft_cap = 30;
  const std::string message = family_of(shape);
  EXPECT_THAT(message, HasSubstr("logit_soft_cap"));
  for (const char* family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"})
    EXPECT_THAT(message, HasSubstr(family));
  shape = Read(GoldenConfig("llama"))->shape;
  shape.qk_norm = true;
  const HfFamily* family = nullptr;
  EXPECT_THAT(WriteHfConfig(shape, {}, &family).status().message(), HasSubstr("qk_norm"));
  shape.qk_norm = false;
  shape.scalar_head = true;
  EXPECT_THAT(WriteHfConfig(shape, {}, &family).status().message(), HasSubstr("score.weight"));
}

TEST(HfConfig, WhatCannotBeComputedIsRefusedByName) {
  EXPECT_THAT(Refusal("llama", "model_type", "gemma"), HasSubstr("model_type: \"gemma\""));
  EXPECT_THAT(Refusal("gpt2", "scale_attn_by_inverse_layer_idx", true),
              HasSubstr("scale_attn_by_inverse_layer_idx"));
  EXPECT_THAT(Refusal("gpt2", "scale_attn_weights", false), HasSubstr("scale_attn_weights"));
  EXPECT_THAT(Refusal("gpt2", "add_cross_attention", true), HasSubstr("add_cross_attention"));
  EXPECT_THAT(Refusal("gpt2", "activation_function", "relu"), HasSubstr("activation_function: \"relu\""));
  EXPECT_THAT(Refusal("llama", "hidden_act", "gelu"), HasSubstr("hidden_act"));
  EXPECT_THAT(Refusal("llama", "partial_rotary_factor", 0.5), HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(Refusal("llama", "quantization_config", {{"bits", 4}}), HasSubstr("quantization_config"));
  EXPECT_THAT(Refusal("llama", "architectures", {"LlamaForSequenceClassification"}),
              HasSubstr("architectures"));
  EXPECT_THAT(Refusal("llama", "hidden_size", nullptr), HasSubstr("hidden_size"));
  EXPECT_THAT(Refusal("llama", "hidden_size", "24"), HasSubstr("hidden_size: \"24\""));
  EXPECT_THAT(Refusal("llama", "hidden_size", 24.5), HasSubstr("hidden_size: 24.5"));
  EXPECT_THAT(Refusal("llama", "num_key_value_heads", 3), HasSubstr("kv_heads: 3"));
  EXPECT_THAT(Refusal("llama", "head_dim", 7), HasSubstr("head_dim: 7"));
  EXPECT_THAT(Refusal("llama", "vocab_size", -1), HasSubstr("-1"));
  EXPECT_THAT(Refusal("llama", "num_hidden_layers", 1e18), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(Refusal("llama", "num_hidden_layers", int64_t{1} << 40), HasSubstr("1099511627776"));
  EXPECT_THAT(Refusal("llama", "tie_word_embeddings", "yes"), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(std::string(ReadHfConfig("[1]", "x.json").status().message()), HasSubstr("x.json"));
  EXPECT_THAT(std::string(ReadHfConfig("{", "x.json").status().message()), HasSubstr("x.json:1:2"));
}

TEST(HfConfig, RotarySettingsThatAreNotUnderstoodAreRefusedByName) {
  EXPECT_EQ(RotaryRefusal({{"rope_type", "default"}, {"rope_theta", 5.0}}), "");
  EXPECT_THAT(RotaryRefusal({{"rope_type", "dynamic"}, {"factor", 2.0}}),
              HasSubstr("rope_parameters.rope_type: \"dynamic\""));
  EXPECT_THAT(RotaryRefusal({{"rope_type", "longrope"}, {"factor", 2.0}}), HasSubstr("longrope"));
  EXPECT_THAT(RotaryRefusal({{"rope_type", "linear"}}), HasSubstr("rope_parameters.factor"));
  EXPECT_THAT(RotaryRefusal({{"rope_type", "linear"}, {"factor", 0.5}}), HasSubstr("below 1"));
  EXPECT_THAT(RotaryRefusal({{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}}),
              HasSubstr("high_freq_factor"));
  EXPECT_THAT(RotaryRefusal({{"rope_type", "default"}, {"mrope_section", {1, 2}}}),
              HasSubstr("mrope_section"));
  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  EXPECT_EQ(RotaryRefusal(yarn), "");
  json tempered = yarn;
  tempered["attention_factor"] = 0.1 * std::log(4.0) + 1;
  EXPECT_EQ(RotaryRefusal(tempered), "");
  tempered["attention_factor"] = 1.5;
  EXPECT_THAT(RotaryRefusal(tempered), HasSubstr("attention_factor"));
  json scaled = yarn;
  scaled["mscale"] = 1.0;
  scaled["mscale_all_dim"] = 1.0;
  EXPECT_THAT(RotaryRefusal(scaled), HasSubstr("mscale"));
  json fractional = yarn;
  fractional["truncate"] = false;
  EXPECT_THAT(RotaryRefusal(fractional), HasSubstr("truncate"));
}

TEST(HfConfig, SlidingWindowsCountOnlyWhereTheyAreUsed) {
  json config = GoldenConfig("qwen2");
  config.erase("layer_types");
  config["sliding_window"] = 9;
  config["max_window_layers"] = 0;
  config["use_sliding_window"] = false;
  EXPECT_EQ(Read(config)->shape.sliding_window, 0);
  config["use_sliding_window"] = true;
  EXPECT_EQ(Read(config)->shape.sliding_window, 9);
  config["max_window_layers"] = 3;
  EXPECT_EQ(Read(config)->shape.sliding_window, 0);
  config["max_window_layers"] = 1;
  EXPECT_THAT(Read(config).status().message(), HasSubstr("max_window_layers"));
  config["layer_types"] = {"sliding_attention", "sliding_attention", "sliding_attention"};
  EXPECT_EQ(Read(config)->shape.sliding_window, 9);
  config["layer_types"][1] = "full_attention";
  EXPECT_THAT(Read(config).status().message(), HasSubstr("layer_types"));
  json mistral = GoldenConfig("mistral");
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(Read(mistral)->shape.sliding_window, 0);
  mistral.erase("sliding_window");
  EXPECT_EQ(Read(mistral)->shape.sliding_window, 4096);
}

TEST(HfConfig, UnknownSettingsAreListed) {
  json config = GoldenConfig("llama");
  config["some_new_trick"] = 3;
  const absl::StatusOr<HfConfig> read = Read(config);
  ASSERT_TRUE(read.ok());
  EXPECT_THAT(read->unknown, testing::ElementsAre("some_new_trick"));
}

// transformers' own frequencies, in float32, for every kind of scaling.
TEST(HfConfig, RotaryTablesEqualTransformers) {
  for (const json& entry : json::parse(ReadFile(GoldenDirectory("rotary.json")))) {
    const absl::StatusOr<HfConfig> read = Read(entry["config"]);
    ASSERT_TRUE(read.ok()) << read.status();
    constexpr int64_t kPositions = 9;
    const int64_t half = read->shape.head_dim / 2;
    std::vector<float> cosine(kPositions * half), sine(kPositions * half);
    FillRotaryTables(read->shape.rotary, read->shape.head_dim, kPositions, cosine.data(), sine.data());
    ASSERT_EQ(entry["inv_freq"].size(), static_cast<size_t>(half));
    for (int64_t p = 0; p < kPositions; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = p * entry["inv_freq"][i].get<double>(), scaling = entry["scaling"];
        ASSERT_NEAR(cosine[p * half + i], scaling * std::cos(angle), 4e-6)
            << entry["config"]["rope_parameters"];
        ASSERT_NEAR(sine[p * half + i], scaling * std::sin(angle), 4e-6)
            << entry["config"]["rope_parameters"];
      }
    }
  }
}

// The published models' YAML files, through the shape, are config.json files that read as the same shape.
TEST(ShapeConfig, ModelFilesMakeTheFamiliesTheyName) {
  for (const char* name : {"gpt2_124m", "gpt2_1558m", "llama3_1b", "llama3_8b", "qwen2_0_5b", "qwen3_0_6b"}) {
    const std::string text =
        absl::StrCat("data: {sequence_length: 64}\nmodel: {include: " TANREN_SOURCE_DIR "/configs/models/",
                     name, ".yaml}\n");
    const auto config = config::LoadConfigText(text, "test.yaml");
    ASSERT_TRUE(config.ok()) << config.status();
    const absl::StatusOr<ModelShape> shape = ShapeFromConfig(config->model(), 0);
    ASSERT_TRUE(shape.ok()) << shape.status();
    EXPECT_EQ(ShapeFromConfig(ConfigFromShape(*shape), 0)->head_dim, shape->head_dim);
    EXPECT_EQ(ConfigFromShape(*ShapeFromConfig(ConfigFromShape(*shape), 0)).DebugString(),
              ConfigFromShape(*shape).DebugString());
    const HfFamily* family = nullptr;
    EXPECT_TRUE(WriteHfConfig(*shape, {}, &family).ok())
        << name << WriteHfConfig(*shape, {}, &family).status();
  }
}

TEST(ShapeConfig, TheTokenizerFillsAnEmptyVocabularyAndNeverExceedsIt) {
  config::ModelConfig config;
  config.set_layers(1);
  config.set_width(12);
  config.set_heads(3);
  EXPECT_EQ(ShapeFromConfig(config, 77)->vocab_size, 77);
  EXPECT_EQ(ShapeFromConfig(config, 77)->head_dim, 4);
  EXPECT_EQ(ShapeFromConfig(config, 77)->mlp_width, 48);
  EXPECT_EQ(ShapeFromConfig(config, 77)->kv_heads, 3);
  EXPECT_THAT(ShapeFromConfig(config, 0).status().message(), HasSubstr("model.vocab_size"));
  config.set_vocab_size(80);
  EXPECT_EQ(ShapeFromConfig(config, 77)->vocab_size, 80);
  EXPECT_THAT(ShapeFromConfig(config, 81).status().message(), HasSubstr("81"));
  config.set_heads(5);
  EXPECT_THAT(ShapeFromConfig(config, 77).status().message(), HasSubstr("model.width: 12"));
}

}  // namespace
}  // namespace tanren
