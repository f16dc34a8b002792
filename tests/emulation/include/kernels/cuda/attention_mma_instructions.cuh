// Stands in for the header of the same name (see tests/emulation/emulator.h), which says what each function
// does.
#ifndef TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_ATTENTION_MMA_INSTRUCTIONS_CUH_
#define TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_ATTENTION_MMA_INSTRUCTIONS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/instructions.cuh"
#include "tests/emulation/copies.h"
#include "tests/emulation/matrices.h"

namespace tanren::kernels::cuda::mma {

inline uint32_t SharedAddress(const void* shared) { return emulation::SharedAddress(shared); }

template <class T>
T Opaque(T value) {
  return value;
}

inline void CopyAsync(uint32_t to, const void* from, bool inside, size_t bytes) {
  emulation::CopyByThread(emulation::FromShared(to, bytes, bytes), from, inside, bytes);
}
inline void CopyAsync16(uint32_t to, const void* from, bool inside) { CopyAsync(to, from, inside, 16); }
inline void CopyAsync4(uint32_t to, const void* from, bool inside) { CopyAsync(to, from, inside, 4); }
inline void WaitForCopies() { emulation::WaitForOpenWork(emulation::Work::kCopies); }

inline void LoadMatrices(uint32_t (&to)[4], uint32_t from) { emulation::LoadMatrices(to, from, false); }
inline void LoadMatricesTransposed(uint32_t (&to)[4], uint32_t from) {
  emulation::LoadMatrices(to, from, true);
}

inline void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulation::MultiplyFragments(c, a, b0, b1);
}

inline void StoreShared4(uint32_t to, uint32_t value) {
  std::memcpy(emulation::FromShared(to, sizeof(value), sizeof(value)), &value, sizeof(value));
}
inline void StoreShared16(uint32_t to, const uint32_t (&value)[4]) {
  std::memcpy(emulation::FromShared(to, sizeof(value), sizeof(value)), value, sizeof(value));
}
inline void LoadShared16(uint32_t (&to)[4], uint32_t from) {
  std::memcpy(to, emulation::FromShared(from, sizeof(to), sizeof(to)), sizeof(to));
}
inline float2 LoadSharedFloat2(uint32_t from) {
  float2 value;
  std::memcpy(&value, emulation::FromShared(from, sizeof(value), sizeof(value)), sizeof(value));
  return value;
}

inline void SyncThreads(int id, int threads) { emulation::SyncThreads(id, threads); }

}  // namespace tanren::kernels::cuda::mma

#endif  // TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_ATTENTION_MMA_INSTRUCTIONS_CUH_
