// What the mma attention kernels share: tiles of heads in shared memory, their products, and the mask.
//
// Shared memory. A tile is rows of kDim bf16 numbers without padding, in chunks of 16 bytes. ldmatrix reads
// the same chunk of eight neighbouring rows, which would fall on the same banks; so the chunk's place within
// its row is XORed with a number that depends on the row (TileLayout), and every read and write of eight
// chunks covers all 32 banks once.
//
// Products. Every operand is read in blocks of 16 x 16, of which each lane points at one row of eight: lane i
// at row i % 16, chunk i / 16 (kByRows), so that the four registers are an A fragment, or, read transposed,
// the B fragments of two neighbouring column tiles; or at row i % 8 + i / 16 * 8, chunk i / 8 % 2
// (kByColumns), so that they are the B fragments of two column tiles of the block's transpose. Products whose
// left operand is computed (weights, score gradients) take it from accumulators, so it never passes through
// shared memory.
//
// Masks. Positions count from the segment's begin. A query at i sees the keys of [i - back, i + ahead] that
// exist: causal is ahead = 0, a window of w limits both to w - 1.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_MMA_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_MMA_CUH_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_mma_instructions.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda::mma {

inline constexpr int kBlock = 16;  // rows, and columns, of what one ldmatrix reads
inline constexpr int kChunk = 8;   // bf16 numbers in 16 bytes
inline constexpr int kChunkBytes = 16;
inline constexpr int kTileAlignment = 128;  // bytes; of a tile in shared memory
inline constexpr int kBankChunks = 8;       // chunks that one pass over the banks delivers
inline constexpr int kColumns = 8;          // of an accumulator tile
inline constexpr int kQuad = 4;             // lanes that share an accumulator tile's row
inline constexpr int kFragment = 4;         // registers of an A fragment and of an accumulator tile
inline constexpr int kLeastMajor = 8;       // compute capability
inline constexpr int kLeastRows = 64;       // of any kernel's tile
inline constexpr int64_t kMostTokens = int64_t{1} << 29;  // positions and a window's ends are 32-bit
inline constexpr int64_t kMostStride = int64_t{1} << 29;  // in elements
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;
inline constexpr float kHidden = -std::numeric_limits<float>::infinity();

template <int kDim>
struct TileLayout {
  static_assert(kDim % kBlock == 0);
  static constexpr int kChunks = kDim / kChunk;
  static constexpr int kRowBytes = kChunks * kChunkBytes;
  // Rows begin at this many different places modulo the banks' width, over kBankChunks / kSwizzle rows; then
  // they repeat, and the next swizzle takes over.
  static constexpr int kSwizzle = std::gcd(kChunks, kBankChunks);

  __host__ __device__ static constexpr int Swizzle(int row) {
    return row / (kBankChunks / kSwizzle) % kSwizzle;
  }
  __host__ __device__ static constexpr int Offset(int row, int chunk) {
    return row * kRowBytes + (chunk ^ Swizzle(row)) * kChunkBytes;
  }
};

// Where a lane points ldmatrix within the 16 x 16 block whose first chunk is `first`.
enum class LaneMap { kByRows, kByColumns };
template <int kDim>
__host__ __device__ constexpr int LaneOffset(LaneMap map, int lane, int first = 0) {
  const int low = lane % 8, middle = lane / 8 % 2, high = lane / 16;
  return map == LaneMap::kByRows ? TileLayout<kDim>::Offset(low + middle * 8, first + high)
                                 : TileLayout<kDim>::Offset(low + high * 8, first + middle);
}
// The address in block column i of those that begin at chunks first + kStride * i, from the one in column 0.
// The swizzle of a row changes bits of the chunk's number that are zero in a multiple of kSwizzle, so up to
// there it is an exclusive or, and beyond it a sum. Tiles must be aligned to 128 bytes.
template <int kDim, int kStride = kBlock / kChunk>
__host__ __device__ constexpr uint32_t BlockAddress(uint32_t address, int i) {
  static_assert((kStride & (kStride - 1)) == 0 && kStride * kChunk >= kBlock);
  constexpr int kPeriod = std::max(1, TileLayout<kDim>::kSwizzle / kStride);
  return (address ^ (i % kPeriod * kStride * kChunkBytes)) + i / kPeriod * (kPeriod * kStride * kChunkBytes);
}

// How threads share the chunks of a tile: a power of two of them takes neighbouring chunks of a row, and the
// next ones the next row. A thread's rows lie a multiple of eight apart and its chunks a multiple of the
// swizzle, so its places in the tile differ by constants.
template <int kDim, int kRows, int kThreads>
struct TileShare {
  using Layout = TileLayout<kDim>;
  static constexpr int kLanes = Layout::kChunks & -Layout::kChunks;
  static constexpr int kRowStep = kThreads / kLanes;
  static_assert(kThreads % kLanes == 0 && kRowStep % kBankChunks == 0 && kLanes % Layout::kSwizzle == 0);
  static_assert(kRows % kRowStep == 0 || kRowStep % kRows == 0);

  // Calls body(row, offset, chunk) with the row and the chunk of each, and the offset in the tile.
  template <class Body>
  __device__ static __forceinline__ void ForEach(const Body& body) {
    const int first_row = threadIdx.x / kLanes, first_chunk = threadIdx.x % kLanes;
    if (kRowStep > kRows && first_row >= kRows) return;
    const uint32_t first = Layout::Offset(first_row, first_chunk);
#pragma unroll
    for (int row = 0; row < kRows; row += kRowStep) {
#pragma unroll
      for (int chunk = 0; chunk < Layout::kChunks; chunk += kLanes) {
        body(first_row + row, first + row * Layout::kRowBytes + chunk * kChunkBytes, first_chunk + chunk);
      }
    }
  }
};

// Starts copies of rows [first, first + kRows) of those from `from` on, `stride` bytes apart, to a tile. Rows
// from `end` on (which is positive) are not read; their places become zero.
template <int kDim, int kRows, int kThreads>
__device__ __forceinline__ void CopyTile(uint32_t to, const BFloat16* from, int stride, int first, int end) {
  TileShare<kDim, kRows, kThreads>::ForEach([&](int row, uint32_t offset, int chunk) {
    const int64_t place = static_cast<int64_t>(min(first + row, end - 1)) * stride + chunk * kChunkBytes;
    CopyAsync16(to + offset, reinterpret_cast<const char*>(from) + place, first + row < end);
  });
}

// Writes rows [0, rows) of a tile to memory.
template <int kDim, int kRows, int kThreads>
__device__ __forceinline__ void StoreTile(uint32_t from, BFloat16* to, int stride, int rows) {
  TileShare<kDim, kRows, kThreads>::ForEach([&](int row, uint32_t offset, int chunk) {
    if (row >= rows) return;
    uint32_t value[kFragment];
    LoadShared16(value, from + offset);
    const int64_t place = static_cast<int64_t>(row) * stride + chunk * kChunkBytes;
    StoreGlobal(reinterpret_cast<uint4*>(reinterpret_cast<char*>(to) + place),
                uint4{value[0], value[1], value[2], value[3]});
  });
}

// Rounds accumulators times `factor` into a tile. `column_stride`, `column`: the block columns that the
// accumulators hold are column, column + column_stride, ...
template <int kDim, int kRowBlocks, int kTiles>
__device__ __forceinline__ void RoundToTile(uint32_t to, int lane, const float (&c)[kRowBlocks][kTiles][4],
                                            const float (&factor)[kRowBlocks][2], int column_stride = 1,
                                            int column = 0) {
  using Layout = TileLayout<kDim>;
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int chunk = (n / 2 * column_stride + column) * (kBlock / kChunk) + n % 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = m * kBlock + half * (kBlock / 2) + lane / kQuad;
        const float by = factor[m][half];
        StoreShared4(to + Layout::Offset(row, chunk) + lane % kQuad * 4,
                     PackBf16(c[m][n][2 * half] * by, c[m][n][2 * half + 1] * by));
      }
    }
  }
}

// c = A B^T over kDim: 16 * kRowBlocks rows of A, 8 * kTiles rows of B. `a` and `b` are where the lane points
// in the first block of each, by rows and by columns.
template <int kDim, int kRowBlocks, int kTiles>
__device__ __forceinline__ void Multiply(uint32_t a, uint32_t b, float (&c)[kRowBlocks][kTiles][4]) {
  constexpr int kBlockBytes = kBlock * TileLayout<kDim>::kRowBytes;
  a = Opaque(a), b = Opaque(b);
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) c[m][n][e] = 0;
    }
  }
#pragma unroll
  for (int k = 0; k < kDim / kBlock; ++k) {
    uint32_t left[kRowBlocks][kFragment];
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) LoadMatrices(left[m], BlockAddress<kDim>(a, k) + m * kBlockBytes);
#pragma unroll
    for (int n = 0; n < kTiles / 2; ++n) {
      uint32_t right[kFragment];
      LoadMatrices(right, BlockAddress<kDim>(b, k) + n * kBlockBytes);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) {
        Mma(c[m][2 * n], left[m], right[0], right[1]);
        Mma(c[m][2 * n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// c += A B for 16 rows of B. `b` is where the lane points, by rows, in the first block column; the next
// begins kStride chunks further.
template <int kDim, int kStride = kBlock / kChunk, int kRowBlocks, int kTiles>
__device__ __forceinline__ void MultiplyAdd(const uint32_t (&a)[kRowBlocks][kFragment], uint32_t b,
                                            float (&c)[kRowBlocks][kTiles][4]) {
  b = Opaque(b);
#pragma unroll
  for (int n = 0; n < kTiles / 2; ++n) {
    uint32_t right[kFragment];
    LoadMatricesTransposed(right, BlockAddress<kDim, kStride>(b, n));
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) {
      Mma(c[m][2 * n], a[m], right[0], right[1]);
      Mma(c[m][2 * n + 1], a[m], right[2], right[3]);
    }
  }
}

// The A fragments of columns [16 k, 16 k + 16) of accumulators.
template <int kRowBlocks, int kTiles>
__device__ __forceinline__ void RoundToFragments(const float (&c)[kRowBlocks][kTiles][4], int k,
                                                 uint32_t (&a)[kRowBlocks][kFragment]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int i = 0; i < kFragment; ++i) {
      const float* pair = &c[m][2 * k + i / 2][2 * (i % 2)];
      a[m][i] = PackBf16(pair[0], pair[1]);
    }
  }
}

// Hides the scores of a row at `row` in columns outside [row - before, min(row + after, last)]. `row` and
// `column` are the positions of the lane's first row and column; a side that is not asked for never hides.
template <bool kBefore, bool kAfter, int kRowBlocks, int kTiles>
__device__ __forceinline__ void Hide(int row, int column, int before, int after, int last,
                                     float (&s)[kRowBlocks][kTiles][4]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = row + m * kBlock + half * (kBlock / 2);
      const int low = at - before - column, high = min(at + after, last) - column;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int i = n * kColumns + e;
          if ((kBefore && i < low) || (kAfter && i > high)) s[m][n][2 * half + e] = kHidden;
        }
      }
    }
  }
}

// From a product q.k to the exponent of two: cap * tanh(scale / cap * x) * log2(e), or scale * x * log2(e).
struct ScoreScale {
  explicit ScoreScale(const AttentionShape& shape)
      : gradient(shape.scale),
        factor(shape.soft_cap > 0 ? 1.0f : shape.scale * kLog2E),
        inner(shape.soft_cap > 0 ? shape.scale / shape.soft_cap : 0.0f),
        cap(shape.soft_cap * kLog2E) {}
  float gradient;  // d (score) / d (q.k), less the cap's slope
  float factor;    // of a product, or of a score that is capped already
  float inner;     // 0: no cap
  float cap;
};

// Within 2^-20 of the result: the quotient loses digits near zero, where five terms of the series do not.
__device__ __forceinline__ float Tanh(float x) {
  constexpr float kSeriesEnd = 0.25f;
  const float square = x * x;
  float series = fmaf(square, 62.0f / 2835, -17.0f / 315);
  series = fmaf(series, square, 2.0f / 15);
  series = fmaf(series, square, -1.0f / 3);
  series = fmaf(series * square, x, x);
  const float e = Exp2(-2 * kLog2E * fabsf(x));
  const float quotient = __fdividef(1 - e, 1 + e);
  return fabsf(x) < kSeriesEnd ? series : copysignf(quotient, x);
}

// A value that is the same on all lanes, told to the compiler, which can then keep one copy for the warp.
__device__ __forceinline__ int Uniform(int value) { return __shfl_sync(kAllLanes, value, 0); }

struct HeadRows {
  BFloat16* data = nullptr;
  int32_t stride = 0;  // in bytes

  __device__ BFloat16* At(int64_t token, int64_t head, int dim) const {
    return data + token * (stride / static_cast<int>(sizeof(BFloat16))) + head * dim;
  }
};

// What a kernel is told. `group`: query heads of a key/value head.
struct Parameters {
  HeadRows q, k, v, o, d_o, dq, dk, dv;
  float* lse;         // [heads, tokens]
  const float* dots;  // [heads, tokens]
  int64_t tokens;
  int32_t group;
  int32_t max_tiles;
  AttentionTileList list;
  int32_t back, ahead;
  ScoreScale scale;
};

inline HeadRows RowsOf(const ConstHeads& heads) {
  return {const_cast<BFloat16*>(heads.data.as<BFloat16>()),
          static_cast<int32_t>(heads.stride * SizeOf(DType::kBF16))};
}
inline HeadRows RowsOf(const Heads& heads) {
  return {heads.data.as<BFloat16>(), static_cast<int32_t>(heads.stride * SizeOf(DType::kBF16))};
}

inline Parameters ParametersOf(const AttentionShape& shape, const AttentionOperands& operands,
                               const float* dots) {
  const int64_t reach = shape.window > 0 ? std::min(shape.window - 1, shape.tokens) : shape.tokens;
  return {.q = RowsOf(operands.q),
          .k = RowsOf(operands.k),
          .v = RowsOf(operands.v),
          .o = RowsOf(operands.o),
          .d_o = RowsOf(operands.d_o),
          .dq = RowsOf(operands.dq),
          .dk = RowsOf(operands.dk),
          .dv = RowsOf(operands.dv),
          .lse = operands.lse,
          .dots = dots,
          .tokens = shape.tokens,
          .group = static_cast<int32_t>(shape.heads / shape.kv_heads),
          .max_tiles = 0,
          .list = {},
          .back = static_cast<int32_t>(reach),
          .ahead = shape.mask == AttentionMask::kCausal ? 0 : static_cast<int32_t>(reach),
          .scale = ScoreScale(shape)};
}

// The tile of a block, or false: the grid is for the most tiles that there could be.
__device__ __forceinline__ bool FindTile(const AttentionTileList& list, int index, AttentionTile* tile) {
  if (index >= *list.count) return false;
  const AttentionTile found = list.tiles[index];
  *tile = {.begin = Uniform(found.begin), .end = Uniform(found.end), .row = Uniform(found.row)};
  return true;
}

// How the grid of a kernel over query tiles is numbered: heads of a group are neighbours, because they read
// the same keys; then come tiles, longest first, then key/value heads.
struct QueryBlock {
  int tile, head, kv_head;
};
__device__ __forceinline__ QueryBlock QueryBlockOf(const Parameters& p, int index) {
  const int rest = index / p.group, kv_head = rest / p.max_tiles;
  return {.tile = rest % p.max_tiles, .head = kv_head * p.group + index % p.group, .kv_head = kv_head};
}

// What a warp's rows of queries, [first, last] and none if first > last, see of the keys: any row sees some
// of [begin, end); every row sees the keys from begin + rows - 1 to all_end.
struct Visibility {
  int begin, end, all_end;
};
__device__ __forceinline__ Visibility VisibilityOf(const Parameters& p, int first, int last, int length) {
  return {.begin = first - p.back,
          .end = Uniform(first <= last ? min(last + p.ahead + 1, length) : 0),
          .all_end = Uniform(min(first + p.ahead + 1, length))};
}

// Kernels come in two versions: with neither window nor soft cap, and with both as run-time choices.
inline bool IsPlain(const AttentionShape& shape) { return shape.window <= 0 && shape.soft_cap <= 0; }

// body(an integral constant) of a supported head size, or `otherwise`.
template <class Result, class Body>
Result WithHeadDim(int64_t head_dim, Result otherwise, const Body& body) {
  switch (head_dim) {
    case 64:
      return body(std::integral_constant<int, 64>());
    case 80:
      return body(std::integral_constant<int, 80>());
    case 96:
      return body(std::integral_constant<int, 96>());
    case 128:
      return body(std::integral_constant<int, 128>());
    case 256:
      return body(std::integral_constant<int, 256>());
  }
  return otherwise;
}

using Kernel = void (*)(Parameters);
struct LaunchShape {
  int rows = 0;  // of a tile
  TileOrder order = TileOrder::kQueries;
  int64_t heads = 0;  // blocks for each tile
  int threads = 0;
  int shared_bytes = 0;
};
// Makes the tiles at `memory`, of TileListBytes, and launches a block for each that could exist.
inline void LaunchOverTiles(const Stream& stream, const AttentionShape& shape, Kernel kernel,
                            const LaunchShape& launch, Parameters parameters, void* memory) {
  const int64_t max_tiles = MaxTiles(shape.tokens, shape.segments, launch.rows);
  parameters.max_tiles = static_cast<int32_t>(max_tiles);
  parameters.list = BuildTiles(stream, shape, launch.rows, launch.order, memory);
  const void* function = reinterpret_cast<const void*>(kernel);
  TANREN_CUDA(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, launch.shared_bytes));
  TANREN_CUDA(cudaFuncSetAttribute(function, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared));
  LaunchInTurnWithMemory(stream, kernel, static_cast<unsigned>(max_tiles * launch.heads), launch.threads,
                         launch.shared_bytes, parameters);
}

int ForwardSharedBytes(int64_t head_dim);

}  // namespace tanren::kernels::cuda::mma

#endif  // TANREN_KERNELS_CUDA_ATTENTION_MMA_CUH_
