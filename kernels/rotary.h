// Rotary position embedding (Su et al. 2021), in the half-split form of Llama: the pair of dimension i is
// i + head_dim / 2.
#ifndef TANREN_KERNELS_ROTARY_H_
#define TANREN_KERNELS_ROTARY_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

struct RotaryArgs {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;  // even
  int64_t stride = 0;    // elements between tokens; head h of token t starts at t * stride + h * head_dim
  const int32_t* positions = nullptr;  // [tokens]
  // cos and sin, [max_position, head_dim / 2] each; the model floor fills them (any scaling).
  const float* cosine = nullptr;
  const float* sine = nullptr;
};
// x is rotated in place. `inverse` rotates back, which is the backward pass.
void Rotary(const Stream& stream, const RotaryArgs& args, Buffer x, bool inverse);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_ROTARY_H_
