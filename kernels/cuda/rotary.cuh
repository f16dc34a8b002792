// Rotating packs of pairs: the arithmetic of the CPU, operation by operation.
#ifndef TANREN_KERNELS_CUDA_ROTARY_CUH_
#define TANREN_KERNELS_CUDA_ROTARY_CUH_

#include <cstdint>

#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/pack_float.cuh"

namespace tanren::kernels::cuda {

inline constexpr int kAnglePack = kPackOf<float>;

// `count` angles, in whole packs where a pack of pairs is.
template <int kCount>
__device__ __forceinline__ void LoadAngles(const float* from, float (&to)[kCount]) {
  constexpr int n = kCount < kAnglePack ? kCount : kAnglePack;
#pragma unroll
  for (int first = 0; first < kCount; first += n) {
    const Pack<float, n> pack = LoadPack<n>(from + first);
#pragma unroll
    for (int e = 0; e < n; ++e) to[first + e] = pack.at[e];
  }
}

// Turns the pairs (first, second) by their angles.
template <class T, int kCount>
__device__ __forceinline__ void Turn(const float (&cosine)[kCount], const float (&sine)[kCount],
                                     Pack<T, kCount>& first, Pack<T, kCount>& second) {
  Floats<kCount> a = ToFloats(first), b = ToFloats(second);
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    const float turned = __fmaf_rn(-b.at[e], sine[e], __fmul_rn(a.at[e], cosine[e]));
    b.at[e] = __fmaf_rn(a.at[e], sine[e], __fmul_rn(b.at[e], cosine[e]));
    a.at[e] = turned;
  }
  first = FromFloats<T>(a);
  second = FromFloats<T>(b);
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_ROTARY_CUH_
