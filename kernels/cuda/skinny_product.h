// The forward product of a linear layer for few rows: decoding. It is bound by reading the weight once.
#ifndef TANREN_KERNELS_CUDA_SKINNY_PRODUCT_H_
#define TANREN_KERNELS_CUDA_SKINNY_PRODUCT_H_

#include <cstdint>

#include "kernels/matmul.h"

namespace tanren::kernels::cuda {

inline constexpr int kSkinnyRows = 8;  // beyond it cuBLASLt is faster

// bf16, up to kSkinnyRows rows, `k` and the strides multiples of 8 elements, 16-byte aligned.
bool SkinnyProductSupports(int64_t rows, int64_t k, ConstMatrix x, ConstBuffer weight);

// y [rows, n] = x [rows, k] weight [n, k]^T + bias [n] (bf16 or absent), y in bf16 or fp32; sums in fp32, in
// an order that depends on n and k alone: a row does not depend on the rows beside it.
void SkinnyProduct(const Stream& stream, int64_t rows, int64_t n, int64_t k, ConstMatrix x,
                   ConstBuffer weight, ConstBuffer bias, Matrix y);

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_SKINNY_PRODUCT_H_
