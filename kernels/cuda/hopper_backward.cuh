// Building blocks that the backward attention of Hopper needs beside those of hopper.cuh: additions of tiles
// in global memory by the bulk copy engine, transposition-free stores of accumulators (stmatrix), small
// copies that complete on an mbarrier, and a turn counter between blocks.
//
// Use from code guarded by TANREN_HOPPER_DEVICE only.
#ifndef TANREN_KERNELS_CUDA_HOPPER_BACKWARD_CUH_
#define TANREN_KERNELS_CUDA_HOPPER_BACKWARD_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/hopper.cuh"

namespace tanren::kernels::cuda::hopper {

// ---------------------------------------------------------------------------------------------------------
// Index maps (host and device, so that a host program can check them).

// Where in a panel of `rows` rows of 128 bytes lane `lane` of warp `warp` (of its warpgroup) points stmatrix
// x4 when the warpgroup stores the k-th 16 columns of an accumulator (words 4 k .. 4 k + 3 of PackFragment)
// as rows first_row .. first_row + 63: matrices 0 and 1 are rows 0-7 and 8-15 of the warp at the first 8
// columns, matrices 2 and 3 at the next 8. The swizzle of the panel is included.
__host__ __device__ constexpr uint32_t StoreMatrixOffset(int first_row, int warp, int lane, int k) {
  const uint32_t row = first_row + warp * 16 + (lane / 8 % 2) * 8 + lane % 8;
  const uint32_t chunk = k * 2 + lane / 16;
  return Swizzle128(row * kPanelRowBytes + chunk * 16);
}

// A tile of query gradients lies in rows of head_dim fp32 numbers, in the workspace as in shared memory.
// Within a row the groups of 8 columns (32 bytes) are xored with the token's index modulo 4, so that the 4
// rows which half a warp's accumulator pairs belong to fall into different banks. In floats, from the row's
// begin:
__host__ __device__ constexpr uint32_t QueryGradientColumn(uint32_t token, uint32_t column) {
  return ((column / 8) ^ (token & 3u)) * 8 + column % 8;
}

#if defined(__CUDACC__)

// Four 8x8 matrices of bf16: lane l gives the address of row l % 8 of matrix l / 8, and holds columns 2 (l %
// 4) and 2 (l % 4) + 1 of row l / 4 of each matrix.
__device__ __forceinline__ void StoreMatrix4(uint32_t address, uint32_t w0, uint32_t w1, uint32_t w2,
                                             uint32_t w3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(w0),
               "r"(w1), "r"(w2), "r"(w3)
               : "memory");
}

// The inverse: loads A fragments of a tile's rows.
__device__ __forceinline__ void LoadMatrix4(uint32_t address, uint32_t& w0, uint32_t& w1, uint32_t& w2,
                                            uint32_t& w3) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(w0), "=r"(w1), "=r"(w2), "=r"(w3)
               : "r"(address)
               : "memory");
}

// Contiguous bytes from shared to global memory (a multiple of 16, both addresses 16-byte aligned), stored,
// or added as fp32 numbers. Grouped and waited for as TmaStore4D.
__device__ __forceinline__ void BulkStore(float* to, const void* from, int bytes) {
  asm volatile(
      "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(to)),
      "r"(SharedAddress(from)), "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void BulkAdd(float* to, const void* from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(SharedAddress(from)), "r"(bytes)
               : "memory");
}

// 4 bytes from global to shared memory, or zeros when `valid` is false (`from` is not read then, but must be
// an address of the same allocation).
__device__ __forceinline__ void CopyAsync4(float* to, const float* from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(SharedAddress(to)),
               "l"(__cvta_generic_to_global(from)), "r"(valid ? 4 : 0)
               : "memory");
}
// One arrival, counted among those the barrier was made for, when all earlier CopyAsync4 of this thread are
// done.
__device__ __forceinline__ void CopyAsyncArrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// A counter in global memory that passes a turn from block to block.
__device__ __forceinline__ int LoadAcquire(const int* counter) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return value;
}
__device__ __forceinline__ void StoreRelease(int* counter, int value) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(__cvta_generic_to_global(counter)), "r"(value)
               : "memory");
}
// Orders global memory between the bulk copy engine and ordinary accesses of this thread, both ways.
__device__ __forceinline__ void FenceAsyncProxyGlobal() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

#endif  // __CUDACC__

}  // namespace tanren::kernels::cuda::hopper

#endif  // TANREN_KERNELS_CUDA_HOPPER_BACKWARD_CUH_
