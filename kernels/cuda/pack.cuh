// Packs: a few neighbouring elements that one instruction reads or writes.
//
// A kernel that reads one dtype and writes another walks both in packs of as many elements as fill 16 bytes
// of the wider one. Then every instruction of a warp touches one contiguous piece of memory on either side,
// which packs of 16 bytes on both sides would not.
#ifndef TANREN_KERNELS_CUDA_PACK_CUH_
#define TANREN_KERNELS_CUDA_PACK_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/instructions.cuh"
#include "kernels/types.h"

namespace tanren::kernels::cuda {

// The machine word of as many bytes.
template <int kBytes>
struct WordOf;
template <>
struct WordOf<2> {
  using Type = uint16_t;
};
template <>
struct WordOf<4> {
  using Type = uint32_t;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T at[kCount];
};

// The most bytes that one instruction moves.
inline constexpr int kWidestWord = 16;

// Elements in a pack of a kernel that walks dtypes Ts side by side.
template <class... Ts>
inline constexpr int kPackOf = kWidestWord / static_cast<int>(std::max({sizeof(Ts)...}));

// Global memory, aligned to the pack. Plain loads: the kernel may also write that memory.
template <int kCount, class T>
__device__ __forceinline__ Pack<T, kCount> LoadPack(const T* from) {
  using Word = typename WordOf<sizeof(T) * kCount>::Type;
  Pack<T, kCount> result;
  *reinterpret_cast<Word*>(&result) = *reinterpret_cast<const Word*>(from);
  return result;
}
template <class Word>
__device__ __forceinline__ void StoreWord(Word* to, Word word) {
  if constexpr (sizeof(Word) >= sizeof(uint2)) {
    StoreGlobal(to, word);
  } else {
    *to = word;
  }
}
template <int kCount, class T>
__device__ __forceinline__ void StorePack(T* to, const Pack<T, kCount>& value) {
  using Word = typename WordOf<sizeof(T) * kCount>::Type;
  StoreWord(reinterpret_cast<Word*>(to), *reinterpret_cast<const Word*>(&value));
}

// Elements by which `pointer` lies beyond a pack's boundary.
template <int kCount, class T>
int64_t PhaseOf(const T* pointer) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(pointer) / sizeof(T) % kCount);
}
// True when rows of `width` elements from `pointer` on are whole packs.
template <int kCount, class T>
bool IsPacked(const T* pointer, int64_t width) {
  return PhaseOf<kCount>(pointer) == 0 && width % kCount == 0;
}

inline bool IsF32OrBF16(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_PACK_CUH_
