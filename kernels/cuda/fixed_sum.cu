// Sums in fixed point. Integers may be added, and the largest be found, in any order: what warps have meets
// in one atomic operation each.
#include <algorithm>

#include "kernels/backend.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/fixed_sum.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 2048;  // longer ranges are strided over
constexpr int kAhead = 4;              // elements a thread has in flight

unsigned BlocksFor(int64_t count) {
  return static_cast<unsigned>(std::clamp<int64_t>(CeilDiv(count, kThreads * kAhead), 1, kMostBlocks));
}

__global__ __launch_bounds__(kThreads) void AddFixedKernel(int64_t count, double inverse_unit, float* x,
                                                           int64_t* sum, int* largest) {
  AwaitEarlierKernels();
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  int most = 0;
  for (int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x; first < count;
       first += stride * kAhead) {
    float values[kAhead];
    int64_t sums[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t i = first + a * stride;
      values[a] = i < count ? x[i] : 0.0f;
      sums[a] = i < count ? sum[i] : 0;
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t i = first + a * stride;
      if (i >= count) break;
      most = max(most, __float_as_int(values[a]) & 0x7fffffff);
      sum[i] = sums[a] + __double2ll_rn(static_cast<double>(values[a]) * inverse_unit);
      x[i] = 0;
    }
  }
  most = __reduce_max_sync(kAllLanes, most);
  if (threadIdx.x % kWarp == 0 && most > 0) atomicMax(largest, most);
}

__device__ __forceinline__ int64_t WarpSum(int64_t value) {
#pragma unroll
  for (int half = kWarp / 2; half > 0; half /= 2) {
    value += __shfl_down_sync(kAllLanes, static_cast<long long>(value), half);
  }
  return value;
}

__device__ __forceinline__ void AtomicAdd(int64_t* to, int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

__global__ __launch_bounds__(kThreads) void FixedToFloatKernel(int64_t count, const int64_t* sum, double unit,
                                                               double inverse_bound, float* x,
                                                               int64_t* squares) {
  AwaitEarlierKernels();
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  SquareWords all;
#pragma unroll kAhead
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    const auto value = static_cast<float>(static_cast<double>(sum[i]) * unit);
    x[i] = value;
    const SquareWords one = SquareOf(value * inverse_bound);
    all.high += one.high;
    all.low += one.low;
  }
  all.high = WarpSum(all.high);
  all.low = WarpSum(all.low);
  if (threadIdx.x % kWarp == 0) {
    AtomicAdd(squares, all.high);
    AtomicAdd(squares + 1, all.low);
  }
}

}  // namespace

void AddFixed(const Stream& stream, int64_t count, double unit, float* x, int64_t* sum, int32_t* largest) {
  TANREN_CUDA_REQUIRE(unit > 0);
  if (count <= 0) return;
  LaunchChained(stream, AddFixedKernel, BlocksFor(count), kThreads, count, 1 / unit, x, sum, largest);
}

void FixedToFloat(const Stream& stream, int64_t count, const int64_t* sum, double unit, double bound,
                  float* x, int64_t* squares) {
  TANREN_CUDA_REQUIRE(unit > 0 && bound > 0);
  if (count <= 0) return;
  LaunchChained(stream, FixedToFloatKernel, BlocksFor(count), kThreads, count, sum, unit, 1 / bound, x,
                squares);
}

}  // namespace cuda
}  // namespace tanren::kernels
