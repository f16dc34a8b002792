// The scalar head of critics and reward models: a product with one row of weights, and its gradient.
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/head.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr int kScalarThreads = 256;
constexpr int kScalarWarps = kScalarThreads / kWarp;

// A warp takes a row.
template <class T, int kCount>
__global__ __launch_bounds__(kScalarThreads) void ScalarForwardKernel(int64_t rows, int64_t width, const T* x,
                                                                      const T* weight, float bias, float* y) {
  constexpr int kAhead = 4;  // packs in flight
  const int64_t row = int64_t{blockIdx.x} * kScalarWarps + threadIdx.x / kWarp;
  if (row >= rows) return;
  x += row * width;
  float sum = 0;
  for (int64_t first = threadIdx.x % kWarp * kCount; first < width; first += kWarp * kCount * kAhead) {
    Pack<T, kCount> values[kAhead], weights[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t column = first + a * kWarp * kCount;
      if (column >= width) continue;
      values[a] = LoadPack<kCount>(x + column);
      weights[a] = LoadPack<kCount>(weight + column);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (first + a * kWarp * kCount >= width) continue;
      float part = 0;
#pragma unroll
      for (int e = 0; e < kCount; ++e) part = fmaf(ToFloat(values[a].at[e]), ToFloat(weights[a].at[e]), part);
      sum += part;
    }
  }
  sum = WarpSum(sum);
  if (threadIdx.x % kWarp == 0) y[row] = sum + bias;
}

template <class T>
void LaunchScalarForward(const Stream& stream, int64_t rows, int64_t width, const T* x, const T* weight,
                         float bias, float* y) {
  constexpr int n = kPackOf<T>;
  const bool packed = IsPacked<n>(x, width) && IsPacked<n>(weight, width);
  const auto kernel = packed ? ScalarForwardKernel<T, n> : ScalarForwardKernel<T, 1>;
  LaunchInTurn(stream, kernel, static_cast<unsigned>(CeilDiv(rows, kScalarWarps)), kScalarThreads, rows,
               width, x, weight, bias, y);
}

// Backward, the rows are cut into blocks of 64 and the columns into tiles of a warp's width. Warp w of a
// thread block takes rows w, w + 8, ... of its row block; the warps' sums of dy x are added in order and go
// to scratch, partial [row blocks, width]. A second kernel adds the row blocks the same way: warp w takes
// blocks w, w + 16, ..., and the warps' sums are added in order.
constexpr int64_t kRowsPerBlock = 64;

template <class T, class D, int kCount>
__global__ __launch_bounds__(kScalarThreads) void ScalarBackwardKernel(int64_t rows, int64_t width,
                                                                       int64_t tiles, const float* dy,
                                                                       const T* x, const T* weight, D* dx,
                                                                       float* partial) {
  constexpr int kAhead = 4;  // rows in flight
  constexpr int kTileWidth = kWarp * kCount;
  static_assert(kTileWidth <= kScalarThreads);
  __shared__ Pack<float, kCount> sums_of_warps[kScalarWarps][kWarp];
  const int64_t block = blockIdx.x / tiles;
  const int64_t first_column = blockIdx.x % tiles * kTileWidth;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t column = first_column + lane * kCount;

  Pack<float, kCount> sum;
#pragma unroll
  for (float& value : sum.at) value = 0;
  if (column < width) {
    const int count = static_cast<int>(min(kRowsPerBlock, rows - block * kRowsPerBlock));
    const Pack<T, kCount> weights = LoadPack<kCount>(weight + column);
    dy += block * kRowsPerBlock;
    x += block * kRowsPerBlock * width + column;
    dx += block * kRowsPerBlock * width + column;
    for (int row = warp; row < count; row += kScalarWarps * kAhead) {
      Pack<T, kCount> values[kAhead];
      Pack<D, kCount> gradients[kAhead];
      float seeds[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int r = row + a * kScalarWarps;
        if (r >= count) continue;
        values[a] = LoadPack<kCount>(x + r * width);
        gradients[a] = LoadPack<kCount>(dx + r * width);
        seeds[a] = dy[r];
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int r = row + a * kScalarWarps;
        if (r >= count) continue;
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          sum.at[e] = fmaf(seeds[a], ToFloat(values[a].at[e]), sum.at[e]);
          gradients[a].at[e] =
              FromFloat<D>(fmaf(seeds[a], ToFloat(weights.at[e]), ToFloat(gradients[a].at[e])));
        }
        StorePack(dx + r * width, gradients[a]);
      }
    }
  }
  sums_of_warps[warp][lane] = sum;
  __syncthreads();
  const int place = threadIdx.x;
  if (place < kTileWidth && first_column + place < width) {
    float total = sums_of_warps[0][place / kCount].at[place % kCount];
#pragma unroll
    for (int w = 1; w < kScalarWarps; ++w) total += sums_of_warps[w][place / kCount].at[place % kCount];
    partial[block * width + first_column + place] = total;
  }
}

constexpr int kTotalThreads = 512;
constexpr int kTotalWarps = kTotalThreads / kWarp;

__global__ __launch_bounds__(kTotalThreads) void AddRowBlocksKernel(int64_t blocks, int64_t width,
                                                                    const float* partial, float* dweight) {
  __shared__ float sums_of_warps[kTotalWarps][kWarp];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t column = int64_t{blockIdx.x} * kWarp + lane;
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int64_t block = warp; block < blocks; block += kTotalWarps) sum += partial[block * width + column];
  }
  sums_of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < width) {
    float total = sums_of_warps[0][lane];
#pragma unroll
    for (int w = 1; w < kTotalWarps; ++w) total += sums_of_warps[w][lane];
    dweight[column] += total;
  }
}

__global__ __launch_bounds__(kTotalThreads) void AddAllKernel(int64_t count, const float* values,
                                                              float* sum) {
  float own = 0;
  for (int64_t i = threadIdx.x; i < count; i += kTotalThreads) own += values[i];
  own = BlockSum<kTotalThreads>(own);
  if (threadIdx.x == 0) *sum += own;
}

template <class T, class D>
void LaunchScalarBackward(const Stream& stream, int64_t rows, int64_t width, const float* dy, const T* x,
                          const T* weight, D* dx, float* dweight) {
  constexpr int n = kPackOf<T, D>;
  const bool packed = IsPacked<n>(x, width) && IsPacked<n>(weight, width) && IsPacked<n>(dx, width);
  const int64_t blocks = CeilDiv(rows, kRowsPerBlock);
  const int64_t tiles = CeilDiv(width, kWarp * (packed ? n : 1));
  float* partial = ScratchOf<float>(stream, blocks * width);
  const auto kernel = packed ? ScalarBackwardKernel<T, D, n> : ScalarBackwardKernel<T, D, 1>;
  LaunchInTurn(stream, kernel, static_cast<unsigned>(blocks * tiles), kScalarThreads, rows, width, tiles, dy,
               x, weight, dx, partial);
  LaunchInTurn(stream, AddRowBlocksKernel, static_cast<unsigned>(CeilDiv(width, kWarp)), kTotalThreads,
               blocks, width, partial, dweight);
}

}  // namespace
}  // namespace cuda

void cuda::ScalarHeadForward(const Stream& stream, int64_t rows, int64_t width, ConstBuffer x,
                             ConstBuffer weight, float bias, float* y) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && weight.dtype == x.dtype);
  if (rows <= 0) return;
  if (x.dtype == DType::kF32) {
    LaunchScalarForward(stream, rows, width, x.as<float>(), weight.as<float>(), bias, y);
  } else {
    LaunchScalarForward(stream, rows, width, x.as<BFloat16>(), weight.as<BFloat16>(), bias, y);
  }
}

void cuda::ScalarHeadBackward(const Stream& stream, int64_t rows, int64_t width, const float* dy,
                              ConstBuffer x, ConstBuffer weight, Buffer dx, float* dweight, float* dbias) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && weight.dtype == x.dtype);
  TANREN_CUDA_REQUIRE(dx.dtype == DType::kF32 || dx.dtype == x.dtype);
  if (rows <= 0) return;
  if (width > 0) {
    if (x.dtype == DType::kF32) {
      LaunchScalarBackward(stream, rows, width, dy, x.as<float>(), weight.as<float>(), dx.as<float>(),
                           dweight);
    } else if (dx.dtype == DType::kF32) {
      LaunchScalarBackward(stream, rows, width, dy, x.as<BFloat16>(), weight.as<BFloat16>(), dx.as<float>(),
                           dweight);
    } else {
      LaunchScalarBackward(stream, rows, width, dy, x.as<BFloat16>(), weight.as<BFloat16>(),
                           dx.as<BFloat16>(), dweight);
    }
  }
  if (dbias == nullptr) return;
  LaunchInTurn(stream, AddAllKernel, 1, kTotalThreads, rows, dy, dbias);
}

}  // namespace tanren::kernels
