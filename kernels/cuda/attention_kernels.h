// The attention kernels of the CUDA backend and how they share out work; kernels/cuda/attention.cu chooses
// among them.
//
//  - scalar: fp32 and bf16, any head size, any alignment; plain fp32 arithmetic. What nothing else computes.
//  - mma:    bf16, head sizes 64, 80, 96, 128, 256, from sm_80 on: mma.sync with cp.async.
//  - hopper: bf16, head sizes 64, 128, 256 (backward 64, 128), sm_90a: wgmma and the bulk tensor copy engine.
//
// All compute the same function: head `h` of a query reads key/value head h / (heads / kv_heads); masks,
// window and soft cap as in kernels/attention.h. lse may be null in a forward pass.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_KERNELS_H_
#define TANREN_KERNELS_CUDA_ATTENTION_KERNELS_H_

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/types.h"

namespace tanren::kernels::cuda {

// One tile of rows of one segment: the segment's tokens are [begin, end) of the packed row, and the tile's
// rows are [row, min(row + rows per tile, end)).
struct AttentionTile {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t row = 0;
};

// Tiles of a packed row, made on the device from cu_seqlens, so that no host reads it. `tiles` has room for
// MaxTiles and `count` [1] holds how many there are. Under a causal mask the longest come first (a query tile
// that sees more keys, or a key tile that more queries see), so that the last wave of blocks is short.
struct AttentionTileList {
  const AttentionTile* tiles = nullptr;
  const int32_t* count = nullptr;
  int32_t* ticket = nullptr;  // 0: for a kernel that counts the tiles it has taken
};
enum class TileOrder : uint8_t { kQueries, kKeys };

// No more tiles than this exist, whatever the segments: the grid's size.
constexpr int64_t MaxTiles(int64_t tokens, int64_t segments, int64_t rows_per_tile) {
  return tokens / rows_per_tile + segments;
}
int64_t TileListBytes(const AttentionShape& shape, int64_t rows_per_tile);  // a multiple of 256
// `memory` is 16-byte aligned device memory of TileListBytes.
AttentionTileList BuildTiles(const Stream& stream, const AttentionShape& shape, int64_t rows_per_tile,
                             TileOrder order, void* memory);

// The operands of a pass. `d` pointers are null in a forward pass.
struct AttentionOperands {
  ConstHeads q, k, v;
  Heads o;               // written by forward, read by backward
  float* lse = nullptr;  // [heads, tokens], written by forward, read by backward
  ConstHeads d_o;
  Heads dq, dk, dv;
};

// What backward passes share: dots [heads, tokens] = sum over the head of d_o * o, in fp32.
void AttentionRowDots(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
                      float* dots);

bool ScalarAttentionSupports(const AttentionShape& shape, const AttentionOperands& operands);  // always true
void ScalarAttentionForward(const Stream& stream, const AttentionShape& shape,
                            const AttentionOperands& operands);
int64_t ScalarAttentionBackwardBytes(const AttentionShape& shape);
void ScalarAttentionBackward(const Stream& stream, const AttentionShape& shape,
                             const AttentionOperands& operands, void* workspace);

// `backward` asks about the backward pass, whose operands have more alignments to satisfy.
bool MmaAttentionSupports(const AttentionShape& shape, const AttentionOperands& operands, bool backward);
void MmaAttentionForward(const Stream& stream, const AttentionShape& shape,
                         const AttentionOperands& operands);
int64_t MmaAttentionBackwardBytes(const AttentionShape& shape);
void MmaAttentionBackward(const Stream& stream, const AttentionShape& shape,
                          const AttentionOperands& operands, void* workspace);

bool HopperAttentionForwardSupports(const AttentionShape& shape, const AttentionOperands& operands);
void HopperAttentionForward(const Stream& stream, const AttentionShape& shape,
                            const AttentionOperands& operands);

bool HopperAttentionBackwardSupports(const AttentionShape& shape, const AttentionOperands& operands);
int64_t HopperAttentionBackwardBytes(const AttentionShape& shape);
void HopperAttentionBackward(const Stream& stream, const AttentionShape& shape,
                             const AttentionOperands& operands, void* workspace);

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_ATTENTION_KERNELS_H_
