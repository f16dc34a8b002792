// The heads: from final hidden states to token statistics, and from a loss's seeds to gradients.
//
// Hidden states at the trained positions are compacted first and taken in chunks of `chunk_tokens` rows, so
// full logits never exist: a chunk's logits [chunk, vocabulary / tensor size] are the largest piece. With a
// token loss the gradient of a chunk is made in the same pass; with a sequence loss the logits are made
// twice. The vocabulary is split over the tensor axis; per row only a maximum and three sums cross it.
#ifndef TANREN_CORE_MODEL_HEAD_H_
#define TANREN_CORE_MODEL_HEAD_H_

#include <cstdint>
#include <vector>

#include "core/data/batch.h"
#include "core/loss/loss.h"
#include "core/model/decoder.h"
#include "core/tensor/arena.h"
#include "core/tensor/staged.h"
#include "kernels/head.h"

namespace tanren {

// Statistics of one micro-batch. Per trained position, in order of MicroBatch::trained; those not asked for
// are empty. `segment_value` is the scalar head at the last token of each segment of a unit.
struct Statistics {
  std::vector<float> logp;
  std::vector<float> lse;
  std::vector<float> entropy;
  std::vector<float> value;
  std::vector<float> segment_value;
};

// Rows of a chunk are rounded up to this: a product of few distinct shapes.
inline constexpr int64_t kHeadRowMultiple = 64;

class Head {
 public:
  // `decoder` must outlive the head. `score_offset` is the flat offset of "score.weight", or -1.
  Head(Decoder& decoder, int64_t chunk_tokens, int64_t score_offset);

  // Everything a micro-batch needs beside the trunk's activations; the arena may be shared like the trunk's.
  void LayoutActivations(Arena& arena);
  void Bind(Buffer weights, float* gradients);

  // The gradient by the hidden states that Run() fills: [capacity, width], this rank's share.
  Buffer dhidden() const { return dhidden_; }

  // Statistics only (bits of Statistic). kValue gives the segments' values and, without `per_segment`, the
  // tokens' too.
  void Score(const MicroBatch& batch, ConstBuffer hidden, uint32_t statistics, bool per_segment,
             float temperature, Statistics* out);

  // The loss of a micro-batch, added to `sums`; with `gradients` also fills dhidden() and adds to the
  // gradients of the heads' parameters.
  void Run(const MicroBatch& batch, ConstBuffer hidden, const Loss& loss, const Normalizers& normalizers,
           bool gradients, double* sums);

 private:
  // A run of rows of the compacted hidden states: those at `positions[begin, begin + count)`.
  struct Chunk {
    const std::vector<int32_t>* positions = nullptr;
    int64_t begin = 0;
    int64_t count = 0;
    int64_t rows = 0;  // count rounded up, so that few shapes of product exist; the rest are zero rows
  };
  template <class Body>
  void ForChunks(const std::vector<int32_t>& positions, const Body& body);
  void GatherChunk(const Chunk& chunk, ConstBuffer hidden);

  kernels::LogitShard Shard(const MicroBatch& batch, const Chunk& chunk, float temperature);
  void MakeLogits(const kernels::LogitShard& shard);
  void MakeStatistics(const kernels::LogitShard& shard);
  void MakeValues(const Chunk& chunk);
  void BackwardLogits(const kernels::LogitShard& shard, const Chunk& chunk, uint32_t statistics);
  void BackwardValues(const Chunk& chunk);
  void SendSeeds(const Chunk& chunk, uint32_t statistics);
  void Fetch(const Chunk& chunk, uint32_t statistics);

  void RunTokens(const MicroBatch& batch, ConstBuffer hidden, const Loss& loss,
                 const Normalizers& normalizers, bool gradients, double* sums);
  void RunSegments(const MicroBatch& batch, ConstBuffer hidden, const Loss& loss,
                   const Normalizers& normalizers, bool gradients, double* sums);
  void BackwardSegments(const MicroBatch& batch, ConstBuffer hidden, float temperature,
                        const std::vector<float>& lse, const std::vector<float>& dlogp_sum);
  void BackwardSegmentValues(const MicroBatch& batch, ConstBuffer hidden, const std::vector<float>& dvalue);

  Decoder& decoder_;
  int64_t chunk_tokens_;
  int64_t score_offset_;
  ConstBuffer score_weight_;
  float* gradients_ = nullptr;

  Buffer dhidden_;           // [capacity, width]
  Buffer x_;                 // [chunk, width]
  Buffer dx_;                // [chunk, width]
  float* logits_ = nullptr;  // [chunk, local vocabulary]
  Buffer dlogits_;           // the logits' memory in fp32
  float* max_ = nullptr;     // [chunk]
  float* sums_ = nullptr;    // [3, chunk]
  // [chunk] each. The loss reads statistics and writes seeds on the host.
  Staged<float> logp_, lse_, entropy_, value_;
  Staged<float> dlogp_, dlse_, dentropy_, dvalue_;
  Staged<int32_t> positions_;  // rows of the hidden states
  Staged<int32_t> targets_;
};

}  // namespace tanren

#endif  // TANREN_CORE_MODEL_HEAD_H_
