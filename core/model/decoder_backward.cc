#include "core/base/status.h"
#include "core/model/decoder.h"
#include "core/model/decoder_parts.h"
#include "kernels/activation.h"
#include "kernels/embedding.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"

namespace tanren {
void Decoder::Backward(Buffer dhidden) {
  TANREN_CHECK(options_.trainable);
  Scratch& scratch = *scratch_;
  const bool split = mesh_.tensor->size() > 1;
  if (split) ScatterTokens("gradient of hidden states", dhidden, scratch.dh);
  kernels::NormBackwardArgs args;
  args.kind = shape_.norm;
  args.rows = input_->local_rows;
  args.width = shape_.width;
  args.dy = split ? scratch.dh : dhidden;
  args.x = scratch.final_x;
  args.weight = Weight(final_norm_weight_);
  args.mean = scratch.final_mean;
  args.rstd = scratch.final_rstd;
  args.dx = scratch.dx;
  args.dweight = Gradient(final_norm_weight_);
  args.dbias = Gradient(final_norm_bias_);
  kernels::NormBackward(mesh_.stream, args);
  for (size_t l = layers_.size(); l-- > 0;) {
    Rebuild(*layers_[l], *saved_[l]);
    BackwardMlp(*layers_[l], *saved_[l]);
    BackwardAttention(*layers_[l], *saved_[l]);
  }
  BackwardEmbedding();
}

void Decoder::BackwardMlp(Layer& layer, Saved& saved) {
  const Stream& stream = mesh_.stream;
  Scratch& scratch = *scratch_;
  const bool split = mesh_.tensor->size() > 1;
  const int64_t width = shape_.width;

  const ConstBuffer dy = GatherTokens("gradient of feed-forward output", scratch.dx, scratch.gathered);
  layer.down.linear.BackwardWeight(stream, input_->rows, {dy, width}, {saved.activated, local_.mlp_width},
                                   Gradient(layer.down.weight), Gradient(layer.down.bias));
  layer.down.linear.BackwardInput(stream, input_->rows, {dy, width}, {scratch.dactivated, local_.mlp_width},
                                  false);
  kernels::ActivationBackward(stream, shape_.activation, input_->rows, local_.mlp_width, scratch.dactivated,
                              saved.up, saved.up);
  const ConstBuffer h2 = GatherTokens("feed-forward input", saved.h2, scratch.gathered);
  layer.up.linear.BackwardWeight(stream, input_->rows, {saved.up, local_.mlp_in_width}, {h2, width},
                                 Gradient(layer.up.weight), Gradient(layer.up.bias));
  layer.up.linear.BackwardInput(stream, input_->rows, {saved.up, local_.mlp_in_width},
                                {split ? scratch.partial : scratch.dh, width}, false);
  if (split) ScatterTokens("gradient of feed-forward input", scratch.partial, scratch.dh);

  kernels::NormBackwardArgs args;
  args.kind = shape_.norm;
  args.rows = input_->local_rows;
  args.width = width;
  args.dy = scratch.dh;
  args.x = saved.x2;
  args.weight = Weight(layer.mlp_norm.weight);
  args.mean = saved.mean2;
  args.rstd = saved.rstd2;
  args.dresidual = scratch.dx;
  args.dx = scratch.dx;
  args.dweight = Gradient(layer.mlp_norm.weight);
  args.dbias = Gradient(layer.mlp_norm.bias);
  kernels::NormBackward(stream, args);
}

void Decoder::BackwardAttention(Layer& layer, Saved& saved) {
  const Stream& stream = mesh_.stream;
  Scratch& scratch = *scratch_;
  const bool split = mesh_.tensor->size() > 1;
  const int64_t width = shape_.width;
  const int64_t stride = local_.qkv_width;
  const int64_t head_dim = shape_.head_dim;
  const int64_t value_head = local_.heads + local_.kv_heads;

  const ConstBuffer dy = GatherTokens("gradient of attention output", scratch.dx, scratch.gathered);
  layer.output.linear.BackwardWeight(stream, input_->rows, {dy, width},
                                     {saved.attended, local_.attention_width}, Gradient(layer.output.weight),
                                     Gradient(layer.output.bias));
  layer.output.linear.BackwardInput(stream, input_->rows, {dy, width},
                                    {scratch.dattended, local_.attention_width}, false);

  const Buffer dquery = scratch.dqkv;
  const Buffer dkey = AtHead(scratch.dqkv, local_.heads, head_dim);
  const Buffer dvalue = AtHead(scratch.dqkv, value_head, head_dim);
  kernels::AttentionBackward(
      stream, Attention(), {saved.qkv, stride}, {AtHead(saved.qkv, local_.heads, head_dim), stride},
      {AtHead(saved.qkv_raw, value_head, head_dim), stride}, {saved.attended, local_.attention_width},
      saved.lse, {scratch.dattended, local_.attention_width}, {dquery, stride}, {dkey, stride},
      {dvalue, stride}, scratch.attention_workspace);
  if (!shape_.learned_positions) {
    const kernels::RotaryArgs rotary{input_->rows, value_head, head_dim, stride, input_->positions.device(),
                                     cosine_,      sine_};
    kernels::Rotary(stream, rotary, dquery, true);
  }
  if (shape_.qk_norm) {
    kernels::HeadNormArgs norm{input_->rows, local_.heads,        head_dim,
                               stride,       shape_.norm_epsilon, Weight(layer.query_norm)};
    kernels::HeadNormBackward(stream, norm, dquery, saved.qkv_raw, saved.query_rstd, dquery,
                              Gradient(layer.query_norm));
    norm.heads = local_.kv_heads;
    norm.weight = Weight(layer.key_norm);
    kernels::HeadNormBackward(stream, norm, dkey, AtHead(saved.qkv_raw, local_.heads, head_dim),
                              saved.key_rstd, dkey, Gradient(layer.key_norm));
  }
  const ConstBuffer h1 = GatherTokens("attention input", saved.h1, scratch.gathered);
  layer.qkv.linear.BackwardWeight(stream, input_->rows, {scratch.dqkv, stride}, {h1, width},
                                  Gradient(layer.qkv.weight), Gradient(layer.qkv.bias));
  layer.qkv.linear.BackwardInput(stream, input_->rows, {scratch.dqkv, stride},
                                 {split ? scratch.partial : scratch.dh, width}, false);
  if (split) ScatterTokens("gradient of attention input", scratch.partial, scratch.dh);

  kernels::NormBackwardArgs args;
  args.kind = shape_.norm;
  args.rows = input_->local_rows;
  args.width = width;
  args.dy = scratch.dh;
  args.x = saved.x1;
  args.weight = Weight(layer.attention_norm.weight);
  args.mean = saved.mean1;
  args.rstd = saved.rstd1;
  args.dresidual = scratch.dx;
  args.dx = scratch.dx;
  args.dweight = Gradient(layer.attention_norm.weight);
  args.dbias = Gradient(layer.attention_norm.bias);
  kernels::NormBackward(stream, args);
}

void Decoder::BackwardEmbedding() {
  const int64_t width = shape_.width;
  if (positions_offset_ >= 0) {
    const int64_t first_token = mesh_.tensor->rank() * input_->local_rows;
    const kernels::EmbeddingArgs positions{
        input_->local_rows, width, input_->positions.device() + first_token, 0, shape_.context_length};
    kernels::EmbeddingBackward(mesh_.stream, positions, scratch_->dx, 1, Gradient(positions_offset_));
  }
  const ConstBuffer dx = GatherTokens("gradient of embedding", scratch_->dx, scratch_->gathered);
  const kernels::EmbeddingArgs tokens{input_->rows, width, input_->ids.device(), local_.vocab_begin,
                                      local_.vocab_valid};
  kernels::EmbeddingBackward(mesh_.stream, tokens, dx, shape_.embedding_scale, Gradient(embedding_offset_));
}

}  // namespace tanren
