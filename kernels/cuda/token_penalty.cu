// Logits of single tokens, changed before drawing and put back after it: a thread for each.
#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/sampling.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

__device__ __forceinline__ int64_t OwnPenalty() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }

__global__ __launch_bounds__(kThreads) void PenalizeKernel(int64_t count, const TokenPenalty* penalties,
                                                           int64_t stride, float* logits, float* plain) {
  const int64_t i = OwnPenalty();
  if (i >= count) return;
  const TokenPenalty own = penalties[i];
  float& logit = logits[own.row * stride + own.token];
  const float before = logit;
  plain[i] = before;
  if (isnan(before)) return;
  if (own.penalty == kInfinity) {
    logit = -kInfinity;
  } else {
    logit = before > 0 ? __fdiv_rn(before, own.penalty) : __fmul_rn(before, own.penalty);
  }
}

__global__ __launch_bounds__(kThreads) void RestoreKernel(int64_t count, const TokenPenalty* penalties,
                                                          int64_t stride, const float* plain, float* logits) {
  const int64_t i = OwnPenalty();
  if (i < count) logits[penalties[i].row * stride + penalties[i].token] = plain[i];
}

}  // namespace
}  // namespace cuda

void cuda::PenalizeLogits(const Stream& stream, int64_t count, const TokenPenalty* penalties,
                          int64_t vocab_stride, float* logits, float* plain) {
  if (count <= 0) return;
  LaunchInTurn(stream, PenalizeKernel, static_cast<unsigned>(CeilDiv(count, kThreads)), kThreads, count,
               penalties, vocab_stride, logits, plain);
}

void cuda::RestoreLogits(const Stream& stream, int64_t count, const TokenPenalty* penalties,
                         int64_t vocab_stride, const float* plain, float* logits) {
  if (count <= 0) return;
  LaunchInTurn(stream, RestoreKernel, static_cast<unsigned>(CeilDiv(count, kThreads)), kThreads, count,
               penalties, vocab_stride, plain, logits);
}

}  // namespace tanren::kernels
