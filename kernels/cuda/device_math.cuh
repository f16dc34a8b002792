// Device code that kernels share: elements as fp32, 16-byte vectors of them, and sums over warps and blocks
// in an order that never changes.
#ifndef TANREN_KERNELS_CUDA_DEVICE_MATH_CUH_
#define TANREN_KERNELS_CUDA_DEVICE_MATH_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(BFloat16 value) { return static_cast<float>(value); }

template <class T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ BFloat16 FromFloat<BFloat16>(float value) {
  BFloat16 result;
  result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
  return result;
}

// 16 bytes of T: 4 floats or 8 bf16 numbers. Memory must be 16-byte aligned.
template <class T>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
  T at[kCount];
};

template <class T>
__device__ __forceinline__ Vector<T> LoadVector(const T* from) {
  Vector<T> result;
  *reinterpret_cast<uint4*>(&result) = __ldg(reinterpret_cast<const uint4*>(from));
  return result;
}
// For memory that this kernel also writes.
template <class T>
__device__ __forceinline__ Vector<T> LoadVectorPlain(const T* from) {
  Vector<T> result;
  *reinterpret_cast<uint4*>(&result) = *reinterpret_cast<const uint4*>(from);
  return result;
}
template <class T>
__device__ __forceinline__ void StoreVector(T* to, const Vector<T>& value) {
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&value);
}

// True when rows of `count` elements of T from `pointer` can be read as whole vectors.
template <class T>
inline bool IsVectorAligned(const void* pointer, int64_t count) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 &&
         count % (16 / static_cast<int64_t>(sizeof(T))) == 0;
}

template <class T>
__device__ __forceinline__ T WarpSum(T value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}
__device__ __forceinline__ float WarpMax(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// The sum over a block of kThreads, on every thread. All threads call it; two calls may follow each other.
template <int kThreads, class T>
__device__ __forceinline__ T BlockSum(T value) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / kWarp;
  __shared__ T partial[kWarps];
  value = WarpSum(value);
  if constexpr (kWarps > 1) {
    __syncthreads();  // readers of an earlier call are done
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = partial[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) value += partial[w];
  }
  return value;
}

template <int kThreads>
__device__ __forceinline__ float BlockMax(float value) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / kWarp;
  __shared__ float partial[kWarps];
  value = WarpMax(value);
  if constexpr (kWarps > 1) {
    __syncthreads();
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = partial[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) value = fmaxf(value, partial[w]);
  }
  return value;
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_DEVICE_MATH_CUH_
