// x = cap * tanh(x / cap), element by element.
#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void SoftCapKernel(int64_t count, float cap, float* x) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) x[i] = cap * tanhf(x[i] / cap);
}

}  // namespace

void cuda::SoftCap(const Stream& stream, int64_t count, float cap, float* x) {
  if (count == 0) return;
  LaunchInTurn(stream, SoftCapKernel, static_cast<unsigned>(CeilDiv(count, kThreads)), kThreads, count, cap,
               x);
}

}  // namespace tanren::kernels
