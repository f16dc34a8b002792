// What every element of an AdamW step shares, computed once in double: the same numbers on every backend.
#ifndef TANREN_KERNELS_ADAMW_CONSTANTS_H_
#define TANREN_KERNELS_ADAMW_CONSTANTS_H_

#include <cmath>

#include "kernels/optimizer.h"

namespace tanren::kernels {

struct AdamWConstants {
  float gradient_scale;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float inverse_root_correction2;  // 1 / sqrt(1 - beta2^step)
  float epsilon;
  float keep;       // 1 - learning_rate * weight_decay
  float step_size;  // learning_rate / (1 - beta1^step)
};

inline AdamWConstants ConstantsOf(const AdamWArgs& args) {
  const double step = static_cast<double>(args.step);
  const double learning_rate = args.learning_rate;
  return {
      .gradient_scale = args.gradient_scale,
      .beta1 = args.beta1,
      .one_minus_beta1 = static_cast<float>(1.0 - args.beta1),
      .beta2 = args.beta2,
      .one_minus_beta2 = static_cast<float>(1.0 - args.beta2),
      .inverse_root_correction2 = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(args.beta2, step))),
      .epsilon = args.epsilon,
      .keep = static_cast<float>(1.0 - learning_rate * args.weight_decay),
      .step_size = static_cast<float>(learning_rate / (1.0 - std::pow(args.beta1, step))),
  };
}

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_ADAMW_CONSTANTS_H_
