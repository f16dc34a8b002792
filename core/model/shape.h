// The decoder's shape: one decoder, every family a setting of these switches.
#ifndef TANREN_CORE_MODEL_SHAPE_H_
#define TANREN_CORE_MODEL_SHAPE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/activation.h"
#include "kernels/norm.h"

namespace tanren {

struct RotaryShape {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  double base = 10000;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  int64_t original_context_length = 8192;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double beta_fast = 32;
  double beta_slow = 1;
};

// All sizes resolved: none is zero except where zero means "absent".
struct ModelShape {
  std::string family = "custom";
  int64_t vocab_size = 0;
  int64_t context_length = 0;
  int64_t layers = 0;
  int64_t width = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t mlp_width = 0;
  kernels::NormKind norm = kernels::NormKind::kRms;
  float norm_epsilon = 1e-5f;
  bool learned_positions = false;  // else rotary
  RotaryShape rotary;
  kernels::Activation activation = kernels::Activation::kSwiGlu;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  int64_t sliding_window = 0;
  bool tied_embeddings = false;
  float attention_soft_cap = 0;
  float logit_soft_cap = 0;
  float embedding_scale = 1;
  double init_std = 0.02;
  bool scale_residual_init = true;

  // Which heads the model has beside the trunk.
  bool vocabulary_head = true;
  bool scalar_head = false;

  bool layer_norm() const { return norm == kernels::NormKind::kLayer; }
  bool gated() const { return kernels::IsGated(activation); }
};

// Sizes of one tensor rank's part.
struct LocalShape {
  int64_t heads = 0;            // query heads
  int64_t kv_heads = 0;         // key/value heads, at least one
  int64_t qkv_width = 0;        // (heads + 2 kv_heads) * head_dim
  int64_t attention_width = 0;  // heads * head_dim
  int64_t mlp_width = 0;
  int64_t mlp_in_width = 0;  // twice mlp_width when gated
  int64_t vocab = 0;         // rows of the embedding shard, padding included
  int64_t vocab_begin = 0;   // first id of the shard
  int64_t vocab_valid = 0;   // real ids of the shard
};

// Refuses a shape that `tensor_size` ranks cannot share, naming the sizes.
absl::Status CheckTensorParallel(const ModelShape& shape, int tensor_size);
LocalShape MakeLocalShape(const ModelShape& shape, int tensor_rank, int tensor_size);

// Matrix-product multiply-adds per token (the head counts, the embedding look-up does not).
int64_t MatmulParameters(const ModelShape& shape);

// Keys that a token sees on average in a causal sequence of `length` tokens: half of them, less where a
// window is shorter.
double MeanKeys(const ModelShape& shape, double length);
// Floating-point operations of one token's forward pass that sees `keys` keys: two a weight of a product, and
// attention. Training takes three times as many.
double ForwardFlops(const ModelShape& shape, double keys);

}  // namespace tanren

#endif  // TANREN_CORE_MODEL_SHAPE_H_
