// Attention backward with mma.sync: the dots, then dk and dv (attention_mma_backward_keys.cu), then dq here.
// Each output has one owner, so nothing is added atomically and results are the same in every run; scores are
// computed twice for it.
//
// The kernel of dq has the shape of the forward pass: a block takes a tile of queries of one head and walks
// the key tiles that any of them sees, a warp owning 16 or 32 rows:
//   dP = dO V^T;  S = Q K^T;  dS = P (dP - dots);  dQ += dS K.
// There is one buffer for V and one for K: K of a step is copied while dP is computed, V of the next step
// while S and dQ are.
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/launch.cuh"

namespace tanren::kernels::cuda {
namespace mma {
namespace {

template <int kDim_, int kRowBlocks_, int kWarps_, int kKeys_, int kMinBlocks_>
struct QueriesTile {
  static constexpr int kDim = kDim_;
  static constexpr int kRowBlocks = kRowBlocks_;  // a warp's rows, in blocks of 16
  static constexpr int kWarpRows = kRowBlocks * kBlock;
  static constexpr int kThreads = kWarps_ * kWarp;
  static constexpr int kMinBlocks = kMinBlocks_;
  static constexpr int kRows = kWarps_ * kWarpRows;
  static constexpr int kKeys = kKeys_;
  static constexpr int kRowBytes = TileLayout<kDim>::kRowBytes;
  static constexpr int kQueryTileBytes = kRows * kRowBytes;
  static constexpr int kKeyTileBytes = kKeys * kRowBytes;
  static constexpr int kSharedBytes = 2 * kQueryTileBytes + 2 * kKeyTileBytes;  // Q, dO, K, V
  static_assert(kQueryTileBytes % kTileAlignment == 0 && kKeyTileBytes % kTileAlignment == 0);
};
template <int kDim>
struct QueriesTileOf;
template <>
struct QueriesTileOf<64> : QueriesTile<64, 2, 4, 48, 2> {};
template <>
struct QueriesTileOf<80> : QueriesTile<80, 2, 4, 32, 2> {};
template <>
struct QueriesTileOf<96> : QueriesTile<96, 2, 4, 32, 2> {};
template <>
struct QueriesTileOf<128> : QueriesTile<128, 2, 4, 32, 2> {};
template <>
struct QueriesTileOf<256> : QueriesTile<256, 1, 8, 32, 1> {};

template <class Tile, bool kPlain>
__global__ __launch_bounds__(Tile::kThreads, Tile::kMinBlocks) void BackwardQueriesKernel(
    const __grid_constant__ Parameters p) {
  constexpr int kDim = Tile::kDim, kThreads = Tile::kThreads, kRowBlocks = Tile::kRowBlocks;
  constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kKeyTiles = kKeys / kColumns;
  TANREN_DYNAMIC_SHARED(kTileAlignment, shared);

  const QueryBlock block = QueryBlockOf(p, blockIdx.x);
  AttentionTile tile;
  if (!FindTile(p.list, block.tile, &tile)) return;
  const int length = tile.end - tile.begin, first_row = tile.row - tile.begin;
  const int rows = min(kRows, length - first_row);
  const int first_key = max(0, first_row - p.back) / kKeys * kKeys;
  const int end_key = min(length, first_row + rows + p.ahead);

  const int lane = threadIdx.x % kWarp, warp = Uniform(threadIdx.x / kWarp);
  const int warp_row = first_row + warp * Tile::kWarpRows;
  const Visibility keys = VisibilityOf(p, warp_row, min(warp_row + Tile::kWarpRows, length) - 1, length);
  const uint32_t by_rows = LaneOffset<kDim>(LaneMap::kByRows, lane);
  const uint32_t by_columns = LaneOffset<kDim>(LaneMap::kByColumns, lane);
  const uint32_t q_tile = SharedAddress(shared);
  const uint32_t do_tile = q_tile + Tile::kQueryTileBytes;
  const uint32_t k_tile = do_tile + Tile::kQueryTileBytes;
  const uint32_t v_tile = k_tile + Tile::kKeyTileBytes;
  const uint32_t warp_tile = q_tile + warp * Tile::kWarpRows * Tile::kRowBytes;

  const BFloat16* k = p.k.At(tile.begin, block.kv_head, kDim);
  const BFloat16* v = p.v.At(tile.begin, block.kv_head, kDim);
  CopyTile<kDim, kRows, kThreads>(q_tile, p.q.At(tile.begin, block.head, kDim), p.q.stride, first_row,
                                  length);
  CopyTile<kDim, kRows, kThreads>(do_tile, p.d_o.At(tile.begin, block.head, kDim), p.d_o.stride, first_row,
                                  length);
  CopyTile<kDim, kKeys, kThreads>(v_tile, v, p.v.stride, first_key, length);

  float dq[kRowBlocks][kDim / kColumns][4] = {};
  float shift[kRowBlocks][2], dots[kRowBlocks][2];
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = min(warp_row + m * kBlock + half * (kBlock / 2) + lane / kQuad, length - 1);
      const int64_t at = block.head * p.tokens + tile.begin + row;
      shift[m][half] = p.lse[at] * kLog2E;
      dots[m][half] = p.dots[at];
    }
  }

  for (int key = first_key; key < end_key; key += kKeys) {
    WaitForCopies();
    __syncthreads();  // V is there, and nobody reads the previous K
    CopyTile<kDim, kKeys, kThreads>(k_tile, k, p.k.stride, key, length);

    const bool seen = key < keys.end && (kPlain || key + kKeys > keys.begin);
    float ds[kRowBlocks][kKeyTiles][4];
    if (seen) Multiply<kDim>(warp_tile + Tile::kQueryTileBytes + by_rows, v_tile + by_columns, ds);

    WaitForCopies();
    __syncthreads();  // K is there, and nobody reads V
    if (key + kKeys < end_key) CopyTile<kDim, kKeys, kThreads>(v_tile, v, p.v.stride, key + kKeys, length);
    if (!seen) continue;

    float s[kRowBlocks][kKeyTiles][4];
    Multiply<kDim>(warp_tile + by_rows, k_tile + by_columns, s);
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) ds[m][n][e] -= dots[m][e / 2];
      }
    }
    if (!kPlain && p.scale.inner > 0) Cap(p.scale, s, ds);
    if (key + kKeys > keys.all_end || (!kPlain && key < keys.begin + Tile::kWarpRows - 1)) {
      const int l = Opaque(lane);
      Hide<!kPlain, true>(warp_row + l / kQuad, key + l % kQuad * 2, p.back, p.ahead, length - 1, s);
    }
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          ds[m][n][e] *= Exp2(fmaf(s[m][n][e], p.scale.factor, -shift[m][e / 2]));
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kKeys / kBlock; ++i) {
      uint32_t gradients[kRowBlocks][kFragment];
      RoundToFragments(ds, i, gradients);
      MultiplyAdd<kDim>(gradients, k_tile + by_rows + i * kBlock * Tile::kRowBytes, dq);
    }
  }

  // The gradient takes the place of Q, of which each warp reads its own rows only.
  float by[kRowBlocks][2];
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) by[m][0] = by[m][1] = p.scale.gradient;
  __syncwarp();
  RoundToTile<kDim>(warp_tile, lane, dq, by);
  __syncthreads();
  StoreTile<kDim, kRows, kThreads>(q_tile, p.dq.At(tile.row, block.head, kDim), p.dq.stride, rows);
}

int64_t DotsBytes(const AttentionShape& shape) {
  constexpr int64_t kAlignment = 256;
  const int64_t bytes = shape.heads * shape.tokens * static_cast<int64_t>(sizeof(float));
  return CeilDiv(bytes, kAlignment) * kAlignment;
}

}  // namespace
}  // namespace mma

int64_t MmaAttentionBackwardBytes(const AttentionShape& shape) {
  return mma::WithHeadDim(shape.head_dim, int64_t{0}, [&](auto dim) {
    return mma::DotsBytes(shape) + mma::BackwardKeysTileBytes(shape) +
           TileListBytes(shape, mma::QueriesTileOf<dim>::kRows);
  });
}

void MmaAttentionBackward(const Stream& stream, const AttentionShape& shape,
                          const AttentionOperands& operands, void* workspace) {
  TANREN_CUDA_REQUIRE(mma::BackwardKeysSharedBytes(shape.head_dim) > 0);
  if (shape.tokens == 0) return;
  auto* memory = static_cast<unsigned char*>(workspace);
  auto* dots = reinterpret_cast<float*>(memory);
  memory += mma::DotsBytes(shape);
  AttentionRowDots(stream, shape, operands, dots);
  const mma::Parameters parameters = mma::ParametersOf(shape, operands, dots);
  mma::BackwardKeys(stream, shape, parameters, memory);
  memory += mma::BackwardKeysTileBytes(shape);
  mma::WithHeadDim(shape.head_dim, 0, [&](auto dim) {
    using Tile = mma::QueriesTileOf<dim>;
    mma::LaunchOverTiles(stream, shape,
                         mma::IsPlain(shape) ? mma::BackwardQueriesKernel<Tile, true>
                                             : mma::BackwardQueriesKernel<Tile, false>,
                         {.rows = Tile::kRows,
                          .order = TileOrder::kQueries,
                          .heads = shape.heads,
                          .threads = Tile::kThreads,
                          .shared_bytes = Tile::kSharedBytes},
                         parameters, memory);
    return 0;
  });
}

bool MmaAttentionSupports(const AttentionShape& shape, const AttentionOperands& operands, bool backward) {
  const Architecture& architecture = CurrentArchitecture();
  const int shared_bytes = mma::WithHeadDim(shape.head_dim, 0, [&](auto dim) {
    if (!backward) return mma::ForwardSharedBytes(dim);
    return std::max(mma::BackwardKeysSharedBytes(dim), mma::QueriesTileOf<dim>::kSharedBytes);
  });
  if (shared_bytes == 0 || architecture.major < mma::kLeastMajor ||
      architecture.shared_memory_bytes < shared_bytes) {
    return false;
  }
  if (shape.tokens > mma::kMostTokens || !(shape.scale > 0)) return false;
  const int64_t blocks = MaxTiles(shape.tokens, shape.segments, mma::kLeastRows) * shape.heads;
  if (blocks > std::numeric_limits<int32_t>::max()) return false;
  const auto fits = [](ConstBuffer data, int64_t stride) {
    return data.dtype == DType::kBF16 && IsVectorAligned<BFloat16>(data.data, stride) && stride > 0 &&
           stride <= mma::kMostStride;
  };
  const bool forward_fits =
      fits(operands.q.data, operands.q.stride) && fits(operands.k.data, operands.k.stride) &&
      fits(operands.v.data, operands.v.stride) && fits(operands.o.data, operands.o.stride);
  if (!backward || !forward_fits) return forward_fits;
  return fits(operands.d_o.data, operands.d_o.stride) && fits(operands.dq.data, operands.dq.stride) &&
         fits(operands.dk.data, operands.dk.stride) && fits(operands.dv.data, operands.dv.stride);
}

}  // namespace tanren::kernels::cuda
