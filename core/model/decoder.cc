#include "core/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status.h"
#include "core/model/decoder_parts.h"
#include "kernels/rotary.h"

namespace tanren {
namespace {

// A micro-batch computes one of at most so many numbers of rows, each a multiple of kRowMultiple.
constexpr int64_t kRowCounts = 32;
constexpr int64_t kRowMultiple = 64;

// The rest of a row teaches nothing, so most of it is left out. Few row counts, since a product is compiled
// for each, and the same on every tensor rank. On a GPU cuBLASLt chooses its algorithm by the number of rows,
// and a segment's bits must not depend on its neighbours: there the whole row is computed.
int64_t RowsFor(int64_t used_tokens, int64_t capacity, int64_t tensor_size) {
  const auto round_up = [](int64_t value, int64_t to) { return (value + to - 1) / to * to; };
  const int64_t step = round_up((capacity + kRowCounts - 1) / kRowCounts, kRowMultiple * tensor_size);
  return std::min(capacity, round_up(std::max<int64_t>(used_tokens, 1), step));
}

int64_t OffsetOrAbsent(const ParameterSet& parameters, const std::string& name) {
  const Parameter* parameter = parameters.Find(name);
  return parameter == nullptr ? -1 : parameter->offset;
}

void* TakePacked(Arena& arena, const kernels::Linear& linear, bool backward) {
  return arena.Take("packed weights", DType::kU8, linear.PackedBytes(backward)).data;
}

}  // namespace

Decoder::Decoder(const ModelShape& shape, const ParameterSet& parameters, const Mesh& mesh,
                 const DecoderOptions& options)
    : shape_(shape),
      local_(MakeLocalShape(shape, mesh.tensor->rank(), mesh.tensor->size())),
      parameters_(parameters),
      mesh_(mesh),
      options_(options),
      local_tokens_(options.capacity_tokens / mesh.tensor->size()),
      scratch_(std::make_unique<Scratch>()),
      input_(std::make_unique<Input>()),
      generation_(std::make_unique<Generation>()) {
  TANREN_CHECK(options.capacity_tokens % mesh.tensor->size() == 0);
  embedding_offset_ = parameters.Offset("embedding.weight");
  positions_offset_ = OffsetOrAbsent(parameters, "positions.weight");
  final_norm_weight_ = parameters.Offset("final_norm.weight");
  final_norm_bias_ = OffsetOrAbsent(parameters, "final_norm.bias");
  if (shape.vocabulary_head) {
    head_offset_ = shape.tied_embeddings ? embedding_offset_ : parameters.Offset("head.weight");
    head_ = std::make_unique<kernels::Linear>(local_.vocab, shape.width, options.dtype, mesh.stream.device);
  }
  for (int64_t l = 0; l < shape.layers; ++l) {
    const std::string prefix = absl::StrCat("layers.", l, ".");
    const auto offset = [&](const char* name) { return OffsetOrAbsent(parameters, prefix + name); };
    const auto projection = [&](int64_t out, int64_t in, int64_t weight, int64_t bias) {
      return Projection{kernels::Linear(out, in, options.dtype, mesh.stream.device), weight, bias, nullptr};
    };
    const bool gated = shape.gated();
    layers_.push_back(std::unique_ptr<Layer>(new Layer{
        projection(local_.qkv_width, shape.width, offset("attention.query.weight"),
                   offset("attention.query.bias")),
        projection(shape.width, local_.attention_width, offset("attention.output.weight"),
                   offset("attention.output.bias")),
        projection(local_.mlp_in_width, shape.width, offset(gated ? "mlp.gate.weight" : "mlp.up.weight"),
                   offset(gated ? "mlp.gate.bias" : "mlp.up.bias")),
        projection(shape.width, local_.mlp_width, offset("mlp.down.weight"), offset("mlp.down.bias")),
        {offset("attention_norm.weight"), offset("attention_norm.bias")},
        {offset("mlp_norm.weight"), offset("mlp_norm.bias")},
        offset("attention.query_norm.weight"),
        offset("attention.key_norm.weight")}));
    saved_.push_back(std::make_unique<Saved>());
  }
}

Decoder::~Decoder() = default;

void Decoder::LayoutWeights(Arena& arena) {
  const bool backward = options_.trainable;
  for (auto& layer : layers_) {
    for (Projection* projection : {&layer->qkv, &layer->output, &layer->up, &layer->down}) {
      projection->packed = TakePacked(arena, projection->linear, backward);
    }
  }
  if (head_) head_packed_ = TakePacked(arena, *head_, backward);
}

void Decoder::LayoutTables(Arena& arena) {
  if (shape_.learned_positions) return;
  const int64_t count = shape_.context_length * shape_.head_dim / 2;
  cosine_ = arena.Take<float>("rotary tables", count);
  sine_ = arena.Take<float>("rotary tables", count);
  if (arena.planning()) return;
  std::vector<float> cosine(count), sine(count);
  FillRotaryTables(shape_.rotary, shape_.head_dim, shape_.context_length, cosine.data(), sine.data());
  kernels::CopyToDevice(mesh_.stream, cosine_, cosine.data(), count * int64_t{sizeof(float)});
  kernels::CopyToDevice(mesh_.stream, sine_, sine.data(), count * int64_t{sizeof(float)});
}

void Decoder::LayoutActivations(Arena& arena) {
  const int64_t capacity = options_.capacity_tokens;
  const int64_t width = shape_.width;
  const bool layer_norm = shape_.layer_norm();
  const auto take = [&](const char* label, int64_t rows, int64_t columns) {
    return arena.Take(label, options_.dtype, rows * columns);
  };
  input_->ids.Layout(arena, "tokens of the micro-batch", capacity);
  input_->positions.Layout(arena, "tokens of the micro-batch", capacity);
  input_->cu_seqlens.Layout(arena, "tokens of the micro-batch", capacity + 2);
  // Which buffers are kept a layer, and which one is shared by all.
  const bool keep_all = options_.trainable && options_.recompute == Recompute::kNone;
  const bool keep_layer = options_.trainable && options_.recompute != Recompute::kFull;
  Saved shared;
  const auto fill_cheap = [&](Saved& saved) {
    saved.h1 = take("norm outputs", local_tokens_, width);
    saved.h2 = take("norm outputs", local_tokens_, width);
    saved.activated = take("feed-forward activations", capacity, local_.mlp_width);
  };
  const auto fill_layer = [&](Saved& saved) {
    saved.x2 = take("residual stream", local_tokens_, width);
    saved.qkv_raw = take("query, key, value", capacity, local_.qkv_width);
    saved.qkv = shape_.qk_norm ? take("query, key, value", capacity, local_.qkv_width) : saved.qkv_raw;
    if (shape_.qk_norm) {
      saved.query_rstd = arena.Take<float>("norm statistics", capacity * local_.heads);
      saved.key_rstd = arena.Take<float>("norm statistics", capacity * local_.kv_heads);
    }
    saved.attended = take("attention output", capacity, local_.attention_width);
    saved.lse = arena.Take<float>("attention statistics", capacity * local_.heads);
    saved.up = take("feed-forward inputs", capacity, local_.mlp_in_width);
    saved.mean1 = layer_norm ? arena.Take<float>("norm statistics", local_tokens_) : nullptr;
    saved.rstd1 = arena.Take<float>("norm statistics", local_tokens_);
    saved.mean2 = layer_norm ? arena.Take<float>("norm statistics", local_tokens_) : nullptr;
    saved.rstd2 = arena.Take<float>("norm statistics", local_tokens_);
  };
  if (!keep_layer) fill_layer(shared);
  if (!keep_all) fill_cheap(shared);
  // A frozen model keeps one residual stream; each layer needs its own otherwise.
  if (!options_.trainable) shared.x1 = take("residual stream", local_tokens_, width);
  for (auto& saved : saved_) {
    *saved = shared;
    if (options_.trainable) saved->x1 = take("residual stream", local_tokens_, width);
    if (keep_layer) fill_layer(*saved);
    if (keep_all) fill_cheap(*saved);
  }

  Scratch& scratch = *scratch_;
  const bool split = mesh_.tensor->size() > 1;
  scratch.delta = take("sublayer output", local_tokens_, width);
  scratch.final_x = take("residual stream", local_tokens_, width);
  scratch.final_y = take("final hidden states", local_tokens_, width);
  scratch.hidden = split ? take("final hidden states", capacity, width) : scratch.final_y;
  scratch.final_mean = layer_norm ? arena.Take<float>("norm statistics", local_tokens_) : nullptr;
  scratch.final_rstd = arena.Take<float>("norm statistics", local_tokens_);
  if (split) {
    scratch.partial = take("tensor-parallel exchange", capacity, width);
    scratch.gathered = take("tensor-parallel exchange", capacity, width);
  }
  if (!options_.trainable) return;
  scratch.dx = take("gradient of the residual stream", local_tokens_, width);
  scratch.dh = take("gradient of norm outputs", local_tokens_, width);
  scratch.dactivated = take("gradient of activations", capacity, local_.mlp_width);
  scratch.dattended = take("gradient of attention output", capacity, local_.attention_width);
  scratch.dqkv = take("gradient of query, key, value", capacity, local_.qkv_width);
  kernels::AttentionShape attention;
  attention.tokens = capacity;
  attention.segments = capacity;
  attention.heads = local_.heads;
  attention.kv_heads = local_.kv_heads;
  attention.head_dim = shape_.head_dim;
  scratch.attention_workspace = arena
                                    .Take("attention workspace", DType::kU8,
                                          kernels::AttentionBackwardWorkspaceBytes(mesh_.stream, attention))
                                    .data;
}

void Decoder::Bind(Buffer weights, float* gradients) {
  TANREN_CHECK(weights.dtype == options_.dtype);
  TANREN_CHECK(options_.trainable == (gradients != nullptr));
  weights_ = weights;
  gradients_ = gradients;
  for (auto& layer : layers_) {
    for (Projection* projection : {&layer->qkv, &layer->output, &layer->up, &layer->down}) {
      projection->linear.Bind(Weight(projection->weight), projection->packed, options_.trainable);
    }
  }
  if (head_) head_->Bind(Weight(head_offset_), head_packed_, options_.trainable);
}

void Decoder::PackWeights() {
  for (auto& layer : layers_) {
    for (Projection* projection : {&layer->qkv, &layer->output, &layer->up, &layer->down}) {
      projection->linear.Pack(mesh_.stream);
    }
  }
  if (head_) head_->Pack(mesh_.stream);
}

kernels::Linear& Decoder::vocabulary_head() {
  TANREN_CHECK(head_ != nullptr);
  return *head_;
}

int64_t Decoder::vocabulary_head_offset() const { return head_offset_; }

ConstBuffer Decoder::Weight(int64_t offset) const {
  if (offset < 0) return ConstBuffer();
  return ConstBuffer(static_cast<const char*>(weights_.data) + offset * SizeOf(options_.dtype),
                     options_.dtype);
}

void Decoder::TakeInput(const MicroBatch& batch) {
  const auto take = [&](const std::vector<int32_t>& from, const Staged<int32_t>& to) {
    const int64_t count = static_cast<int64_t>(from.size());
    TANREN_CHECK(count <= to.count());
    std::copy_n(from.data(), count, to.host());
    to.ToDevice(mesh_.stream, count);
  };
  input_->rows = mesh_.stream.device == Device::kCpu
                     ? RowsFor(batch.used_tokens, options_.capacity_tokens, mesh_.tensor->size())
                     : options_.capacity_tokens;
  input_->local_rows = input_->rows / mesh_.tensor->size();
  take(batch.ids, input_->ids);
  take(batch.positions, input_->positions);
  std::vector<int32_t> ends(batch.cu_seqlens);
  while (ends.size() > 1 && ends[ends.size() - 2] >= input_->rows) ends.pop_back();
  ends.back() = static_cast<int32_t>(input_->rows);
  take(ends, input_->cu_seqlens);
  input_->segments = static_cast<int64_t>(ends.size()) - 1;
}

kernels::AttentionShape Decoder::Attention() const {
  kernels::AttentionShape shape;
  shape.tokens = input_->rows;
  shape.segments = input_->segments;
  shape.cu_seqlens = input_->cu_seqlens.device();
  shape.heads = local_.heads;
  shape.kv_heads = local_.kv_heads;
  shape.head_dim = shape_.head_dim;
  shape.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape_.head_dim)));
  shape.window = shape_.sliding_window;
  shape.soft_cap = shape_.attention_soft_cap;
  return shape;
}

ConstBuffer Decoder::GatherTokens(const char* name, ConstBuffer local, Buffer full) {
  if (mesh_.tensor->size() == 1) return local;
  mesh_.tensor->AllGather(mesh_.stream, name, local, full, input_->local_rows * shape_.width);
  return full;
}

void Decoder::ScatterTokens(const char* name, ConstBuffer full, Buffer local) {
  mesh_.tensor->ReduceScatter(mesh_.stream, name, full, local, input_->local_rows * shape_.width);
}

}  // namespace tanren
