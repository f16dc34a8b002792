// Flat reductions, conversions and elementwise sums.
#ifndef TANREN_KERNELS_REDUCE_H_
#define TANREN_KERNELS_REDUCE_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

// Sum of squares in blocks of 4096 elements, block sums in double added in order: independent of threads.
// NaN and infinities propagate into the result. *result is host memory on the CPU, device memory on a GPU.
void SumOfSquares(const Stream& stream, const float* x, int64_t count, double* result);

// A hash of `bytes` bytes, the same on every device and any number of threads: the sum, modulo 2^64, over the
// words of eight bytes (the last one filled up with zeros) of an invertible function of the word and its
// place. So a difference in one word is never missed, and one in several is with a chance of 2^-64. x is
// aligned to eight bytes; *result is host memory on the CPU, device memory on a GPU.
void Digest(const Stream& stream, int64_t bytes, const void* x, uint64_t* result);

// y = x converted (kF32, kBF16, kF16, kF64), rounding to nearest even.
void Cast(const Stream& stream, int64_t count, ConstBuffer x, Buffer y);

// y += alpha * x, fp32 arithmetic; dtypes kF32 or kBF16 each.
void AddScaled(const Stream& stream, int64_t count, float alpha, ConstBuffer x, Buffer y);

// out [width] += sum over rows of x [rows, width] (stride between rows), in fixed blocks of rows. out is
// fp32.
void ColumnSum(const Stream& stream, int64_t rows, int64_t width, ConstBuffer x, int64_t stride, float* out);

void Fill(const Stream& stream, int64_t bytes, uint8_t value, void* data);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_REDUCE_H_
