// The element types of activations and weights: fp32 and bf16. Anything else would be read as the wrong type.
#ifndef TANREN_KERNELS_CPU_ELEMENT_H_
#define TANREN_KERNELS_CPU_ELEMENT_H_

#include <initializer_list>

#include "kernels/cpu/check.h"
#include "kernels/types.h"

namespace tanren::kernels::cpu {

// Aborts unless `first` is kF32 or kBF16 and all buffers that are present have that type.
inline void CheckElements(DType first, std::initializer_list<ConstBuffer> buffers) {
  TANREN_KERNEL_CHECK(first == DType::kF32 || first == DType::kBF16);
  for (const ConstBuffer& buffer : buffers) TANREN_KERNEL_CHECK(!buffer || buffer.dtype == first);
}

}  // namespace tanren::kernels::cpu

#endif  // TANREN_KERNELS_CPU_ELEMENT_H_
