// Stands in for the header of the same name (see tests/emulation/emulator.h), which says what each function
// does.
#ifndef TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_HOPPER_INSTRUCTIONS_CUH_
#define TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_HOPPER_INSTRUCTIONS_CUH_

#include <cuda.h>
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>

#include "kernels/cuda/instructions.cuh"
#include "tests/emulation/copies.h"
#include "tests/emulation/matrices.h"

namespace tanren::kernels::cuda::hopper {

inline uint32_t SharedAddress(const void* pointer) { return emulation::SharedAddress(pointer); }

inline void BarrierInit(uint64_t* barrier, int arrivals) { emulation::InitMbarrier(barrier, arrivals); }
inline void FenceBarrierInit() {}
inline void Arrive(uint64_t* barrier) { emulation::ArriveMbarrier(barrier, 0); }
inline void ArriveExpect(uint64_t* barrier, int bytes) { emulation::ArriveMbarrier(barrier, bytes); }
inline void Wait(uint64_t* barrier, uint32_t parity) { emulation::WaitMbarrier(barrier, parity); }

inline void FenceAsyncProxy() {}
inline void FenceAsyncProxyGlobal() {}

inline void NamedSync(int id, int threads) { emulation::SyncThreads(id, threads); }
inline void NamedArrive(int id, int threads) { emulation::ArriveThreads(id, threads); }

template <int kRegisters>
void TakeRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void GiveRegisters() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

inline void PrefetchTensorMap(const CUtensorMap*) {}
inline void TmaLoad3D(void* to, const CUtensorMap* map, uint64_t* barrier, int c0, int c1, int c2) {
  emulation::LoadBox(to, *map, barrier, {c0, c1, c2, 0}, 3);
}
inline void TmaLoad4D(void* to, const CUtensorMap* map, uint64_t* barrier, int c0, int c1, int c2, int c3) {
  emulation::LoadBox(to, *map, barrier, {c0, c1, c2, c3}, 4);
}
inline void BulkLoad(void* to, const void* from, int bytes, uint64_t* barrier) {
  emulation::LoadBytes(to, from, bytes, barrier);
}
inline void TmaStore4D(const CUtensorMap* map, const void* from, int c0, int c1, int c2, int c3) {
  emulation::StoreBox(*map, from, {c0, c1, c2, c3}, 4);
}
inline void BulkStore(float* to, const void* from, int bytes) { emulation::StoreBytes(to, from, bytes); }
inline void BulkAdd(float* to, const void* from, int bytes) { emulation::AddFloats(to, from, bytes); }
inline void BulkCommit() { emulation::CommitBulk(); }
template <int kGroups>
void BulkWaitRead() {
  emulation::WaitBulkRead(kGroups);
}
template <int kGroups>
void BulkWait() {
  emulation::WaitBulk(kGroups);
}

inline void WgmmaFence() {}
inline void WgmmaCommit() { emulation::CommitProducts(); }
template <int kGroups>
void WgmmaWait() {
  emulation::WaitForProducts(kGroups);
}
template <int kCount>
void FenceRegisters(float (&)[kCount]) {}
template <int kCount>
void FenceRegisters(uint32_t (&)[kCount]) {}
inline void KeepBeforeWait(float, float*) {}

template <int kCount>
constexpr bool kIsProductWidth = kCount == 32 || kCount == 40 || kCount == 48 || kCount == 64 ||
                                 kCount == 80 || kCount == 88 || kCount == 96 || kCount == 128;
template <bool kTransposeA, bool kTransposeB, int kCount>
void WgmmaSS(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  static_assert(kIsProductWidth<kCount>);
  emulation::MultiplyTiles(d, kCount, {a, kTransposeA}, {b, kTransposeB}, accumulate != 0);
}
// The words are those of an array of the caller's: they are read when the product is done.
template <bool kTransposeB, int kCount>
void WgmmaRS(float (&d)[kCount], const uint32_t& a0, const uint32_t& a1, const uint32_t& a2,
             const uint32_t& a3, uint64_t b, int accumulate) {
  static_assert(kIsProductWidth<kCount>);
  emulation::MultiplyFragmentByTile(d, kCount, {{&a0, &a1, &a2, &a3}}, {b, kTransposeB}, accumulate != 0);
}

inline void StoreMatrix4(uint32_t address, uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
  emulation::StoreMatrices(address, {w0, w1, w2, w3});
}
inline void LoadMatrix4(uint32_t address, uint32_t& w0, uint32_t& w1, uint32_t& w2, uint32_t& w3) {
  uint32_t words[4];
  emulation::LoadMatrices(words, address, false);
  w0 = words[0], w1 = words[1], w2 = words[2], w3 = words[3];
}

inline void CopyAsync4(float* to, const float* from, bool valid) {
  emulation::CopyByThread(emulation::FromShared(SharedAddress(to), sizeof(float), sizeof(float)), from, valid,
                          sizeof(float));
}
inline void CopyAsyncArrive(uint64_t* barrier) { emulation::ArriveAfterCopies(barrier); }

inline int LoadAcquire(const int* counter) {
  return std::atomic_ref<int>(*const_cast<int*>(counter)).load(std::memory_order_acquire);
}
inline void StoreRelease(int* counter, int value) {
  std::atomic_ref<int>(*counter).store(value, std::memory_order_release);
}

}  // namespace tanren::kernels::cuda::hopper

#endif  // TANREN_TESTS_EMULATION_INCLUDE_KERNELS_CUDA_HOPPER_INSTRUCTIONS_CUH_
