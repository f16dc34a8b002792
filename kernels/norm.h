// Layer normalisation (Ba et al. 2016) and root-mean-square normalisation (Zhang and Sennrich 2019), fused
// with the residual sum that precedes them.
//
// Rows are [rows, width]; x, y, weight, bias share one dtype (kF32 or kBF16); statistics and weight gradients
// are fp32. Row sums use blocks that depend on the width only; weight gradients sum rows in fixed blocks of
// rows, so no result depends on the number of threads.
#ifndef TANREN_KERNELS_NORM_H_
#define TANREN_KERNELS_NORM_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

enum class NormKind : uint8_t { kLayer, kRms };

struct NormForwardArgs {
  NormKind kind = NormKind::kRms;
  int64_t rows = 0;
  int64_t width = 0;
  float epsilon = 1e-5f;
  ConstBuffer x;       // [rows, width]
  ConstBuffer delta;   // [rows, width] or absent: added to x first
  Buffer sum;          // [rows, width]: x + delta, rounded to the dtype; required with delta; may be x itself
  ConstBuffer weight;  // [width]
  ConstBuffer bias;    // [width] or absent; kLayer only
  Buffer y;            // [rows, width] = norm(x + delta) * weight + bias
  float* mean = nullptr;  // [rows]; kLayer only, may be null when no backward follows
  float* rstd = nullptr;  // [rows]; may be null when no backward follows
};
void NormForward(const Stream& stream, const NormForwardArgs& args);

struct NormBackwardArgs {
  NormKind kind = NormKind::kRms;
  int64_t rows = 0;
  int64_t width = 0;
  ConstBuffer dy;               // [rows, width]
  ConstBuffer x;                // the normalised input (x + delta of the forward)
  ConstBuffer weight;           // [width]
  const float* mean = nullptr;  // [rows]; kLayer only
  const float* rstd = nullptr;  // [rows]
  ConstBuffer dresidual;        // [rows, width] or absent: gradient that reaches x by the residual path
  Buffer dx;                    // [rows, width] = norm backward + dresidual; may be dresidual itself
  float* dweight = nullptr;     // [width], +=
  float* dbias = nullptr;       // [width], +=; absent without bias
};
void NormBackward(const Stream& stream, const NormBackwardArgs& args);

// RMS normalisation of each head of a strided buffer, in place or not: head h of token t is the `width`
// elements at t * stride + h * width (Qwen 3's query and key norms).
struct HeadNormArgs {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t width = 0;   // head size
  int64_t stride = 0;  // elements between tokens, of x, y, dy and dx alike
  float epsilon = 1e-6f;
  ConstBuffer weight;  // [width]
};
// y = rms_norm(x) * weight; rstd [tokens, heads] may be null. y may be x only when no backward follows.
void HeadNormForward(const Stream& stream, const HeadNormArgs& args, ConstBuffer x, Buffer y, float* rstd);
// dx from dy, the forward's input x and rstd; dx may be dy. dweight [width] +=.
void HeadNormBackward(const Stream& stream, const HeadNormArgs& args, ConstBuffer dy, ConstBuffer x,
                      const float* rstd, Buffer dx, float* dweight);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_NORM_H_
