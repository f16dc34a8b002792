#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/hugging_face/config.h"
#include "core/hugging_face/settings.h"
#include "core/model_config/shape_config.h"
#include "core/tokenizer/json_file.h"

namespace tanren {
namespace {

using kernels::Activation;
using kernels::NormKind;
using nlohmann::json;

constexpr JsonLimits kLimits{int64_t{4} << 20, 200'000, 32};

void ReadCommon(Settings& settings, ModelShape* shape) {
  shape->vocab_size = settings.Integer("vocab_size");
  shape->init_std = settings.Number("initializer_range", 0.02);
  shape->scale_residual_init = false;
  if (settings.Has("quantization_config")) {
    settings.Refuse("quantization_config", "is a quantised model; import its float weights");
  }
  settings.Require("add_cross_attention", false, "adds cross-attention, which Tanren's decoder has not");
  settings.Require("is_encoder_decoder", false, "is an encoder-decoder, which Tanren has not");
  settings.Neutral({"model_type",
                    "architectures",
                    "torch_dtype",
                    "dtype",
                    "transformers_version",
                    "use_cache",
                    "bos_token_id",
                    "eos_token_id",
                    "pad_token_id",
                    "attention_dropout",
                    "_name_or_path",
                    "is_decoder",
                    "pretraining_tp",
                    "return_dict",
                    "output_attentions",
                    "output_hidden_states",
                    "id2label",
                    "label2id",
                    "chunk_size_feed_forward",
                    "problem_type",
                    "_attn_implementation",
                    "attn_implementation",
                    "task_specific_params"});
}

void ReadGpt2(Settings& settings, ModelShape* shape) {
  shape->context_length = settings.Integer("n_positions", 1024);
  shape->width = settings.Integer("n_embd");
  shape->layers = settings.Integer("n_layer");
  shape->heads = shape->kv_heads = settings.Integer("n_head");
  if (shape->heads > 0 && shape->width % shape->heads != 0) {
    settings.Refuse("n_embd", absl::StrCat("is not a multiple of n_head ", shape->heads));
  }
  shape->head_dim = shape->heads > 0 ? shape->width / shape->heads : 0;
  shape->mlp_width = settings.Integer("n_inner", 4 * shape->width);
  shape->norm = NormKind::kLayer;
  shape->norm_epsilon = static_cast<float>(settings.Number("layer_norm_epsilon", 1e-5));
  shape->learned_positions = true;
  shape->qkv_bias = shape->attention_output_bias = shape->mlp_bias = true;
  shape->tied_embeddings = settings.Flag("tie_word_embeddings", true);
  shape->scale_residual_init = true;
  const std::string activation = settings.Text("activation_function", "gelu_new");
  shape->activation = activation == "gelu" ? Activation::kGelu : Activation::kGeluTanh;
  if (activation != "gelu" && activation != "gelu_new" && activation != "gelu_pytorch_tanh") {
    settings.Refuse("activation_function", "is not available; gelu, gelu_new and gelu_pytorch_tanh are");
  }
  settings.Require("scale_attn_weights", true, "leaves attention scores unscaled, which Tanren does not");
  settings.Require("scale_attn_by_inverse_layer_idx", false, "scales scores by layer, which Tanren does not");
  settings.Neutral({"resid_pdrop", "embd_pdrop", "attn_pdrop", "reorder_and_upcast_attn", "n_ctx",
                    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
                    "summary_first_dropout"});
}

double YarnAttentionFactor(double scale) { return scale <= 1 ? 1.0 : 0.1 * std::log(scale) + 1; }

// The tempering of YaRN is a function of its factor in the decoder; published settings that say otherwise are
// refused.
void CheckYarn(Settings& rope, double factor) {
  const double ours = YarnAttentionFactor(factor);
  double theirs = rope.Number("attention_factor", ours);
  const double mscale = rope.Number("mscale", 0), mscale_all = rope.Number("mscale_all_dim", 0);
  if (!rope.Has("attention_factor") && mscale != 0 && mscale_all != 0 && factor > 1) {
    theirs = (0.1 * mscale * std::log(factor) + 1) / (0.1 * mscale_all * std::log(factor) + 1);
  }
  if (std::abs(theirs - ours) > 1e-6 * ours) {
    const char* key = rope.Has("attention_factor") ? "attention_factor" : "mscale";
    rope.Refuse(key, absl::StrCat("makes an attention factor of ", theirs,
                                  "; only 0.1 ln(factor) + 1 = ", ours, " is available"));
  }
  rope.Require("truncate", true, "leaves yarn's range of dimensions fractional, which is not available");
}

void ReadScaling(Settings& rope, const std::string& kind, int64_t context_length, RotaryShape* rotary) {
  if (kind == "linear") {
    rotary->scaling = RotaryShape::Scaling::kLinear;
  } else if (kind == "llama3") {
    rotary->scaling = RotaryShape::Scaling::kLlama3;
  } else if (kind == "yarn") {
    rotary->scaling = RotaryShape::Scaling::kYarn;
  } else {
    rope.Refuse(rope.Has("rope_type") ? "rope_type" : "type",
                "is not available; default, linear, llama3 and yarn are");
    return;
  }
  if (kind != "linear") {
    rotary->original_context_length = rope.Integer("original_max_position_embeddings", context_length);
  }
  if (kind == "yarn" && !rope.Has("factor") && rotary->original_context_length > 0) {
    rotary->factor =
        static_cast<double>(context_length) / static_cast<double>(rotary->original_context_length);
  } else {
    rotary->factor = rope.Number("factor");
  }
  if (!(rotary->factor >= 1)) rope.Refuse("factor", "is below 1");
  if (kind == "llama3") {
    rotary->low_frequency_factor = rope.Number("low_freq_factor");
    rotary->high_frequency_factor = rope.Number("high_freq_factor");
  }
  if (kind == "yarn") {
    rotary->beta_fast = rope.Number("beta_fast", 32);
    rotary->beta_slow = rope.Number("beta_slow", 1);
    CheckYarn(rope, rotary->factor);
  }
  // transformers reads these for other kinds only and warns.
  rope.Neutral({"original_max_position_embeddings"});
}

void ReadRotary(Settings& settings, const std::string& place, ModelShape* shape) {
  const bool nested = settings.Has("rope_parameters");
  const std::string key = nested ? "rope_parameters" : "rope_scaling";
  const double theta = settings.Number("rope_theta", 10000);
  shape->rotary.base = theta;
  if (settings.Number("partial_rotary_factor", 1) != 1) {
    settings.Refuse("partial_rotary_factor", "turns a part of each head only, which is not available");
  }
  if (settings.Has("original_max_position_embeddings")) {
    settings.Refuse("original_max_position_embeddings", absl::StrCat("is read inside ", key, " only"));
  }
  const json* section = settings.Value(key);
  settings.Neutral({"rope_scaling"});
  if (section == nullptr) return;
  if (!section->is_object()) {
    settings.Refuse(key, "is not an object");
    return;
  }
  Settings rope(*section, place, key + ".");
  shape->rotary.base = rope.Number("rope_theta", theta);
  if (rope.Number("partial_rotary_factor", 1) != 1) {
    rope.Refuse("partial_rotary_factor", "turns a part of each head only, which is not available");
  }
  const std::string kind = rope.Text("rope_type", rope.Text("type", "default"));
  if (kind != "default") {
    ReadScaling(rope, kind, shape->context_length, &shape->rotary);
  } else {
    rope.Neutral({"factor", "original_max_position_embeddings"});
  }
  // A setting of positions that is not understood would be silently wrong.
  for (const std::string& unknown : rope.errors().empty() ? rope.Unknown() : std::vector<std::string>()) {
    rope.AddErrors({absl::StrCat(place, ": ", unknown, ": is not a setting that Tanren knows")});
  }
  settings.AddErrors(rope.errors());
}

// How many of the layers slide, by the two ways of saying it.
int64_t SlidingLayers(Settings& settings, const ModelShape& shape) {
  const json* types = settings.Value("layer_types");
  if (types == nullptr) {
    return shape.layers -
           std::min(shape.layers, std::max<int64_t>(0, settings.Integer("max_window_layers", 28)));
  }
  settings.Neutral({"max_window_layers"});
  int64_t sliding = 0, full = 0;
  if (types->is_array()) {
    for (const json& type : *types) {
      sliding += type == "sliding_attention";
      full += type == "full_attention";
    }
  }
  if (sliding + full != shape.layers || !types->is_array()) {
    settings.Refuse("layer_types",
                    absl::StrCat("does not name full_attention or sliding_attention for each of ",
                                 shape.layers, " layers"));
  }
  return sliding;
}

void ReadSlidingWindow(Settings& settings, const std::string& family, ModelShape* shape) {
  if (family == "llama") return;
  const bool mistral = family == "mistral";
  const bool uses = mistral || settings.Flag("use_sliding_window", false);
  // A null is no window; only an absent key has the default.
  const int64_t window = settings.Integer("sliding_window", settings.IsAbsent("sliding_window") ? 4096 : 0);
  const int64_t layers = mistral ? shape->layers : SlidingLayers(settings, *shape);
  if (mistral && settings.Has("layer_types"))
    settings.Refuse("layer_types", "is not a setting of this family");
  if (!uses || layers == 0) return;
  if (layers != shape->layers) {
    settings.Refuse(settings.Has("layer_types") ? "layer_types" : "max_window_layers",
                    "gives a sliding window to some layers only, which is not available");
  }
  shape->sliding_window = window;
}

void ReadLlama(Settings& settings, const std::string& place, const std::string& family, ModelShape* shape) {
  shape->context_length = settings.Integer("max_position_embeddings", family == "llama"     ? 2048
                                                                      : family == "mistral" ? 131072
                                                                                            : 32768);
  shape->width = settings.Integer("hidden_size");
  shape->layers = settings.Integer("num_hidden_layers");
  shape->heads = settings.Integer("num_attention_heads");
  shape->kv_heads = settings.Integer("num_key_value_heads", shape->heads);
  shape->mlp_width = settings.Integer("intermediate_size");
  const bool has_head_dim = settings.Has("head_dim");
  if (!has_head_dim && family != "qwen3" && shape->heads > 0 && shape->width % shape->heads != 0) {
    settings.Refuse("hidden_size", absl::StrCat("is not a multiple of num_attention_heads ", shape->heads));
  }
  const int64_t derived = shape->heads > 0 ? shape->width / shape->heads : 0;
  shape->head_dim = has_head_dim ? settings.Integer("head_dim") : (family == "qwen3" ? 128 : derived);
  shape->norm = NormKind::kRms;
  shape->norm_epsilon = static_cast<float>(settings.Number("rms_norm_eps", 1e-6));
  shape->tied_embeddings = settings.Flag("tie_word_embeddings", false);
  const std::string activation = settings.Text("hidden_act", "silu");
  shape->activation =
      activation == "silu" || activation == "swish" ? Activation::kSwiGlu : Activation::kGeGlu;
  if (shape->activation == Activation::kGeGlu && activation != "gelu_new" &&
      activation != "gelu_pytorch_tanh") {
    settings.Refuse("hidden_act", "is not available; silu, gelu_new and gelu_pytorch_tanh are");
  }
  shape->qk_norm = family == "qwen3";
  shape->qkv_bias = family == "qwen2";
  if (family == "llama" || family == "qwen3") {
    shape->qkv_bias = shape->attention_output_bias = settings.Flag("attention_bias", false);
  }
  if (family == "llama") shape->mlp_bias = settings.Flag("mlp_bias", false);
  ReadRotary(settings, place, shape);
  ReadSlidingWindow(settings, family, shape);
}

void CheckArchitecture(Settings& settings, const HfFamily& family) {
  const json* architectures = settings.Value("architectures");
  if (architectures == nullptr) return;
  for (const json& name : *architectures) {
    if (name == family.architecture || name == family.base_architecture) return;
  }
  settings.Refuse("architectures", absl::StrCat("is not ", family.architecture, " or ",
                                                family.base_architecture, "; only those heads are imported"));
}

// A vocabulary of 2^31 would overflow nothing here, but nothing published comes near these.
void CheckSizes(Settings& settings, const ModelShape& shape, const std::string& place) {
  constexpr int64_t kLargest = int64_t{1} << 24;
  for (int64_t size : {shape.vocab_size, shape.context_length, shape.layers, shape.width, shape.heads,
                       shape.kv_heads, shape.head_dim, shape.mlp_width, shape.sliding_window}) {
    if (size < 0 || size > kLargest) {
      settings.AddErrors({absl::StrCat(place, ": a size of ", size, " is outside [0, ", kLargest, "]")});
      return;
    }
  }
  const absl::Status status = CheckShape(shape);
  if (!status.ok()) settings.AddErrors({absl::StrCat(place, ": ", status.message())});
}

}  // namespace

absl::StatusOr<HfConfig> ReadHfConfig(std::string_view text, const std::string& place) {
  TANREN_ASSIGN_OR_RETURN(const json object, ParseJson(text, place, kLimits));
  if (!object.is_object()) return InvalidInput("%s: not an object of settings", place);
  Settings settings(object, place, "");
  const std::string type = settings.Text("model_type");
  HfConfig config;
  config.family = FindHfFamily(type);
  if (config.family == nullptr) {
    return InvalidInput("%s: model_type: \"%s\" is not a family that Tanren imports; these are: %s", place,
                        Escaped(type), HfFamilyNames());
  }
  config.shape.family = type;
  CheckArchitecture(settings, *config.family);
  ReadCommon(settings, &config.shape);
  if (type == "gpt2") {
    ReadGpt2(settings, &config.shape);
  } else {
    ReadLlama(settings, place, type, &config.shape);
  }
  if (settings.errors().empty()) CheckSizes(settings, config.shape, place);
  if (!settings.errors().empty()) return absl::InvalidArgumentError(absl::StrJoin(settings.errors(), "\n"));
  config.unknown = settings.Unknown();
  return config;
}

}  // namespace tanren
