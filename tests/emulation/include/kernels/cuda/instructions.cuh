// Stands in for the header of the same name (see tests/emulation/emulator.h).
#ifndef TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_INSTRUCTIONS_CUH_
#define TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_INSTRUCTIONS_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace tanren::kernels::cuda {

inline float FlushedToZero(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

inline float Exp2(float x) { return FlushedToZero(std::exp2(FlushedToZero(x))); }
inline float Reciprocal(float x) { return FlushedToZero(1 / FlushedToZero(x)); }
inline float ReciprocalOfAny(float x) { return 1 / x; }
inline float MinOrNan(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : std::fmin(a, b); }
inline float MaxOrNan(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : std::fmax(a, b); }
inline uint32_t PackBf16(float low, float high) {
  return static_cast<uint32_t>(__float2bfloat16_rn(high).bits) << 16 | __float2bfloat16_rn(low).bits;
}

template <class Word>
void RequireAligned(const Word* at) {
  if (reinterpret_cast<uintptr_t>(at) % sizeof(Word) != 0) {
    emulation::Fail("a word of %zu bytes at %p is not aligned", sizeof(Word), static_cast<const void*>(at));
  }
}
template <class Word>
void StoreGlobal(Word* to, Word word) {
  RequireAligned(to);
  *to = word;
}
inline uint4 LoadGlobalOnce(const uint4* from) {
  RequireAligned(from);
  return *from;
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_INSTRUCTIONS_CUH_
