#include <google/protobuf/util/message_differencer.h>

#include <nlohmann/json.hpp>

#include "core/base/status.h"
#include "core/hugging_face/config.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"

namespace tanren {
namespace {

using kernels::Activation;
// Keys stay in the order in which they are set.
using Json = nlohmann::ordered_json;

Json IdOrNull(int64_t id) { return id < 0 ? Json(nullptr) : Json(id); }

// 1e-05 rather than the float's digits in double.
double Epsilon(const ModelShape& shape) { return ConfigFromShape(shape).norm_epsilon(); }

const char* ActivationName(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_new";
    case Activation::kSwiGlu:
      return "silu";
    case Activation::kGeGlu:
      return "gelu_pytorch_tanh";
  }
  return "";
}

Json Scaling(const RotaryShape& rotary) {
  Json scaling;
  switch (rotary.scaling) {
    case RotaryShape::Scaling::kNone:
      return nullptr;
    case RotaryShape::Scaling::kLinear:
      scaling["rope_type"] = "linear";
      break;
    case RotaryShape::Scaling::kLlama3:
      scaling["rope_type"] = "llama3";
      break;
    case RotaryShape::Scaling::kYarn:
      scaling["rope_type"] = "yarn";
      break;
  }
  scaling["factor"] = rotary.factor;
  if (rotary.scaling == RotaryShape::Scaling::kLinear) return scaling;
  scaling["original_max_position_embeddings"] = rotary.original_context_length;
  if (rotary.scaling == RotaryShape::Scaling::kLlama3) {
    scaling["low_freq_factor"] = rotary.low_frequency_factor;
    scaling["high_freq_factor"] = rotary.high_frequency_factor;
  } else {
    scaling["beta_fast"] = rotary.beta_fast;
    scaling["beta_slow"] = rotary.beta_slow;
  }
  return scaling;
}

void WriteGpt2(const ModelShape& shape, Json* out) {
  Json& config = *out;
  config["activation_function"] = ActivationName(shape.activation);
  config["n_positions"] = shape.context_length;
  config["n_embd"] = shape.width;
  config["n_layer"] = shape.layers;
  config["n_head"] = shape.heads;
  config["n_inner"] = shape.mlp_width == 4 * shape.width ? Json(nullptr) : Json(shape.mlp_width);
  config["layer_norm_epsilon"] = Epsilon(shape);
  // Tanren trains without dropout; a fine-tuning that reads this should start from the same.
  for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) config[key] = 0.0;
}

void WriteLlama(const std::string& family, const ModelShape& shape, Json* out) {
  Json& config = *out;
  config["hidden_act"] = ActivationName(shape.activation);
  config["max_position_embeddings"] = shape.context_length;
  config["hidden_size"] = shape.width;
  config["intermediate_size"] = shape.mlp_width;
  config["num_hidden_layers"] = shape.layers;
  config["num_attention_heads"] = shape.heads;
  config["num_key_value_heads"] = shape.kv_heads;
  config["head_dim"] = shape.head_dim;
  config["rms_norm_eps"] = Epsilon(shape);
  config["rope_theta"] = shape.rotary.base;
  config["rope_scaling"] = Scaling(shape.rotary);
  config["attention_dropout"] = 0.0;
  if (family == "llama" || family == "qwen3") config["attention_bias"] = shape.qkv_bias;
  if (family == "llama") config["mlp_bias"] = shape.mlp_bias;
  const Json window = shape.sliding_window > 0 ? Json(shape.sliding_window) : Json(nullptr);
  if (family == "mistral") config["sliding_window"] = window;
  if (family == "qwen2" || family == "qwen3") {
    config["use_sliding_window"] = shape.sliding_window > 0;
    config["sliding_window"] = window;
    config["max_window_layers"] = shape.sliding_window > 0 ? 0 : shape.layers;
  }
}

std::string ConfigText(const HfFamily& family, const ModelShape& shape, const HfConfigOptions& options) {
  Json config;
  config["architectures"] = {family.architecture};
  config["model_type"] = family.name;
  if (std::string_view(family.name) == "gpt2") {
    WriteGpt2(shape, &config);
  } else {
    WriteLlama(family.name, shape, &config);
  }
  config["vocab_size"] = shape.vocab_size;
  config["initializer_range"] = shape.init_std;
  config["tie_word_embeddings"] = shape.tied_embeddings;
  config["bos_token_id"] = IdOrNull(options.bos);
  config["eos_token_id"] = IdOrNull(options.eos);
  config["torch_dtype"] = NameOf(options.dtype);
  config["use_cache"] = true;
  return config.dump(2) + "\n";
}

// What computes differently between two shapes, by the keys of the model's config; empty when nothing does.
std::string Differences(ModelShape a, ModelShape b) {
  for (ModelShape* shape : {&a, &b}) {
    shape->family = "custom";
    shape->scale_residual_init = false;  // decides how random weights start, and nothing after that
    RotaryShape& rotary = shape->rotary;
    RotaryShape used;
    used.base = rotary.base;
    used.scaling = rotary.scaling;
    if (used.scaling != RotaryShape::Scaling::kNone) used.factor = rotary.factor;
    if (used.scaling == RotaryShape::Scaling::kLlama3) {
      used.low_frequency_factor = rotary.low_frequency_factor;
      used.high_frequency_factor = rotary.high_frequency_factor;
    }
    if (used.scaling == RotaryShape::Scaling::kYarn) {
      used.beta_fast = rotary.beta_fast;
      used.beta_slow = rotary.beta_slow;
    }
    if (used.scaling == RotaryShape::Scaling::kLlama3 || used.scaling == RotaryShape::Scaling::kYarn) {
      used.original_context_length = rotary.original_context_length;
    }
    rotary = used;
  }
  google::protobuf::util::MessageDifferencer differencer;
  std::string report;
  differencer.ReportDifferencesToString(&report);
  if (differencer.Compare(ConfigFromShape(a), ConfigFromShape(b))) return "";
  for (char& c : report) {
    if (c == '\n') c = ';';
  }
  return report;
}

// The text, when reading it back gives the same model.
absl::StatusOr<std::string> TryFamily(const HfFamily& family, const ModelShape& shape,
                                      const HfConfigOptions& options) {
  std::vector<std::string> without_place;
  MapParameters(family, shape, &without_place);
  if (!without_place.empty()) {
    return InvalidInput("family %s has no tensor for parameter %s", family.name, without_place[0]);
  }
  std::string text = ConfigText(family, shape, options);
  absl::StatusOr<HfConfig> read = ReadHfConfig(text, "config.json");
  if (!read.ok()) return At(absl::StrCat("family ", family.name, " lacks this model"), read.status());
  const std::string differences = Differences(shape, read->shape);
  if (!differences.empty()) {
    return InvalidInput("family %s lacks settings of this model (the model's -> the family's): %s",
                        family.name, differences);
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> WriteHfConfig(const ModelShape& shape, const HfConfigOptions& options,
                                          const HfFamily** family) {
  TANREN_RETURN_IF_ERROR(CheckShape(shape));
  const HfFamily* named = FindHfFamily(shape.family);
  if (named != nullptr) {
    *family = named;
    return TryFamily(*named, shape, options);
  }
  std::string reasons;
  for (const HfFamily& candidate : HfFamilies()) {
    absl::StatusOr<std::string> text = TryFamily(candidate, shape, options);
    *family = &candidate;
    if (text.ok()) return text;
    absl::StrAppend(&reasons, "\n  ", text.status().message());
  }
  return InvalidInput("no family of Hugging Face's has all switches of this model; what each lacks:%s",
                      reasons);
}

}  // namespace tanren
