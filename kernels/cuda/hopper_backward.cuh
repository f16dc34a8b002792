// Index maps that the backward attention of Hopper needs beside those of hopper.cuh (host and device, so that
// a host program can check them).
#ifndef TANREN_KERNELS_CUDA_HOPPER_BACKWARD_CUH_
#define TANREN_KERNELS_CUDA_HOPPER_BACKWARD_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/hopper.cuh"

namespace tanren::kernels::cuda::hopper {

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

}  // namespace tanren::kernels::cuda::hopper

#endif  // TANREN_KERNELS_CUDA_HOPPER_BACKWARD_CUH_
