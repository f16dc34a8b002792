// AdamW (Loshchilov and Hutter 2019) over flat ranges.
#ifndef TANREN_KERNELS_OPTIMIZER_H_
#define TANREN_KERNELS_OPTIMIZER_H_

#include <bit>
#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

struct AdamWArgs {
  int64_t count = 0;
  float learning_rate = 0;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float epsilon = 1e-8f;     // outside the root
  float weight_decay = 0;    // decoupled: w *= 1 - lr * decay
  int64_t step = 1;          // 1-based, for bias correction
  float gradient_scale = 1;  // clipping: gradients are multiplied by it first

  // Of moments in bf16: element i of the range is number first_index + i of the sequence that seed and step
  // choose (see RoundAtRandom below). Ranges whose first_index is a multiple of 4 are the fast ones.
  uint64_t rounding_seed = 0;
  int64_t first_index = 0;
};
// g [count] is read; w (fp32), m and v [count] (both kF32 or both kBF16) are updated in place; w_model
// (absent, kF32 or kBF16) receives the rounded new weight, to be all-gathered. Elementwise and the same bits
// wherever a range is cut: vector tails use the same arithmetic as bodies.
//
// Moments in bf16 are read as fp32 numbers, and the weight moves by the new moments before they are rounded.
// They are rounded at random: to nearest, v would stand still wherever a step changes it by less than half a
// unit in the last place, 2^-9 to 2^-8 of it; with a beta2 of 0.999 it would never fall.
void AdamW(const Stream& stream, const AdamWArgs& args, const float* g, float* w, Buffer m, Buffer v,
           Buffer w_model);

// One of the two bf16 numbers next to `value`, the one further from zero with the probability of what is cut
// off, so that the mean is `value`. `random`: 16 uniform bits. Exact numbers, infinities and NaN stay.
//
// Number k of the sequence of (seed, step) is word k mod 4 of RandomBlock(seed, step, k / 4): m takes its
// lower 16 bits, v the upper.
TANREN_HOST_DEVICE inline BFloat16 RoundAtRandom(float value, uint32_t random) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
  BFloat16 result;
  result.bits = static_cast<uint16_t>(is_nan ? word >> 16 | 0x40u : (word + random) >> 16);
  return result;
}

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_OPTIMIZER_H_
