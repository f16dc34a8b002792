#include <algorithm>

#include "core/base/status.h"
#include "core/model/decoder.h"
#include "core/model/decoder_parts.h"
#include "kernels/activation.h"
#include "kernels/embedding.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"

namespace tanren {
void Decoder::LayoutCache(Arena& arena, int64_t slots, int64_t max_tokens, KeyValueCache* cache) {
  cache->slots = slots;
  cache->max_tokens = max_tokens;
  cache->keys.clear();
  cache->values.clear();
  const int64_t count = slots * local_.kv_heads * max_tokens * shape_.head_dim;
  for (int64_t layer = 0; layer < shape_.layers; ++layer) {
    cache->keys.push_back(arena.Take("key-value cache", options_.dtype, count));
    cache->values.push_back(arena.Take("key-value cache", options_.dtype, count));
  }
}

void Decoder::LayoutGeneration(Arena& arena) {
  const int64_t rows = std::max(options_.decode_slots, options_.prefill_tokens);
  const auto take = [&](const char* label, int64_t columns) {
    return arena.Take(label, options_.dtype, rows * columns);
  };
  Generation& generation = *generation_;
  generation.inputs.Layout(arena, "generation", 3 * rows);
  generation.x = take("generation", shape_.width);
  generation.h = take("generation", shape_.width);
  generation.delta = take("generation", shape_.width);
  generation.qkv = take("generation", local_.qkv_width);
  generation.attended = take("generation", local_.attention_width);
  generation.up = take("generation", local_.mlp_in_width);
  generation.activated = take("generation", local_.mlp_width);
}

// The first step of a size makes scratch memory and plans, the second records, later ones launch the
// recording.
ConstBuffer Decoder::Step(int64_t rows, const int32_t* ids, const int32_t* slots, const int32_t* positions,
                          KeyValueCache& cache) {
  TANREN_CHECK(rows == options_.decode_slots || rows == options_.prefill_tokens);
  const Stream& stream = mesh_.stream;
  Generation& g = *generation_;
  int32_t* inputs = g.inputs.host();
  for (const int32_t* from : {ids, slots, positions}) inputs = std::copy_n(from, rows, inputs);
  g.inputs.ToDevice(stream, 3 * rows);
  Generation::Recorded& recorded = rows == options_.decode_slots ? g.decode : g.prefill;
  const bool records = kernels::Graph::CanRecord(stream) && mesh_.tensor->size() == 1;
  if (!records || recorded.runs++ == 0) {
    ComputeStep(rows, cache);
    return g.h;
  }
  if (!recorded.graph || recorded.cache != &cache) {
    recorded.graph = kernels::Graph::Record(stream, [&] { ComputeStep(rows, cache); });
    recorded.cache = &cache;
  }
  recorded.graph.Launch(stream);
  return g.h;
}

// Decoding has no sequence parallelism: every tensor rank holds all rows, and row-split products end in an
// all-reduce.
void Decoder::ComputeStep(int64_t rows, KeyValueCache& cache) {
  const Stream& stream = mesh_.stream;
  Generation& g = *generation_;
  const int32_t* ids = g.inputs.device();
  const int32_t* slots = ids + rows;
  const int32_t* positions = slots + rows;
  const int64_t width = shape_.width;
  const int64_t stride = local_.qkv_width;
  const int64_t head_dim = shape_.head_dim;
  const auto sum_shares = [&](const char* name, Buffer data) {
    if (mesh_.tensor->size() > 1) mesh_.tensor->AllReduce(stream, name, data, rows * width, ReduceOp::kSum);
  };
  const bool adds_bias = mesh_.tensor->rank() == 0;

  kernels::NormForwardArgs norm;
  norm.kind = shape_.norm;
  norm.rows = rows;
  norm.width = width;
  norm.epsilon = shape_.norm_epsilon;
  norm.x = g.x;
  norm.sum = g.x;
  norm.y = g.h;

  kernels::CachedAttentionShape attention;
  attention.tokens = rows;
  attention.heads = local_.heads;
  attention.kv_heads = local_.kv_heads;
  attention.head_dim = head_dim;
  attention.max_tokens = cache.max_tokens;
  attention.slots = slots;
  attention.positions = positions;
  attention.scale = Attention().scale;
  attention.window = shape_.sliding_window;
  attention.soft_cap = shape_.attention_soft_cap;

  const kernels::EmbeddingArgs tokens{rows, width, ids, local_.vocab_begin, local_.vocab_valid};
  kernels::EmbeddingForward(stream, tokens, Weight(embedding_offset_), shape_.embedding_scale, g.x, false);
  sum_shares("embedding", g.x);
  if (positions_offset_ >= 0) {
    const kernels::EmbeddingArgs learned{rows, width, positions, 0, shape_.context_length};
    kernels::EmbeddingForward(stream, learned, Weight(positions_offset_), 1, g.x, true);
  }
  for (size_t l = 0; l < layers_.size(); ++l) {
    Layer& layer = *layers_[l];
    norm.delta = l == 0 ? ConstBuffer() : ConstBuffer(g.delta);
    norm.weight = Weight(layer.attention_norm.weight);
    norm.bias = Weight(layer.attention_norm.bias);
    kernels::NormForward(stream, norm);
    layer.qkv.linear.Forward(stream, rows, {g.h, width}, Weight(layer.qkv.bias), {g.qkv, stride});
    const Buffer key = AtHead(g.qkv, local_.heads, head_dim);
    const Buffer value = AtHead(g.qkv, local_.heads + local_.kv_heads, head_dim);
    if (shape_.qk_norm) {
      kernels::HeadNormArgs head{rows,   local_.heads,        head_dim,
                                 stride, shape_.norm_epsilon, Weight(layer.query_norm)};
      kernels::HeadNormForward(stream, head, g.qkv, g.qkv, nullptr);
      head.heads = local_.kv_heads;
      head.weight = Weight(layer.key_norm);
      kernels::HeadNormForward(stream, head, key, key, nullptr);
    }
    if (shape_.learned_positions) {
      kernels::CacheAppend(stream, attention, {key, stride}, {value, stride}, cache.keys[l], cache.values[l]);
    } else {
      const kernels::RotaryArgs rotary{
          rows, local_.heads + local_.kv_heads, head_dim, stride, positions, cosine_, sine_};
      kernels::RotaryAppend(stream, rotary, attention, g.qkv, cache.keys[l], cache.values[l]);
    }
    kernels::CachedAttention(stream, attention, {g.qkv, stride}, cache.keys[l], cache.values[l],
                             {g.attended, local_.attention_width});
    layer.output.linear.Forward(stream, rows, {g.attended, local_.attention_width},
                                adds_bias ? Weight(layer.output.bias) : ConstBuffer(), {g.delta, width});
    sum_shares("attention output", g.delta);

    norm.delta = g.delta;
    norm.weight = Weight(layer.mlp_norm.weight);
    norm.bias = Weight(layer.mlp_norm.bias);
    kernels::NormForward(stream, norm);
    layer.up.linear.Forward(stream, rows, {g.h, width}, Weight(layer.up.bias), {g.up, local_.mlp_in_width});
    kernels::ActivationForward(stream, shape_.activation, rows, local_.mlp_width, g.up, g.activated);
    layer.down.linear.Forward(stream, rows, {g.activated, local_.mlp_width},
                              adds_bias ? Weight(layer.down.bias) : ConstBuffer(), {g.delta, width});
    sum_shares("feed-forward output", g.delta);
  }
  norm.delta = g.delta;
  norm.weight = Weight(final_norm_weight_);
  norm.bias = Weight(final_norm_bias_);
  kernels::NormForward(stream, norm);
}

}  // namespace tanren
