// Gradients of keys and values with mma.sync.
//
// A block takes a tile of keys of one key/value head and walks the query heads of its group in order, and for
// each the query tiles that see any of its keys, so a sum's order is fixed and no atomics are needed. Q and
// dO of the next step are copied while this one is computed.
//
// Scores are computed transposed, keys being rows: a warp owns 16 or 32 keys, and P^T and dS^T leave the
// accumulators as the left operands of dV and dK. At larger head sizes dK and dV of 32 keys would not fit a
// warp's registers; then two warps (kParts) share the keys. Each computes P^T and dS^T of half the tile's
// queries, they exchange them as fragments through shared memory, and each sums dK and dV of every other 16
// columns.
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/launch.cuh"

namespace tanren::kernels::cuda::mma {
namespace {

template <int kDim_, int kRowBlocks_, int kGroups_, int kParts_, int kQueries_, int kMinBlocks_>
struct KeysTile {
  static constexpr int kDim = kDim_;
  static constexpr int kRowBlocks = kRowBlocks_;  // a warp's keys, in blocks of 16
  static constexpr int kWarpKeys = kRowBlocks * kBlock;
  static constexpr int kParts = kParts_;
  static constexpr int kThreads = kGroups_ * kParts * kWarp;
  static constexpr int kMinBlocks = kMinBlocks_;
  static constexpr int kKeys = kGroups_ * kWarpKeys;
  static constexpr int kQueries = kQueries_;  // of a step
  static constexpr int kPartQueries = kQueries / kParts;
  static constexpr int kPartBlocks = kPartQueries / kBlock;

  static constexpr int kRowBytes = TileLayout<kDim>::kRowBytes;
  static constexpr int kKeyTileBytes = kKeys * kRowBytes;
  static constexpr int kQueryTileBytes = kQueries * kRowBytes;
  static constexpr int kStatisticBytes = kQueries * static_cast<int>(sizeof(float));
  static constexpr int kStageBytes = 2 * kQueryTileBytes + 2 * kStatisticBytes;  // Q, dO, lse, dots
  static constexpr int kStages = 2;
  static constexpr int kFragmentBytes = kWarp * kFragment * static_cast<int>(sizeof(uint32_t));
  // P^T and dS^T of a group of warps.
  static constexpr int kExchangeBytes = kParts == 1 ? 0 : 2 * kQueries / kBlock * kRowBlocks * kFragmentBytes;
  static constexpr int kSharedBytes = 2 * kKeyTileBytes + kStages * kStageBytes + kGroups_ * kExchangeBytes;
  static_assert(kThreads >= 2 * kQueries && kPartQueries % kBlock == 0 && kParts <= 2);
  static_assert(kDim / kBlock % kParts == 0 && kStageBytes % kTileAlignment == 0 &&
                kKeyTileBytes % kTileAlignment == 0);
};
template <int kDim>
struct KeysTileOf;
template <>
struct KeysTileOf<64> : KeysTile<64, 2, 4, 1, 32, 2> {};
template <>
struct KeysTileOf<80> : KeysTile<80, 1, 4, 1, 64, 2> {};
template <>
struct KeysTileOf<96> : KeysTile<96, 2, 4, 2, 64, 1> {};
template <>
struct KeysTileOf<128> : KeysTile<128, 2, 4, 2, 64, 1> {};
template <>
struct KeysTileOf<256> : KeysTile<256, 1, 4, 2, 32, 1> {};

// dP^T less the dots of each query, which begin at `dots` for the lane's first one.
template <int kRowBlocks, int kTiles>
__device__ __forceinline__ void SubtractDots(uint32_t dots, float (&dp)[kRowBlocks][kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const float2 dot = LoadSharedFloat2(dots + n * kColumns * sizeof(float));
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) {
      dp[m][n][0] -= dot.x, dp[m][n][1] -= dot.y;
      dp[m][n][2] -= dot.x, dp[m][n][3] -= dot.y;
    }
  }
}

// Scores become weights P^T, and dP^T less dots becomes dS^T. `lse` as `dots` above.
template <int kRowBlocks, int kTiles>
__device__ __forceinline__ void Weigh(float factor, uint32_t lse, float (&s)[kRowBlocks][kTiles][4],
                                      float (&dp)[kRowBlocks][kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const float2 log_sum = LoadSharedFloat2(lse + n * kColumns * sizeof(float));
    const float shift[2] = {log_sum.x * kLog2E, log_sum.y * kLog2E};
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[m][n][e] = Exp2(fmaf(s[m][n][e], factor, -shift[e % 2]));
        dp[m][n][e] *= s[m][n][e];
      }
    }
  }
}

template <class Tile, bool kPlain>
__global__ __launch_bounds__(Tile::kThreads,
                             Tile::kMinBlocks) void BackwardKeysKernel(const __grid_constant__ Parameters p) {
  constexpr int kDim = Tile::kDim, kThreads = Tile::kThreads, kRowBlocks = Tile::kRowBlocks;
  constexpr int kKeys = Tile::kKeys, kQueries = Tile::kQueries, kParts = Tile::kParts;
  constexpr int kPartQueries = Tile::kPartQueries, kPartBlocks = Tile::kPartBlocks;
  constexpr int kRowBytes = Tile::kRowBytes, kBlockBytes = kBlock * kRowBytes;
  constexpr int kColumnStride = kParts * kBlock / kChunk;  // chunks from a block column of a warp to its next
  constexpr int kWarpTiles = kDim / kColumns / kParts;
  TANREN_DYNAMIC_SHARED(kTileAlignment, shared);

  const int kv_head = static_cast<int>(blockIdx.x) / p.max_tiles;
  AttentionTile tile;
  if (!FindTile(p.list, static_cast<int>(blockIdx.x) % p.max_tiles, &tile)) return;
  const int length = tile.end - tile.begin, first_key = tile.row - tile.begin;
  const int keys = min(kKeys, length - first_key);
  const int first_query = max(0, first_key - p.ahead) / kQueries * kQueries;
  const int end_query = min(length, first_key + keys + p.back);

  const int lane = threadIdx.x % kWarp, warp = Uniform(threadIdx.x / kWarp);
  const int group = warp / kParts, part = warp % kParts;
  const int warp_key = first_key + group * Tile::kWarpKeys;
  const int last_key = min(warp_key + Tile::kWarpKeys, length) - 1;
  const uint32_t by_columns = LaneOffset<kDim>(LaneMap::kByColumns, lane) + part * kPartQueries * kRowBytes;
  const uint32_t own_columns = LaneOffset<kDim>(LaneMap::kByRows, lane, part * kBlock / kChunk);

  const uint32_t k_tile = SharedAddress(shared);
  const uint32_t v_tile = k_tile + Tile::kKeyTileBytes;
  const uint32_t stages = v_tile + Tile::kKeyTileBytes;
  const uint32_t warp_tile = k_tile + group * Tile::kWarpKeys * kRowBytes;
  const uint32_t keys_by_rows = warp_tile + LaneOffset<kDim>(LaneMap::kByRows, lane);
  const uint32_t exchange = stages + Tile::kStages * Tile::kStageBytes + group * Tile::kExchangeBytes +
                            lane * Tile::kFragmentBytes / kWarp;

  const auto copy_step = [&](uint32_t stage, int head, int query) {
    CopyTile<kDim, kQueries, kThreads>(stage, p.q.At(tile.begin, head, kDim), p.q.stride, query, length);
    CopyTile<kDim, kQueries, kThreads>(stage + Tile::kQueryTileBytes, p.d_o.At(tile.begin, head, kDim),
                                       p.d_o.stride, query, length);
    // Beyond the end of the segment Q, dO, lse and dots are zero, and so is what they add.
    const int i = static_cast<int>(threadIdx.x) % kQueries;
    if (kThreads == 2 * kQueries || threadIdx.x < 2 * kQueries) {
      const float* from = threadIdx.x < kQueries ? p.lse : p.dots;
      CopyAsync4(stage + 2 * Tile::kQueryTileBytes + threadIdx.x * static_cast<uint32_t>(sizeof(float)),
                 from + head * p.tokens + tile.begin + min(query + i, length - 1), query + i < length);
    }
  };

  float dk[kRowBlocks][kWarpTiles][4] = {}, dv[kRowBlocks][kWarpTiles][4] = {};
  int head = kv_head * p.group;
  const int end_head = head + p.group;
  CopyTile<kDim, kKeys, kThreads>(k_tile, p.k.At(tile.begin, kv_head, kDim), p.k.stride, first_key, length);
  CopyTile<kDim, kKeys, kThreads>(v_tile, p.v.At(tile.begin, kv_head, kDim), p.v.stride, first_key, length);
  copy_step(stages, head, first_query);

  uint32_t stage = stages, other_stage = stages + Tile::kStageBytes;
  for (int query = first_query; head < end_head;) {
    WaitForCopies();
    __syncthreads();  // this step is there, and nobody reads the previous one
    int next_head = head, next_query = query + kQueries;
    if (next_query >= end_query) ++next_head, next_query = first_query;
    if (next_head < end_head) copy_step(other_stage, next_head, next_query);

    const int last_query = min(query + kQueries, length) - 1;
    const bool seen =
        warp_key < length && warp_key <= last_query + p.ahead && (kPlain || last_key >= query - p.back);
    if (seen) {
      const uint32_t q_tile = stage, do_tile = stage + Tile::kQueryTileBytes;
      const int part_query = query + part * kPartQueries;
      float s[kRowBlocks][kPartQueries / kColumns][4], ds[kRowBlocks][kPartQueries / kColumns][4];
      Multiply<kDim>(keys_by_rows, q_tile + by_columns, s);
      Multiply<kDim>(keys_by_rows + Tile::kKeyTileBytes, do_tile + by_columns, ds);

      const uint32_t lse =
          stage + 2 * Tile::kQueryTileBytes +
          (part * kPartQueries + Opaque(lane) % kQuad * 2) * static_cast<uint32_t>(sizeof(float));
      SubtractDots(lse + Tile::kStatisticBytes, ds);
      if (!kPlain && p.scale.inner > 0) Cap(p.scale, s, ds);
      const bool all_visible =
          last_key <= part_query + p.ahead && (kPlain || warp_key >= part_query + kPartQueries - 1 - p.back);
      if (!all_visible) {
        const int l = Opaque(lane);
        Hide<true, !kPlain>(warp_key + l / kQuad, part_query + l % kQuad * 2, p.ahead, p.back, length - 1, s);
      }
      Weigh(p.scale.factor, lse, s, ds);

      const auto place = [&](int which, int block, int m) {
        return exchange + ((which * kQueries / kBlock + block) * kRowBlocks + m) * Tile::kFragmentBytes;
      };
#pragma unroll
      for (int i = 0; i < kPartBlocks; ++i) {
        const int block = part * kPartBlocks + i;
        uint32_t weights[kRowBlocks][kFragment], gradients[kRowBlocks][kFragment];
        RoundToFragments(s, i, weights);
        RoundToFragments(ds, i, gradients);
        if (kParts > 1) {
#pragma unroll
          for (int m = 0; m < kRowBlocks; ++m) {
            StoreShared16(place(0, block, m), weights[m]);
            StoreShared16(place(1, block, m), gradients[m]);
          }
        }
        MultiplyAdd<kDim, kColumnStride>(weights, do_tile + own_columns + block * kBlockBytes, dv);
        MultiplyAdd<kDim, kColumnStride>(gradients, q_tile + own_columns + block * kBlockBytes, dk);
      }
      if (kParts > 1) {
        SyncThreads(1 + group, kParts * kWarp);
#pragma unroll
        for (int i = 0; i < kPartBlocks; ++i) {
          const int block = (1 - part) * kPartBlocks + i;
          uint32_t weights[kRowBlocks][kFragment], gradients[kRowBlocks][kFragment];
#pragma unroll
          for (int m = 0; m < kRowBlocks; ++m) {
            LoadShared16(weights[m], place(0, block, m));
            LoadShared16(gradients[m], place(1, block, m));
          }
          MultiplyAdd<kDim, kColumnStride>(weights, do_tile + own_columns + block * kBlockBytes, dv);
          MultiplyAdd<kDim, kColumnStride>(gradients, q_tile + own_columns + block * kBlockBytes, dk);
        }
      }
    }
    head = next_head, query = next_query;
    const uint32_t swap = stage;
    stage = other_stage, other_stage = swap;
  }

  // The gradients take the places of K and V.
  float by[kRowBlocks][2], one[kRowBlocks][2];
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) by[m][0] = by[m][1] = p.scale.gradient, one[m][0] = one[m][1] = 1;
  __syncthreads();
  RoundToTile<kDim>(warp_tile, lane, dk, by, kParts, part);
  RoundToTile<kDim>(warp_tile + Tile::kKeyTileBytes, lane, dv, one, kParts, part);
  __syncthreads();
  StoreTile<kDim, kKeys, kThreads>(k_tile, p.dk.At(tile.row, kv_head, kDim), p.dk.stride, keys);
  StoreTile<kDim, kKeys, kThreads>(v_tile, p.dv.At(tile.row, kv_head, kDim), p.dv.stride, keys);
}

}  // namespace

int64_t BackwardKeysTileBytes(const AttentionShape& shape) {
  return WithHeadDim(shape.head_dim, int64_t{0},
                     [&](auto dim) { return TileListBytes(shape, KeysTileOf<dim>::kKeys); });
}

int BackwardKeysSharedBytes(int64_t head_dim) {
  return WithHeadDim(head_dim, 0, [](auto dim) { return KeysTileOf<dim>::kSharedBytes; });
}

void BackwardKeys(const Stream& stream, const AttentionShape& shape, const Parameters& parameters,
                  void* memory) {
  WithHeadDim(shape.head_dim, 0, [&](auto dim) {
    using Tile = KeysTileOf<dim>;
    LaunchOverTiles(stream, shape,
                    IsPlain(shape) ? BackwardKeysKernel<Tile, true> : BackwardKeysKernel<Tile, false>,
                    {.rows = Tile::kKeys,
                     .order = TileOrder::kKeys,
                     .heads = shape.kv_heads,
                     .threads = Tile::kThreads,
                     .shared_bytes = Tile::kSharedBytes},
                    parameters, memory);
    return 0;
  });
}

}  // namespace tanren::kernels::cuda::mma
