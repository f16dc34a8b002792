#include "core/model/shape.h"

#include <algorithm>

#include "core/base/round.h"
#include "core/base/status.h"

namespace tanren {
namespace {

// Rows of a vocabulary shard are rounded up to this, so that every rank has the same shape and rows stay
// aligned. Padding never reaches a checkpoint.
constexpr int64_t kVocabularyMultiple = 16;

}  // namespace

absl::Status CheckTensorParallel(const ModelShape& shape, int tensor_size) {
  const int64_t size = tensor_size;
  if (shape.heads % size != 0) {
    return InvalidInput(
        "parallel.tensor: %d ranks cannot share %d attention heads evenly; choose a divisor of %d", size,
        shape.heads, shape.heads);
  }
  if (shape.kv_heads % size != 0 && size % shape.kv_heads != 0) {
    return InvalidInput(
        "parallel.tensor: %d ranks and %d key/value heads: one must divide the other; choose another tensor "
        "size",
        size, shape.kv_heads);
  }
  if (shape.mlp_width % size != 0) {
    return InvalidInput("parallel.tensor: %d ranks cannot share a feed-forward width of %d evenly", size,
                        shape.mlp_width);
  }
  return absl::OkStatus();
}

LocalShape MakeLocalShape(const ModelShape& shape, int tensor_rank, int tensor_size) {
  LocalShape local;
  local.heads = shape.heads / tensor_size;
  local.kv_heads = std::max<int64_t>(1, shape.kv_heads / tensor_size);
  local.qkv_width = (local.heads + 2 * local.kv_heads) * shape.head_dim;
  local.attention_width = local.heads * shape.head_dim;
  local.mlp_width = shape.mlp_width / tensor_size;
  local.mlp_in_width = shape.gated() ? 2 * local.mlp_width : local.mlp_width;
  local.vocab = RoundUp((shape.vocab_size + tensor_size - 1) / tensor_size, kVocabularyMultiple);
  local.vocab_begin = std::min(local.vocab * tensor_rank, shape.vocab_size);
  local.vocab_valid = std::min(local.vocab, shape.vocab_size - local.vocab_begin);
  return local;
}

int64_t MatmulParameters(const ModelShape& shape) {
  const int64_t attention = shape.width * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads);
  const int64_t mlp = shape.width * shape.mlp_width * (shape.gated() ? 3 : 2);
  const int64_t head = shape.vocabulary_head ? shape.vocab_size * shape.width : 0;
  return shape.layers * (attention + mlp) + head;
}

double MeanKeys(const ModelShape& shape, double length) {
  const double window = static_cast<double>(shape.sliding_window);
  const bool cut = window > 0 && window < length;
  return cut ? window - window * window / (2 * length) : length / 2;
}

double ForwardFlops(const ModelShape& shape, double keys) {
  const double attention = 4.0 * static_cast<double>(shape.layers * shape.heads * shape.head_dim) * keys;
  return 2.0 * static_cast<double>(MatmulParameters(shape)) + attention;
}

}  // namespace tanren
