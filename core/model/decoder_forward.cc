#include "core/base/status.h"
#include "core/model/decoder.h"
#include "core/model/decoder_parts.h"
#include "kernels/activation.h"
#include "kernels/embedding.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"

namespace tanren {
void Decoder::Normalize(const Layer& layer, bool mlp, ConstBuffer x, ConstBuffer delta, Buffer sum, Buffer y,
                        float* mean, float* rstd) {
  const NormOffsets& offsets = mlp ? layer.mlp_norm : layer.attention_norm;
  kernels::NormForwardArgs args;
  args.kind = shape_.norm;
  args.rows = input_->local_rows;
  args.width = shape_.width;
  args.epsilon = shape_.norm_epsilon;
  args.x = x;
  args.delta = delta;
  args.sum = sum;
  args.weight = Weight(offsets.weight);
  args.bias = Weight(offsets.bias);
  args.y = y;
  args.mean = mean;
  args.rstd = rstd;
  kernels::NormForward(mesh_.stream, args);
}

void Decoder::Embed(Buffer x) {
  const Stream& stream = mesh_.stream;
  const bool split = mesh_.tensor->size() > 1;
  const kernels::EmbeddingArgs tokens{input_->rows, shape_.width, input_->ids.device(), local_.vocab_begin,
                                      local_.vocab_valid};
  kernels::EmbeddingForward(stream, tokens, Weight(embedding_offset_), shape_.embedding_scale,
                            split ? scratch_->partial : x, false);
  if (split) ScatterTokens("embedding", scratch_->partial, x);
  if (positions_offset_ < 0) return;
  const int64_t first_token = mesh_.tensor->rank() * input_->local_rows;
  const kernels::EmbeddingArgs positions{input_->local_rows, shape_.width,
                                         input_->positions.device() + first_token, 0, shape_.context_length};
  kernels::EmbeddingForward(stream, positions, Weight(positions_offset_), 1, x, true);
}

void Decoder::ForwardAttention(Layer& layer, Saved& saved) {
  const Stream& stream = mesh_.stream;
  const int64_t stride = local_.qkv_width;
  const int64_t head_dim = shape_.head_dim;
  const ConstBuffer h1 = GatherTokens("attention input", saved.h1, scratch_->gathered);
  layer.qkv.linear.Forward(stream, input_->rows, {h1, shape_.width}, Weight(layer.qkv.bias),
                           {saved.qkv_raw, stride});
  const Buffer query = saved.qkv;
  const Buffer key = AtHead(saved.qkv, local_.heads, head_dim);
  if (shape_.qk_norm) {
    kernels::HeadNormArgs norm{input_->rows, local_.heads,        head_dim,
                               stride,       shape_.norm_epsilon, Weight(layer.query_norm)};
    kernels::HeadNormForward(stream, norm, saved.qkv_raw, query, saved.query_rstd);
    norm.heads = local_.kv_heads;
    norm.weight = Weight(layer.key_norm);
    kernels::HeadNormForward(stream, norm, AtHead(saved.qkv_raw, local_.heads, head_dim), key,
                             saved.key_rstd);
  }
  if (!shape_.learned_positions) {
    const kernels::RotaryArgs rotary{input_->rows, local_.heads + local_.kv_heads, head_dim,
                                     stride,       input_->positions.device(),     cosine_,
                                     sine_};
    kernels::Rotary(stream, rotary, query, false);
  }
  const Buffer value = AtHead(saved.qkv_raw, local_.heads + local_.kv_heads, head_dim);
  kernels::AttentionForward(stream, Attention(), {query, stride}, {key, stride}, {value, stride},
                            {saved.attended, local_.attention_width}, saved.lse);
}

void Decoder::ProjectAttention(Layer& layer, Saved& saved) {
  const bool split = mesh_.tensor->size() > 1;
  // The shares of the tensor ranks are summed, so one of them adds the bias.
  const ConstBuffer bias = mesh_.tensor->rank() == 0 ? Weight(layer.output.bias) : ConstBuffer();
  layer.output.linear.Forward(mesh_.stream, input_->rows, {saved.attended, local_.attention_width}, bias,
                              {split ? scratch_->partial : scratch_->delta, shape_.width});
  if (split) ScatterTokens("attention output", scratch_->partial, scratch_->delta);
}

void Decoder::ForwardMlp(Layer& layer, Saved& saved) {
  const ConstBuffer h2 = GatherTokens("feed-forward input", saved.h2, scratch_->gathered);
  layer.up.linear.Forward(mesh_.stream, input_->rows, {h2, shape_.width}, Weight(layer.up.bias),
                          {saved.up, local_.mlp_in_width});
  kernels::ActivationForward(mesh_.stream, shape_.activation, input_->rows, local_.mlp_width, saved.up,
                             saved.activated);
}

void Decoder::ProjectMlp(Layer& layer, Saved& saved) {
  const bool split = mesh_.tensor->size() > 1;
  const ConstBuffer bias = mesh_.tensor->rank() == 0 ? Weight(layer.down.bias) : ConstBuffer();
  layer.down.linear.Forward(mesh_.stream, input_->rows, {saved.activated, local_.mlp_width}, bias,
                            {split ? scratch_->partial : scratch_->delta, shape_.width});
  if (split) ScatterTokens("feed-forward output", scratch_->partial, scratch_->delta);
}

ConstBuffer Decoder::Forward(const MicroBatch& batch) {
  TANREN_CHECK(batch.capacity == options_.capacity_tokens);
  Scratch& scratch = *scratch_;
  TakeInput(batch);
  Embed(saved_[0]->x1);
  for (size_t l = 0; l < layers_.size(); ++l) {
    Layer& layer = *layers_[l];
    Saved& saved = *saved_[l];
    if (l == 0) {
      Normalize(layer, false, saved.x1, ConstBuffer(), Buffer(), saved.h1, saved.mean1, saved.rstd1);
    } else {
      Normalize(layer, false, saved_[l - 1]->x2, scratch.delta, saved.x1, saved.h1, saved.mean1, saved.rstd1);
    }
    ForwardAttention(layer, saved);
    ProjectAttention(layer, saved);
    Normalize(layer, true, saved.x1, scratch.delta, saved.x2, saved.h2, saved.mean2, saved.rstd2);
    ForwardMlp(layer, saved);
    ProjectMlp(layer, saved);
  }
  kernels::NormForwardArgs args;
  args.kind = shape_.norm;
  args.rows = input_->local_rows;
  args.width = shape_.width;
  args.epsilon = shape_.norm_epsilon;
  args.x = saved_.back()->x2;
  args.delta = scratch.delta;
  args.sum = scratch.final_x;
  args.weight = Weight(final_norm_weight_);
  args.bias = Weight(final_norm_bias_);
  args.y = scratch.final_y;
  args.mean = scratch.final_mean;
  args.rstd = scratch.final_rstd;
  kernels::NormForward(mesh_.stream, args);
  return GatherTokens("final hidden states", scratch.final_y, scratch.hidden);
}

// Makes again what recomputation did not keep, by the very calls of the forward pass: the same bits.
void Decoder::Rebuild(Layer& layer, Saved& saved) {
  if (options_.recompute == Recompute::kNone) return;
  Normalize(layer, false, saved.x1, ConstBuffer(), Buffer(), saved.h1, saved.mean1, saved.rstd1);
  if (options_.recompute == Recompute::kFull) {
    ForwardAttention(layer, saved);
    ProjectAttention(layer, saved);
    Normalize(layer, true, saved.x1, scratch_->delta, saved.x2, saved.h2, saved.mean2, saved.rstd2);
    ForwardMlp(layer, saved);
    return;
  }
  Normalize(layer, true, saved.x2, ConstBuffer(), Buffer(), saved.h2, saved.mean2, saved.rstd2);
  kernels::ActivationForward(mesh_.stream, shape_.activation, input_->rows, local_.mlp_width, saved.up,
                             saved.activated);
}

}  // namespace tanren
