// What the forward attention kernel for Hopper does with accumulators in registers: soft cap, mask, online
// softmax (Milakov and Gimelshein 2018) and the exchange of columns before a store.
//
// Accumulators of m64nN are spread over a warpgroup as AccumulatorRow and AccumulatorColumn of hopper.cuh
// say: a thread holds elements of two rows, 8 apart, and the 4 lanes of a quad together hold all columns of
// them.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_HOPPER_SOFTMAX_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_HOPPER_SOFTMAX_CUH_

#include <limits>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/hopper_instructions.cuh"

namespace tanren::kernels::cuda::hopper {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
inline constexpr float kLn2 = 0.693147180559945309f;

// A thread holds elements of two rows of the accumulators, 8 apart: element i is of row RowOf(i).
inline constexpr int kThreadRows = 2;
__device__ __forceinline__ constexpr int RowOf(int i) { return i / 2 % kThreadRows; }

// The query at position p of a segment sees its keys [p - window + 1, min(p + ahead, length)).
struct Visibility {
  int window = 0;
  int ahead = 0;
};

// A capped score, as a base-2 exponent, is out - 2 out / (1 + 2^(in * score)).
struct SoftCapFactors {
  float in = 0;
  float out = 0;
};

// The softmax so far of the thread's two rows.
struct RowState {
  float max[kThreadRows] = {kMinusInfinity, kMinusInfinity};  // of scores, before the scale; see kHeadroom
  float sum[kThreadRows] = {0, 0};                            // of this thread's columns
};

template <int kCount>
__device__ __forceinline__ void SoftCapScores(const SoftCapFactors& cap, float (&s)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    // cap * tanh(x) = cap - 2 cap / (1 + e^2x), here with cap times log2 e.
    const float r = Reciprocal(1.0f + Exp2(s[i] * cap.in));
    s[i] = fmaf(-2.0f * cap.out, r, cap.out);
  }
}

// Scores of keys that a query does not see become -inf. Positions, counted from the segment's begin: `row` of
// the thread's first row (query), `column` of its first column (key).
template <int kCount>
__device__ __forceinline__ void MaskScores(const Visibility& sees, int length, int row, int column,
                                           float (&s)[kCount]) {
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    const int position = row + 8 * r;
    const int low = position - sees.window + 1 - column;
    const int high = min(position + sees.ahead, length) - column;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int offset = i / 4 * 8 + i % 2;
      if (RowOf(i) == r && (offset < low || offset >= high)) s[i] = kMinusInfinity;
    }
  }
}

// Scores to weights 2^(scale * (s - max)), in place. rescale: what sums under the former maximum are worth
// now.
//
// kHeadroom: a row's maximum is left as it is, and rescale is 1, where the true one is higher by at most this
// exponent: weights up to 2^kHeadroom do no harm in fp32 and bf16, and what was summed need not be rescaled
// (as FlashAttention-4 does). kFollowsMaxima: it is always the true one.
inline constexpr int kFollowsMaxima = -1;
template <int kHeadroom, int kCount>
__device__ __forceinline__ void WeightsOf(float (&s)[kCount], float scale, RowState& rows,
                                          float (&rescale)[kThreadRows]) {
  constexpr int kParts = 2;  // independent chains of each row
  float part[kThreadRows][kParts];
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    part[r][0] = rows.max[r];
    part[r][1] = kMinusInfinity;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) part[RowOf(i)][i % kParts] = fmaxf(part[RowOf(i)][i % kParts], s[i]);
  float anchor[kThreadRows];
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    float top = fmaxf(part[r][0], part[r][1]);
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    bool stays = false;  // not if both are -inf
    if constexpr (kHeadroom != kFollowsMaxima) {
      stays = (top - rows.max[r]) * scale <= kHeadroom;
      if (stays) top = rows.max[r];
    }
    // A row that has seen no key yet has no maximum: all weights are 2^-inf = 0.
    anchor[r] = top == kMinusInfinity ? 0.0f : top * scale;
    rescale[r] = stays ? 1.0f : Exp2(fmaf(rows.max[r], scale, -anchor[r]));
    rows.max[r] = top;
    part[r][0] = rows.sum[r] * rescale[r];
    part[r][1] = 0;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    s[i] = Exp2(fmaf(s[i], scale, -anchor[RowOf(i)]));
    part[RowOf(i)][i % kParts] += s[i];
  }
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) rows.sum[r] = part[r][0] + part[r][1];
}

template <int kCount>
__device__ __forceinline__ void Rescale(float (&o)[kCount], const float (&factor)[kThreadRows]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] *= factor[RowOf(i)];
}

// Whether any row of the warp is to be rescaled: all lanes of the warp get the same answer.
__device__ __forceinline__ bool AnyRescales(const float (&factor)[kThreadRows]) {
  return __any_sync(kAllLanes, factor[0] != 1.0f || factor[1] != 1.0f);
}

// Transposes 4 words across the 4 lanes of a quad: lane l gets word l of lanes 0..3.
__device__ __forceinline__ void TransposeInQuad(uint32_t (&w)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const uint32_t received = __shfl_xor_sync(kAllLanes, upper ? w[i] : w[i | bit], bit);
      w[i] = upper ? received : w[i];
      w[i | bit] = upper ? w[i | bit] : received;
    }
  }
}

}  // namespace tanren::kernels::cuda::hopper

#endif  // TANREN_KERNELS_CUDA_ATTENTION_HOPPER_SOFTMAX_CUH_
