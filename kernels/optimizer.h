// AdamW (Loshchilov and Hutter 2019) over flat ranges.
#ifndef TANREN_KERNELS_OPTIMIZER_H_
#define TANREN_KERNELS_OPTIMIZER_H_

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
};
// g [count] is read; w, m, v [count] (fp32) are updated in place; w_model (absent, kF32 or kBF16) receives
// the rounded new weight, to be all-gathered. Elementwise and the same bits wherever a range is cut: vector
// tails use the same arithmetic as bodies.
void AdamW(const Stream& stream, const AdamWArgs& args, const float* g, float* w, float* m, float* v,
           Buffer w_model);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_OPTIMIZER_H_
