#include "core/model_config/shape_config.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "google/protobuf/text_format.h"

namespace tanren {
namespace {

using config::ModelConfig;
using config::RotaryScaling;
using kernels::Activation;
using kernels::NormKind;

// The double of the shortest decimal that is this float: 1e-6f goes into a config as 1e-6.
double Shortest(float value) {
  char text[32];
  const std::to_chars_result end = std::to_chars(text, text + sizeof(text), value);
  double shortest = value;
  std::from_chars(text, end.ptr, shortest);
  return shortest;
}

Activation ActivationOf(ModelConfig::Mlp mlp) {
  switch (mlp) {
    case ModelConfig::gelu:
      return Activation::kGelu;
    case ModelConfig::gelu_tanh:
      return Activation::kGeluTanh;
    case ModelConfig::swiglu:
      return Activation::kSwiGlu;
    case ModelConfig::geglu:
      return Activation::kGeGlu;
  }
  TANREN_CHECK_MSG(false, "mlp ", static_cast<int>(mlp));
  return Activation::kSwiGlu;
}

ModelConfig::Mlp MlpOf(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return ModelConfig::gelu;
    case Activation::kGeluTanh:
      return ModelConfig::gelu_tanh;
    case Activation::kSwiGlu:
      return ModelConfig::swiglu;
    case Activation::kGeGlu:
      return ModelConfig::geglu;
  }
  TANREN_CHECK_MSG(false, "activation ", static_cast<int>(activation));
  return ModelConfig::swiglu;
}

RotaryShape::Scaling ScalingOf(RotaryScaling::Kind kind) {
  switch (kind) {
    case RotaryScaling::none:
      return RotaryShape::Scaling::kNone;
    case RotaryScaling::linear:
      return RotaryShape::Scaling::kLinear;
    case RotaryScaling::llama3:
      return RotaryShape::Scaling::kLlama3;
    case RotaryScaling::yarn:
      return RotaryShape::Scaling::kYarn;
  }
  TANREN_CHECK_MSG(false, "rotary scaling ", static_cast<int>(kind));
  return RotaryShape::Scaling::kNone;
}

RotaryScaling::Kind KindOf(RotaryShape::Scaling scaling) {
  switch (scaling) {
    case RotaryShape::Scaling::kNone:
      return RotaryScaling::none;
    case RotaryShape::Scaling::kLinear:
      return RotaryScaling::linear;
    case RotaryShape::Scaling::kLlama3:
      return RotaryScaling::llama3;
    case RotaryShape::Scaling::kYarn:
      return RotaryScaling::yarn;
  }
  TANREN_CHECK_MSG(false, "rotary scaling ", static_cast<int>(scaling));
  return RotaryScaling::none;
}

RotaryShape RotaryFromConfig(const ModelConfig& config) {
  const RotaryScaling& scaling = config.rotary_scaling();
  RotaryShape rotary;
  rotary.base = config.rotary_base();
  rotary.scaling = ScalingOf(scaling.kind());
  rotary.factor = scaling.factor();
  rotary.original_context_length = scaling.original_context_length();
  rotary.low_frequency_factor = scaling.low_frequency_factor();
  rotary.high_frequency_factor = scaling.high_frequency_factor();
  rotary.beta_fast = scaling.beta_fast();
  rotary.beta_slow = scaling.beta_slow();
  return rotary;
}

void RotaryToConfig(const RotaryShape& rotary, ModelConfig* config) {
  config->set_rotary_base(rotary.base);
  RotaryScaling& scaling = *config->mutable_rotary_scaling();
  scaling.set_kind(KindOf(rotary.scaling));
  scaling.set_factor(rotary.factor);
  scaling.set_original_context_length(rotary.original_context_length);
  scaling.set_low_frequency_factor(rotary.low_frequency_factor);
  scaling.set_high_frequency_factor(rotary.high_frequency_factor);
  scaling.set_beta_fast(rotary.beta_fast);
  scaling.set_beta_slow(rotary.beta_slow);
}

int64_t OrElse(int64_t value, int64_t derived) { return value > 0 ? value : derived; }

}  // namespace

absl::Status CheckShape(const ModelShape& shape) {
  const struct {
    const char* key;
    int64_t value;
  } sizes[] = {{"vocab_size", shape.vocab_size}, {"context_length", shape.context_length},
               {"layers", shape.layers},         {"width", shape.width},
               {"heads", shape.heads},           {"kv_heads", shape.kv_heads},
               {"head_dim", shape.head_dim},     {"mlp_width", shape.mlp_width}};
  for (const auto& size : sizes) {
    if (size.value < 1) return InvalidInput("model.%s: %d; it must be at least 1", size.key, size.value);
  }
  if (shape.heads % shape.kv_heads != 0) {
    return InvalidInput("model.kv_heads: %d does not divide model.heads %d", shape.kv_heads, shape.heads);
  }
  if (!shape.learned_positions && shape.head_dim % 2 != 0) {
    return InvalidInput("model.head_dim: %d is odd; rotary position turns pairs, so make it even",
                        shape.head_dim);
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelShape> ShapeFromConfig(const ModelConfig& config, int64_t vocab_size) {
  ModelShape shape;
  shape.family = config.family();
  shape.vocab_size = OrElse(config.vocab_size(), vocab_size);
  shape.context_length = config.context_length();
  shape.layers = config.layers();
  shape.width = config.width();
  shape.heads = config.heads();
  shape.kv_heads = OrElse(config.kv_heads(), shape.heads);
  if (config.head_dim() <= 0 && shape.heads > 0 && shape.width % shape.heads != 0) {
    return InvalidInput(
        "model.width: %d is not a multiple of model.heads %d; change one, or set model.head_dim", shape.width,
        shape.heads);
  }
  shape.head_dim = OrElse(config.head_dim(), shape.heads > 0 ? shape.width / shape.heads : 0);
  shape.mlp_width = OrElse(config.mlp_width(), 4 * shape.width);
  shape.norm = config.norm() == ModelConfig::layer_norm ? NormKind::kLayer : NormKind::kRms;
  shape.norm_epsilon = static_cast<float>(config.norm_epsilon());
  shape.learned_positions = config.position() == ModelConfig::learned;
  if (!shape.learned_positions) shape.rotary = RotaryFromConfig(config);
  shape.activation = ActivationOf(config.mlp());
  shape.qkv_bias = config.qkv_bias();
  shape.attention_output_bias = config.attention_output_bias();
  shape.mlp_bias = config.mlp_bias();
  shape.qk_norm = config.qk_norm();
  shape.sliding_window = config.sliding_window();
  shape.tied_embeddings = config.tied_embeddings();
  shape.attention_soft_cap = static_cast<float>(config.attention_soft_cap());
  shape.logit_soft_cap = static_cast<float>(config.logit_soft_cap());
  shape.embedding_scale = static_cast<float>(config.embedding_scale());
  shape.init_std = config.init_std();
  shape.scale_residual_init = config.scale_residual_init();
  if (vocab_size > shape.vocab_size) {
    return InvalidInput("model.vocab_size: %d rows are fewer than the tokenizer's %d tokens; use %d, or 0",
                        shape.vocab_size, vocab_size, vocab_size);
  }
  TANREN_RETURN_IF_ERROR(CheckShape(shape));
  return shape;
}

ModelConfig ConfigFromShape(const ModelShape& shape) {
  ModelConfig config;
  config.set_family(shape.family);
  config.set_vocab_size(shape.vocab_size);
  config.set_context_length(shape.context_length);
  config.set_layers(shape.layers);
  config.set_width(shape.width);
  config.set_heads(shape.heads);
  config.set_kv_heads(shape.kv_heads);
  config.set_head_dim(shape.head_dim);
  config.set_mlp_width(shape.mlp_width);
  config.set_norm(shape.layer_norm() ? ModelConfig::layer_norm : ModelConfig::rms_norm);
  config.set_norm_epsilon(Shortest(shape.norm_epsilon));
  config.set_position(shape.learned_positions ? ModelConfig::learned : ModelConfig::rotary);
  if (!shape.learned_positions) RotaryToConfig(shape.rotary, &config);
  config.set_mlp(MlpOf(shape.activation));
  config.set_qkv_bias(shape.qkv_bias);
  config.set_attention_output_bias(shape.attention_output_bias);
  config.set_mlp_bias(shape.mlp_bias);
  config.set_qk_norm(shape.qk_norm);
  config.set_sliding_window(shape.sliding_window);
  config.set_tied_embeddings(shape.tied_embeddings);
  config.set_attention_soft_cap(Shortest(shape.attention_soft_cap));
  config.set_logit_soft_cap(Shortest(shape.logit_soft_cap));
  config.set_embedding_scale(Shortest(shape.embedding_scale));
  config.set_init_std(shape.init_std);
  config.set_scale_residual_init(shape.scale_residual_init);
  return config;
}

std::vector<ShapeDifference> ShapeDifferences(const ModelShape& own, const ModelShape& other) {
  const ModelConfig one = ConfigFromShape(own), two = ConfigFromShape(other);
  const google::protobuf::Descriptor& keys = *ModelConfig::descriptor();
  std::vector<ShapeDifference> differences;
  for (int i = 0; i < keys.field_count(); ++i) {
    const google::protobuf::FieldDescriptor* key = keys.field(i);
    constexpr std::array kNotCompared = {"family", "vocab_size", "context_length", "init_std",
                                         "scale_residual_init"};
    if (std::ranges::count(kNotCompared, key->name()) > 0) continue;
    const auto value = [&](const ModelConfig& config) {
      if (!config.GetReflection()->HasField(config, key)) return std::string("absent");
      std::string text;
      google::protobuf::TextFormat::Printer printer;
      printer.SetSingleLineMode(true);
      printer.PrintFieldValueToString(config, key, -1, &text);
      return text;
    };
    const std::string mine = value(one), its = value(two);
    if (mine != its) differences.push_back({key->name(), mine, its});
  }
  return differences;
}

}  // namespace tanren
