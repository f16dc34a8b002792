// Embedding look-up of a vocabulary shard, and its gradient.
#ifndef TANREN_KERNELS_EMBEDDING_H_
#define TANREN_KERNELS_EMBEDDING_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

struct EmbeddingArgs {
  int64_t tokens = 0;
  int64_t width = 0;
  const int32_t* ids = nullptr;  // [tokens]
  int64_t first_id = 0;          // this shard holds ids [first_id, first_id + rows)
  int64_t rows = 0;
};
// y [tokens, width] = scale * table[id - first_id], or zero where the shard does not hold the id.
// `accumulate` adds to y instead (learned positions on top of token embeddings).
void EmbeddingForward(const Stream& stream, const EmbeddingArgs& args, ConstBuffer table, float scale,
                      Buffer y, bool accumulate);

// dtable [rows, width] (fp32) += scale * dy of the tokens that looked the row up, summed in token order
// whatever the number of threads.
void EmbeddingBackward(const Stream& stream, const EmbeddingArgs& args, ConstBuffer dy, float scale,
                       float* dtable);

// out[i, :] = in[indices[i], :] for `count` rows of `width` elements (compaction of trained positions).
void GatherRows(const Stream& stream, int64_t count, int64_t width, const int32_t* indices, ConstBuffer in,
                Buffer out);
// out[indices[i], :] += in[i, :]; indices are distinct. out and in share one dtype, or in is kF32.
void ScatterAddRows(const Stream& stream, int64_t count, int64_t width, const int32_t* indices,
                    ConstBuffer in, Buffer out);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_EMBEDDING_H_
