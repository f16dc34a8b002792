// Products of few rows on tensor cores, at the rate at which the weight is read.
//
// A block makes 16 columns of the result for up to eight rows. Its warps share the sums' depth k in pieces of
// kPiece elements, dealt out in turn, and add their parts up at the end, in the order of the warps. The
// weight's 16 rows are the left factor of mma.m16n8k16 and the rows of x the right one. Which element of k is
// which row of a fragment does not matter as long as both factors agree, so a lane reads 16 contiguous bytes
// of a weight row and of a row of x and feeds two instructions with them: nothing passes through shared
// memory.
//
// Before the kernels ahead of it have ended, a block asks for its part of the weight, which no kernel of a
// step writes: the memory works while the small kernels between the products run.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/attention_mma_instructions.cuh"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/skinny_product.h"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

constexpr int kColumns = 16;        // of a block
constexpr int kRows = kSkinnyRows;  // of x, that an instruction takes
constexpr int kLanePack = kPackOf<BFloat16>;
constexpr int kSlab = 4 * kLanePack;  // elements of k that two instructions take, 64 bytes of a row
constexpr int kSlabsAhead = 4;        // that a warp reads at a time
constexpr int kPiece = kSlab * kSlabsAhead;
constexpr int64_t kFewColumns = 4096;      // up to which a block has the more warps
constexpr uint32_t kMostPrefetch = 16384;  // bytes of a weight row

struct SkinnyArgs {
  int64_t n = 0;
  int64_t k = 0;
  const BFloat16* x = nullptr;
  int64_t x_stride = 0;
  const BFloat16* weight = nullptr;
  const BFloat16* bias = nullptr;
  int64_t rows = 0;
  int64_t y_stride = 0;
};

// 16 bytes, or zeros where the row ends or does not exist.
__device__ __forceinline__ uint4 LoadOrZero(const BFloat16* from, bool exists) {
  return exists ? *reinterpret_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
}
// The same of what is read once: it leaves the first-level cache to x.
__device__ __forceinline__ uint4 LoadOnceOrZero(const BFloat16* from, bool exists) {
  return exists ? LoadGlobalOnce(reinterpret_cast<const uint4*>(from)) : uint4{0, 0, 0, 0};
}

// Rows beyond args.rows are computed as zeros and not stored.
template <int kWarps, class Y>
__global__ __launch_bounds__(kWarps* kWarp) void SkinnyKernel(const SkinnyArgs args, Y* y) {
  __shared__ float parts[kWarps][kRows][kColumns];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group = lane / 4, quarter = lane % 4;
  const int64_t first_column = int64_t{blockIdx.x} * kColumns;
  if (threadIdx.x < kColumns && first_column + threadIdx.x < args.n) {
    PrefetchToL2(args.weight + (first_column + threadIdx.x) * args.k,
                 min(static_cast<uint32_t>(args.k * sizeof(BFloat16)), kMostPrefetch));
  }
  AwaitEarlierKernels();

  // The lane's two rows of the weight; beyond the last column, the last one again.
  const BFloat16* weights[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    weights[i] = args.weight + min(first_column + group + 8 * i, args.n - 1) * args.k;
  }
  const bool has_row = group < args.rows;
  const BFloat16* row_of_x = args.x + (has_row ? group : 0) * args.x_stride;
  float sums[4] = {};
  for (int64_t piece = int64_t{warp} * kPiece; piece < args.k; piece += kWarps * kPiece) {
    uint4 w[kSlabsAhead][2];
#pragma unroll
    for (int s = 0; s < kSlabsAhead; ++s) {
      const int64_t at = piece + s * kSlab + quarter * kLanePack;
#pragma unroll
      for (int i = 0; i < 2; ++i) w[s][i] = LoadOnceOrZero(weights[i] + at, at < args.k);
    }
#pragma unroll
    for (int s = 0; s < kSlabsAhead; ++s) {
      const int64_t at = piece + s * kSlab + quarter * kLanePack;
      const uint32_t low[4] = {w[s][0].x, w[s][1].x, w[s][0].y, w[s][1].y};
      const uint32_t high[4] = {w[s][0].z, w[s][1].z, w[s][0].w, w[s][1].w};
      const uint4 x = LoadOrZero(row_of_x + at, has_row && at < args.k);
      mma::Mma(sums, low, x.x, x.y);
      mma::Mma(sums, high, x.z, x.w);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) parts[warp][2 * quarter + i % 2][group + 8 * (i / 2)] = sums[i];
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < kRows * kColumns; at += kWarps * kWarp) {
    const int row = at / kColumns, column = at % kColumns;
    if (row >= args.rows || first_column + column >= args.n) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += parts[w][row][column];
    const float bias = args.bias == nullptr ? 0.0f : ToFloat(args.bias[first_column + column]);
    y[row * args.y_stride + first_column + column] = FromFloat<Y>(sum + bias);
  }
}

template <class Y>
void Launch(const Stream& stream, const SkinnyArgs& args, Y* y) {
  const auto launch = [&]<int kWarps>(std::integral_constant<int, kWarps>) {
    LaunchChained(stream, SkinnyKernel<kWarps, Y>, static_cast<unsigned>(CeilDiv(args.n, kColumns)),
                  kWarps * kWarp, args, y);
  };
  if (args.n <= kFewColumns) {
    launch(std::integral_constant<int, 16>());
  } else {
    launch(std::integral_constant<int, 8>());
  }
}

}  // namespace

bool SkinnyProductSupports(int64_t rows, int64_t k, ConstMatrix x, ConstBuffer weight) {
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % kWidestWord == 0; };
  return rows <= kSkinnyRows && weight.dtype == DType::kBF16 && k % kLanePack == 0 &&
         x.stride % kLanePack == 0 && aligned(x.data.data) && aligned(weight.data);
}

void SkinnyProduct(const Stream& stream, int64_t rows, int64_t n, int64_t k, ConstMatrix x,
                   ConstBuffer weight, ConstBuffer bias, Matrix y) {
  const SkinnyArgs args{
      n, k, x.data.as<BFloat16>(), x.stride, weight.as<BFloat16>(), bias.as<BFloat16>(), rows, y.stride};
  if (y.data.dtype == DType::kF32) {
    Launch(stream, args, y.data.as<float>());
  } else {
    Launch(stream, args, y.data.as<BFloat16>());
  }
}

}  // namespace tanren::kernels::cuda
