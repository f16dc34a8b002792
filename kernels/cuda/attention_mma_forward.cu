// Attention forward with mma.sync: FlashAttention-2 (Dao 2023).
//
// A block takes a tile of queries of one head and walks the key tiles that any of them sees, in order. A warp
// owns 32 query rows (16 at head size 256) and all columns, so that softmax needs no other warp:
//   S = Q K^T, hidden where masked;  online softmax in fp32;  O += P V with P straight from registers.
// There is one buffer for K and one for V: V of a step is copied while S is computed, K of the next step
// while softmax and O are.
//
// A row's exponents are taken relative to a reference that follows the row's largest score only when that has
// grown by more than kSlack: weights stay under 2^kSlack, and rescaling the output becomes rare.
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/launch.cuh"

namespace tanren::kernels::cuda {
namespace mma {
namespace {

inline constexpr float kSlack = 8;

template <int kDim_, int kRowBlocks_, int kWarps_, int kMinBlocks_>
struct ForwardTile {
  static constexpr int kDim = kDim_;
  static constexpr int kRowBlocks = kRowBlocks_;  // a warp's rows, in blocks of 16
  static constexpr int kWarpRows = kRowBlocks * kBlock;
  static constexpr int kThreads = kWarps_ * kWarp;
  static constexpr int kMinBlocks = kMinBlocks_;  // of a multiprocessor: bounds the registers
  static constexpr int kRows = kWarps_ * kWarpRows;
  static constexpr int kKeys = 64;
  static constexpr int kRowBytes = TileLayout<kDim>::kRowBytes;
  static constexpr int kSharedBytes = (kRows + 2 * kKeys) * kRowBytes;  // Q, K, V
  static_assert(kRows * kRowBytes % kTileAlignment == 0 && kKeys * kRowBytes % kTileAlignment == 0);
};
template <int kDim>
struct ForwardTileOf;
template <>
struct ForwardTileOf<64> : ForwardTile<64, 2, 4, 3> {};
template <>
struct ForwardTileOf<80> : ForwardTile<80, 2, 4, 2> {};
template <>
struct ForwardTileOf<96> : ForwardTile<96, 2, 4, 2> {};
template <>
struct ForwardTileOf<128> : ForwardTile<128, 2, 4, 2> {};
template <>
struct ForwardTileOf<256> : ForwardTile<256, 1, 8, 1> {};

__device__ __forceinline__ float QuadMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}
__device__ __forceinline__ float QuadSum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}

// Scores of a block of rows become weights; the output is rescaled where the reference moves. `sum` is of the
// lane's columns.
template <int kTiles, int kOutputTiles>
__device__ __forceinline__ void Softmax(float factor, float (&s)[kTiles][4], float (&reference)[2],
                                        float (&sum)[2], float (&o)[kOutputTiles][4]) {
  float rescale[2];
  bool moved = false;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = kHidden;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    largest = QuadMax(largest);
    // A row that has seen no key yet has a reference of -inf, from which any score is far.
    const bool moves = (largest - reference[half]) * factor > kSlack;
    rescale[half] = moves ? Exp2((reference[half] - largest) * factor) : 1.0f;
    reference[half] = moves ? largest : reference[half];
    moved |= moves;
  }
  if (__any_sync(kAllLanes, moved)) {
#pragma unroll
    for (int half = 0; half < 2; ++half) sum[half] *= rescale[half];
#pragma unroll
    for (int n = 0; n < kOutputTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] *= rescale[e / 2];
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // Without any key the weights are 2^-inf = 0, not the NaN of inf - inf.
    const float shift = reference[half] == kHidden ? 0.0f : reference[half] * factor;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        s[n][e] = Exp2(fmaf(s[n][e], factor, -shift));
        sum[half] += s[n][e];
      }
    }
  }
}

template <class Tile, bool kPlain>
__global__ __launch_bounds__(Tile::kThreads,
                             Tile::kMinBlocks) void ForwardKernel(const __grid_constant__ Parameters p) {
  constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys, kRowBlocks = Tile::kRowBlocks;
  constexpr int kThreads = Tile::kThreads;
  TANREN_DYNAMIC_SHARED(kTileAlignment, shared);

  const QueryBlock block = QueryBlockOf(p, blockIdx.x);
  AttentionTile tile;
  if (!FindTile(p.list, block.tile, &tile)) return;
  const int length = tile.end - tile.begin, first_row = tile.row - tile.begin;
  const int rows = min(Tile::kRows, length - first_row);
  const int first_key = max(0, first_row - p.back) / kKeys * kKeys;
  const int end_key = min(length, first_row + rows + p.ahead);

  const int lane = threadIdx.x % kWarp, warp = Uniform(threadIdx.x / kWarp);
  const int warp_row = first_row + warp * Tile::kWarpRows;
  const Visibility keys = VisibilityOf(p, warp_row, min(warp_row + Tile::kWarpRows, length) - 1, length);
  const uint32_t q_tile = SharedAddress(shared);
  const uint32_t k_tile = q_tile + Tile::kRows * Tile::kRowBytes;
  const uint32_t v_tile = k_tile + kKeys * Tile::kRowBytes;
  const uint32_t warp_tile = q_tile + warp * Tile::kWarpRows * Tile::kRowBytes;
  const uint32_t by_rows = LaneOffset<kDim>(LaneMap::kByRows, lane);
  const uint32_t by_columns = LaneOffset<kDim>(LaneMap::kByColumns, lane);

  const BFloat16* k = p.k.At(tile.begin, block.kv_head, kDim);
  const BFloat16* v = p.v.At(tile.begin, block.kv_head, kDim);
  CopyTile<kDim, Tile::kRows, kThreads>(q_tile, p.q.At(tile.begin, block.head, kDim), p.q.stride, first_row,
                                        length);
  CopyTile<kDim, kKeys, kThreads>(k_tile, k, p.k.stride, first_key, length);

  float o[kRowBlocks][kDim / kColumns][4] = {};
  float reference[kRowBlocks][2], sum[kRowBlocks][2];
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
    reference[m][0] = reference[m][1] = kHidden;
    sum[m][0] = sum[m][1] = 0;
  }

  for (int key = first_key; key < end_key; key += kKeys) {
    WaitForCopies();
    __syncthreads();  // K is there, and nobody reads the previous V
    CopyTile<kDim, kKeys, kThreads>(v_tile, v, p.v.stride, key, length);

    const bool seen = key < keys.end && (kPlain || key + kKeys > keys.begin);
    float s[kRowBlocks][kKeys / kColumns][4];
    if (seen) Multiply<kDim>(warp_tile + by_rows, k_tile + by_columns, s);

    WaitForCopies();
    __syncthreads();  // V is there, and nobody reads K
    if (key + kKeys < end_key) CopyTile<kDim, kKeys, kThreads>(k_tile, k, p.k.stride, key + kKeys, length);
    if (!seen) continue;

    if (!kPlain && p.scale.inner > 0) {
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
        for (int n = 0; n < kKeys / kColumns; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) s[m][n][e] = p.scale.cap * Tanh(p.scale.inner * s[m][n][e]);
        }
      }
    }
    if (key + kKeys > keys.all_end || (!kPlain && key < keys.begin + Tile::kWarpRows - 1)) {
      const int l = Opaque(lane);
      Hide<!kPlain, true>(warp_row + l / kQuad, key + l % kQuad * 2, p.back, p.ahead, length - 1, s);
    }
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) Softmax(p.scale.factor, s[m], reference[m], sum[m], o[m]);
#pragma unroll
    for (int i = 0; i < kKeys / kBlock; ++i) {
      uint32_t weights[kRowBlocks][kFragment];
      RoundToFragments(s, i, weights);
      MultiplyAdd<kDim>(weights, v_tile + by_rows + i * kBlock * Tile::kRowBytes, o);
    }
  }

  float inverse[kRowBlocks][2];
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = QuadSum(sum[m][half]);
      inverse[m][half] = 1.0f / total;
      const int row = warp_row + m * kBlock + half * (kBlock / 2) + lane / kQuad;
      if (p.lse != nullptr && lane % kQuad == 0 && row < length) {
        p.lse[block.head * p.tokens + tile.begin + row] =
            reference[m][half] * p.scale.factor * kLn2 + logf(total);
      }
    }
  }
  // The output takes the place of Q, of which each warp reads its own rows only.
  __syncwarp();
  RoundToTile<kDim>(warp_tile, lane, o, inverse);
  __syncthreads();
  StoreTile<kDim, Tile::kRows, kThreads>(q_tile, p.o.At(tile.row, block.head, kDim), p.o.stride, rows);
}

}  // namespace

int ForwardSharedBytes(int64_t head_dim) {
  return WithHeadDim(head_dim, 0, [](auto dim) { return ForwardTileOf<dim>::kSharedBytes; });
}

}  // namespace mma

void MmaAttentionForward(const Stream& stream, const AttentionShape& shape,
                         const AttentionOperands& operands) {
  TANREN_CUDA_REQUIRE(mma::ForwardSharedBytes(shape.head_dim) > 0);
  if (shape.tokens == 0) return;
  const mma::Parameters parameters = mma::ParametersOf(shape, operands, nullptr);
  mma::WithHeadDim(shape.head_dim, 0, [&](auto dim) {
    using Tile = mma::ForwardTileOf<dim>;
    mma::LaunchOverTiles(
        stream, shape, mma::IsPlain(shape) ? mma::ForwardKernel<Tile, true> : mma::ForwardKernel<Tile, false>,
        {.rows = Tile::kRows,
         .order = TileOrder::kQueries,
         .heads = shape.heads,
         .threads = Tile::kThreads,
         .shared_bytes = Tile::kSharedBytes},
        parameters, Scratch(stream, TileListBytes(shape, Tile::kRows)));
    return 0;
  });
}

}  // namespace tanren::kernels::cuda
