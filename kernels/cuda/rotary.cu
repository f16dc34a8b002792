// Rotary position embedding, in place: one pass over the heads at the bandwidth of memory.
//
// A thread takes one pack of pairs of one token: elements [j, j + n) of the first half of a head and their
// partners in the second half, for several heads, so that the angles are read once for all of them. Threads
// that are neighbours take the packs of a head, then the next head, then the next token. The arithmetic is
// that of the CPU, operation by operation.
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/rotary.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/rotary.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsPerThread = 4;

// Thread `head_lane` of `head_lanes` takes heads head_lane, head_lane + head_lanes, ...
template <class T, int kCount>
__global__ __launch_bounds__(kThreads, 3) void RotaryKernel(const RotaryArgs args, int64_t half,
                                                            int64_t half_packs, int64_t head_lanes,
                                                            float direction, T* x) {
  AwaitEarlierKernels();
  const int64_t unit = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t lanes = head_lanes * half_packs;
  const int64_t token = unit / lanes;
  if (token >= args.tokens) return;
  const int64_t lane = unit - token * lanes;
  const int64_t head_lane = lane / half_packs;
  const int64_t pair = (lane - head_lane * half_packs) * kCount;
  T* first_half = x + token * args.stride + head_lane * args.head_dim + pair;
  T* second_half = first_half + half;
  const int64_t head_step = head_lanes * args.head_dim;

  Pack<T, kCount> first[kHeadsPerThread], second[kHeadsPerThread];
#pragma unroll
  for (int h = 0; h < kHeadsPerThread; ++h) {
    if (head_lane + h * head_lanes >= args.heads) continue;
    first[h] = LoadPack<kCount>(first_half + h * head_step);
    second[h] = LoadPack<kCount>(second_half + h * head_step);
  }
  const int64_t angle = int64_t{args.positions[token]} * half + pair;
  float cosine[kCount], sine[kCount];
  LoadAngles(args.cosine + angle, cosine);
  LoadAngles(args.sine + angle, sine);
#pragma unroll
  for (int e = 0; e < kCount; ++e) sine[e] *= direction;
#pragma unroll
  for (int h = 0; h < kHeadsPerThread; ++h) {
    if (head_lane + h * head_lanes >= args.heads) continue;
    Turn(cosine, sine, first[h], second[h]);
    StorePack(first_half + h * head_step, first[h]);
    StorePack(second_half + h * head_step, second[h]);
  }
}

template <class T>
void Rotate(const Stream& stream, const RotaryArgs& args, float direction, T* x) {
  constexpr int n = kPackOf<T>;
  static_assert(n % kAnglePack == 0);
  const int64_t half = args.head_dim / 2;
  const bool packed = IsPacked<n>(x, args.stride) && half % n == 0 &&
                      IsPacked<kAnglePack>(args.cosine, half) && IsPacked<kAnglePack>(args.sine, half);
  const int64_t half_packs = packed ? half / n : half;
  const int64_t head_lanes = CeilDiv(args.heads, kHeadsPerThread);
  const int64_t blocks = CeilDiv(args.tokens * head_lanes * half_packs, kThreads);
  const auto kernel = packed ? RotaryKernel<T, n> : RotaryKernel<T, 1>;
  LaunchChained(stream, kernel, static_cast<unsigned>(blocks), kThreads, args, half, half_packs, head_lanes,
                direction, x);
}

}  // namespace
}  // namespace cuda

void cuda::Rotary(const Stream& stream, const RotaryArgs& args, Buffer x, bool inverse) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype));
  TANREN_CUDA_REQUIRE(args.head_dim % 2 == 0);
  if (args.tokens <= 0 || args.heads <= 0 || args.head_dim <= 0) return;
  const float direction = inverse ? -1.0f : 1.0f;
  if (x.dtype == DType::kF32) {
    Rotate(stream, args, direction, x.as<float>());
  } else {
    Rotate(stream, args, direction, x.as<BFloat16>());
  }
}

}  // namespace tanren::kernels
