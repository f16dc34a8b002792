// A matrix product as the CUDA backend's linear layers ask for it, and the kernel that computes any of them.
#ifndef TANREN_KERNELS_CUDA_PRODUCT_H_
#define TANREN_KERNELS_CUDA_PRODUCT_H_

#include <cstdint>

#include "kernels/matmul.h"
#include "kernels/types.h"

namespace tanren::kernels::cuda {

// A factor as it lies in memory, row-major; `transposed` when the product takes its transpose.
struct Factor {
  const void* data = nullptr;
  int64_t stride = 0;
  bool transposed = false;
};

// out [m, n] = left [m, k] right [k, n] + bias [n], or out += left right. Sums are carried in fp32 and
// rounded once.
struct Product {
  const char* name = "";  // for messages
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kF32;  // of both factors
  Factor left, right;
  ConstBuffer bias{};  // may be absent
  Matrix out;          // kF32 or the dtype of the factors
  bool accumulate = false;
};

// Takes every shape, stride and alignment, at a few per cent of the tensor cores' rate. The bias has the
// dtype of `out`.
void RunPlainProduct(const Stream& stream, const Product& product);

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_PRODUCT_H_
