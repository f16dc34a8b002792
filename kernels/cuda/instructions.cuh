// Single instructions of every architecture that the compiler has no function for. Tests replace this header
// by one of plain C++ (tests/emulation).
#ifndef TANREN_KERNELS_CUDA_INSTRUCTIONS_CUH_
#define TANREN_KERNELS_CUDA_INSTRUCTIONS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace tanren::kernels::cuda {

// ---------------------------------------------------------------------------------------------------------
// Arithmetic.

// 2^x, error at most 2 ulp; results below 2^-126 are 0.
__device__ __forceinline__ float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// 1 / x, error 1 ulp, for x < 2^126 (and infinity, which gives 0): results below 2^-126 are 0.
__device__ __forceinline__ float Reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// Where the result is below 2^-126 it is rounded to a subnormal number, which takes instructions.
__device__ __forceinline__ float ReciprocalOfAny(float x) {
  float result;
  asm("rcp.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// fminf and fmaxf would drop a NaN.
__device__ __forceinline__ float MinOrNan(float a, float b) {
  float result;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
__device__ __forceinline__ float MaxOrNan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
// Two bf16 numbers in a word, rounded to nearest, ties to even; `low` in its lower half.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// ---------------------------------------------------------------------------------------------------------
// Global memory, aligned to the word.

// An assignment of a vector word may be taken apart into its elements and put together again as two stores;
// these are one.
__device__ __forceinline__ void StoreGlobal(uint2* to, uint2 word) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(word.x),
               "r"(word.y)
               : "memory");
}
__device__ __forceinline__ void StoreGlobal(uint4* to, uint4 word) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(word.x),
               "r"(word.y), "r"(word.z), "r"(word.w)
               : "memory");
}
// Of what is read once: it leaves the first-level cache to others.
__device__ __forceinline__ uint4 LoadGlobalOnce(const uint4* from) {
  uint4 word;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(__cvta_generic_to_global(from)));
  return word;
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_INSTRUCTIONS_CUH_
