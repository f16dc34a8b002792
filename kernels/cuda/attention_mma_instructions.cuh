// The machine instructions of the mma attention kernels, from sm_80 on, beside those of instructions.cuh.
// Shared memory is named by its 32-bit address within the block. Tests replace this header by one of plain
// C++ (tests/emulation).
//
// Fragments of mma.m16n8k16 (g = lane / 4, t = lane % 4; two neighbours in k share a register, the lower k in
// the lower half):
//   A [16 x 16]: a[0] row g, k 2t..   a[1] row g + 8, k 2t..   a[2] row g, k 2t + 8..   a[3] row g + 8, k 2t
//   + 8.. B [16 x 8]:  b0 column g, k 2t..  b1 column g, k 2t + 8.. C [16 x 8]:  c[0], c[1] row g, columns
//   2t, 2t + 1;  c[2], c[3] row g + 8, same columns
// so two neighbouring C tiles, rounded to bf16, are an A tile.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_MMA_INSTRUCTIONS_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_MMA_INSTRUCTIONS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/instructions.cuh"

namespace tanren::kernels::cuda::mma {

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// The same value, but what is computed from it is not moved out of a loop, where it would occupy registers.
template <class T>
__device__ __forceinline__ T Opaque(T value) {
  static_assert(sizeof(T) == 4);
  asm volatile("" : "+r"(value));
  return value;
}

// Starts a copy of 16 bytes from global to shared memory, past the first-level cache. Without `inside` zeros
// are written and nothing is read, but `from` must still be an address of the buffer.
__device__ __forceinline__ void CopyAsync16(uint32_t to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void CopyAsync4(uint32_t to, const void* from, bool inside) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(inside ? 4 : 0)
               : "memory");
}
// Waits for all copies that this thread has started. Others see them after a barrier.
__device__ __forceinline__ void WaitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Four 8 x 8 matrices of 16-bit elements. Lane i gives the address of row i % 8 of matrix i / 8; register j
// receives, of matrix j, row g, elements 2t and 2t + 1.
__device__ __forceinline__ void LoadMatrices(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}
// As above, but register j receives column g, elements 2t and 2t + 1 of it.
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// c += a b.
__device__ __forceinline__ void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void StoreShared4(uint32_t to, uint32_t value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
__device__ __forceinline__ void StoreShared16(uint32_t to, const uint32_t (&value)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value[0]), "r"(value[1]),
               "r"(value[2]), "r"(value[3])
               : "memory");
}
__device__ __forceinline__ void LoadShared16(uint32_t (&to)[4], uint32_t from) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}
__device__ __forceinline__ float2 LoadSharedFloat2(uint32_t from) {
  float2 value;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(from) : "memory");
  return value;
}

// A barrier of some warps of the block: `id` 1..15, `threads` a multiple of 32. 0 is that of __syncthreads.
__device__ __forceinline__ void SyncThreads(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace tanren::kernels::cuda::mma

#endif  // TANREN_KERNELS_CUDA_ATTENTION_MMA_INSTRUCTIONS_CUH_
