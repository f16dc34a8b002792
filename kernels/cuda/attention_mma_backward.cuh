// What the two kernels of the mma attention backward pass share. With S the scores and P the weights,
//   dV = P^T dO,  dP = dO V^T,  dS = P (dP - dots),  dQ = scale dS K,  dK = scale dS^T Q
// where dots are the row sums of dO * O and P = exp(S - lse) is computed anew.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_MMA_BACKWARD_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_MMA_BACKWARD_CUH_

#include "kernels/cuda/attention_mma.cuh"

namespace tanren::kernels::cuda::mma {

// Products become capped scores, and their gradients take the cap's slope.
template <int kRowBlocks, int kTiles>
__device__ __forceinline__ void Cap(const ScoreScale& scale, float (&s)[kRowBlocks][kTiles][4],
                                    float (&ds)[kRowBlocks][kTiles][4]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float t = Tanh(scale.inner * s[m][n][e]);
        s[m][n][e] = scale.cap * t;
        ds[m][n][e] *= fmaf(-t, t, 1.0f);
      }
    }
  }
}

// dk and dv: attention_mma_backward_keys.cu. `parameters` lack the tiles, which are put at `memory`.
int64_t BackwardKeysTileBytes(const AttentionShape& shape);
void BackwardKeys(const Stream& stream, const AttentionShape& shape, const Parameters& parameters,
                  void* memory);
// Of the largest block, 0 for a head size that is not supported.
int BackwardKeysSharedBytes(int64_t head_dim);

}  // namespace tanren::kernels::cuda::mma

#endif  // TANREN_KERNELS_CUDA_ATTENTION_MMA_BACKWARD_CUH_
