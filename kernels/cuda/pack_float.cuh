// Packs to floats and back, a word of two bf16 numbers at a time.
//
// A pack of bf16 numbers that is read element by element is taken apart into registers of 16 bits as soon as
// it arrives, which doubles the registers of kernels that hold many packs. These read it by words, when the
// floats are needed.
#ifndef TANREN_KERNELS_CUDA_PACK_FLOAT_CUH_
#define TANREN_KERNELS_CUDA_PACK_FLOAT_CUH_

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/types.h"

namespace tanren::kernels::cuda {

template <int kCount>
struct Floats {
  float at[kCount];
};

// kCount elements of T in `words`, which hold 4 bytes each.
template <class T, int kCount>
__device__ __forceinline__ Floats<kCount> FloatsOfWords(const uint32_t* words) {
  static_assert(std::is_same_v<T, float> || (std::is_same_v<T, BFloat16> && kCount % 2 == 0));
  Floats<kCount> result;
  if constexpr (std::is_same_v<T, float>) {
#pragma unroll
    for (int e = 0; e < kCount; ++e) result.at[e] = __uint_as_float(words[e]);
  } else {
#pragma unroll
    for (int e = 0; e < kCount; e += 2) {
      result.at[e] = __uint_as_float(words[e / 2] << 16);
      result.at[e + 1] = __uint_as_float(words[e / 2] & 0xffff0000u);
    }
  }
  return result;
}
template <class T, int kCount>
__device__ __forceinline__ void WordsOfFloats(const Floats<kCount>& values, uint32_t* words) {
  static_assert(std::is_same_v<T, float> || (std::is_same_v<T, BFloat16> && kCount % 2 == 0));
  if constexpr (std::is_same_v<T, float>) {
#pragma unroll
    for (int e = 0; e < kCount; ++e) words[e] = __float_as_uint(values.at[e]);
  } else {
#pragma unroll
    for (int e = 0; e < kCount; e += 2) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(values.at[e], values.at[e + 1]);
      words[e / 2] = *reinterpret_cast<const uint32_t*>(&pair);
    }
  }
}

// A single bf16 number is no word.
template <class T, int kCount>
__device__ __forceinline__ Floats<kCount> ToFloats(const Pack<T, kCount>& pack) {
  if constexpr (sizeof(pack) % sizeof(uint32_t) == 0) {
    return FloatsOfWords<T, kCount>(reinterpret_cast<const uint32_t*>(&pack));
  } else {
    return {{ToFloat(pack.at[0])}};
  }
}
template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> FromFloats(const Floats<kCount>& values) {
  Pack<T, kCount> result;
  if constexpr (sizeof(result) % sizeof(uint32_t) == 0) {
    WordsOfFloats<T>(values, reinterpret_cast<uint32_t*>(&result));
  } else {
    result.at[0] = FromFloat<T>(values.at[0]);
  }
  return result;
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_PACK_FLOAT_CUH_
