// The decoder trunk: from token ids to final hidden states and back, as one tensor rank computes it.
//
// Tensor parallelism is Megatron's with sequence parallelism (Shoeybi et al. 2019, Korthikanti et al. 2022):
// query/key/value, gate and up projections are split by output rows, output and down projections by input
// columns, the embedding by vocabulary rows. Between them the residual stream lives split by token: rank t of
// T holds tokens [t C/T, (t+1) C/T) of the row of C tokens, ignoring segments. An all-gather precedes each
// column-split product, a reduce-scatter follows each row-split one.
//
// A Decoder owns no memory: weights, gradients and activations are arenas' pieces. It holds one micro-batch's
// activations at a time: Forward, then at most one Backward of the same micro-batch.
#ifndef TANREN_CORE_MODEL_DECODER_H_
#define TANREN_CORE_MODEL_DECODER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/comm/mesh.h"
#include "core/data/batch.h"
#include "core/model/parameters.h"
#include "core/model/shape.h"
#include "core/tensor/arena.h"
#include "core/tensor/staged.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"

namespace tanren {

enum class Recompute : uint8_t {
  kNone,       // every intermediate the backward pass reads is kept
  kSelective,  // norm outputs and activations, cheap to make, are made again
  kFull,       // only the input of each layer is kept
};

struct DecoderOptions {
  DType dtype = DType::kF32;  // of weights and activations: kF32 or kBF16
  bool trainable = true;      // a frozen model has no gradients and keeps no activations
  Recompute recompute = Recompute::kNone;
  int64_t capacity_tokens = 0;  // of a micro-batch; divisible by the tensor size
  int64_t decode_slots = 0;     // rows of a decode step; 0: no generation
  int64_t prefill_tokens = 0;   // rows of a prefill step
};

// A key-value cache: per layer [slots, kv_heads, max_tokens, head_dim], k then v, in the model's dtype.
struct KeyValueCache {
  int64_t slots = 0;
  int64_t max_tokens = 0;
  std::vector<Buffer> keys;
  std::vector<Buffer> values;
};

class Decoder {
 public:
  // `parameters` must outlive the decoder.
  Decoder(const ModelShape& shape, const ParameterSet& parameters, const Mesh& mesh,
          const DecoderOptions& options);
  ~Decoder();

  // Takes packed-weight storage; tables, which are filled here and stay; then, in an arena that other models
  // may share, everything a micro-batch needs. Each is called while planning and again after the arena's
  // Commit.
  void LayoutWeights(Arena& arena);
  void LayoutTables(Arena& arena);
  void LayoutActivations(Arena& arena);
  void LayoutCache(Arena& arena, int64_t slots, int64_t max_tokens, KeyValueCache* cache);
  void LayoutGeneration(Arena& arena);

  // Tells where the flat weights (options.dtype) and, when trainable, flat fp32 gradients live. After the
  // arenas are committed.
  void Bind(Buffer weights, float* gradients);

  // To be called after the weights changed and before the next product.
  void PackWeights();

  // Final hidden states [capacity, width] of all tokens, on every tensor rank, valid until the next Forward.
  // Rows behind the tokens in use are not computed, or not all of them.
  ConstBuffer Forward(const MicroBatch& batch);

  // Of the micro-batch of the last Forward: from this rank's share of the gradient by the final hidden states
  // [capacity, width] (shares of the tensor ranks are summed here; `dhidden` is used as scratch) to
  // accumulated gradients of all trunk parameters.
  void Backward(Buffer dhidden);

  // One generation step over `rows` new tokens (decode_slots or prefill_tokens of them): appends to the cache
  // and returns final hidden states [rows, width], which are valid until the next step. slots[i] < 0 marks an
  // idle row. The three arrays are the host's.
  ConstBuffer Step(int64_t rows, const int32_t* ids, const int32_t* slots, const int32_t* positions,
                   KeyValueCache& cache);

  // The vocabulary head's product (tied or not): logits = hidden w^T over this rank's vocabulary shard.
  kernels::Linear& vocabulary_head();
  // Flat gradient offset of the vocabulary head's weight.
  int64_t vocabulary_head_offset() const;

  const ModelShape& shape() const { return shape_; }
  const LocalShape& local() const { return local_; }
  const DecoderOptions& options() const { return options_; }
  const Mesh& mesh() const { return mesh_; }

 private:
  struct Layer;       // products and parameter offsets of one layer
  struct Saved;       // one layer's kept activations
  struct Scratch;     // buffers shared by all layers
  struct Input;       // the micro-batch's tokens where kernels read them
  struct Generation;  // buffers of generation steps

  ConstBuffer Weight(int64_t offset) const;
  float* Gradient(int64_t offset) const { return offset < 0 ? nullptr : gradients_ + offset; }
  kernels::AttentionShape Attention() const;
  void TakeInput(const MicroBatch& batch);

  ConstBuffer GatherTokens(const char* name, ConstBuffer local, Buffer full);
  void ScatterTokens(const char* name, ConstBuffer full, Buffer local);
  void Normalize(const Layer& layer, bool mlp, ConstBuffer x, ConstBuffer delta, Buffer sum, Buffer y,
                 float* mean, float* rstd);

  void Embed(Buffer x);
  void ForwardAttention(Layer& layer, Saved& saved);
  void ProjectAttention(Layer& layer, Saved& saved);
  void ForwardMlp(Layer& layer, Saved& saved);
  void ProjectMlp(Layer& layer, Saved& saved);
  void Rebuild(Layer& layer, Saved& saved);

  void ComputeStep(int64_t rows, KeyValueCache& cache);

  void BackwardMlp(Layer& layer, Saved& saved);
  void BackwardAttention(Layer& layer, Saved& saved);
  void BackwardEmbedding();

  ModelShape shape_;
  LocalShape local_;
  const ParameterSet& parameters_;
  Mesh mesh_;
  DecoderOptions options_;
  int64_t local_tokens_ = 0;

  Buffer weights_;
  float* gradients_ = nullptr;
  int64_t embedding_offset_ = 0;
  int64_t positions_offset_ = -1;
  int64_t final_norm_weight_ = 0;
  int64_t final_norm_bias_ = -1;

  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<std::unique_ptr<Saved>> saved_;
  std::unique_ptr<Scratch> scratch_;
  std::unique_ptr<Input> input_;
  std::unique_ptr<Generation> generation_;
  std::unique_ptr<kernels::Linear> head_;
  void* head_packed_ = nullptr;
  int64_t head_offset_ = -1;
  float* cosine_ = nullptr;
  float* sine_ = nullptr;
};

// Fills cos and sin [positions, head_dim / 2] with the scaling of `rotary` (Llama-3 and YaRN as published
// with those models).
void FillRotaryTables(const RotaryShape& rotary, int64_t head_dim, int64_t positions, float* cosine,
                      float* sine);

}  // namespace tanren

#endif  // TANREN_CORE_MODEL_DECODER_H_
