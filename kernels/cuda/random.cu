// Normal random numbers: Box and Muller (1958) on one block of Philox a pair.
//
// The operations, in double and never fused, are those of kernels/cpu/random.cc in the same order, so a
// number has the same bits on every device. A thread makes one pair; pair p of the sequence is numbers 2p and
// 2p + 1.
#include <array>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/random.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr int kThreads = 256;

// The upper 52 bits as a double in [1, 2).
__device__ __forceinline__ double OneToTwo(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits >> 12 | 0x3ff0000000000000u));
}

template <int kCount>
__device__ __forceinline__ double Horner(double x, const double (&c)[kCount]) {
  double sum = c[kCount - 1];
#pragma unroll
  for (int i = kCount - 2; i >= 0; --i) sum = __dadd_rn(__dmul_rn(sum, x), c[i]);
  return sum;
}

// ln u for normal u > 0: u = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1) / (m + 1).
__device__ __forceinline__ double Log(double u) {
  constexpr double kSeries[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7, 2.0 / 9,
                                2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17};
  const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(u));
  double m = __longlong_as_double(static_cast<long long>((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u));
  double e = static_cast<double>(static_cast<int>(bits >> 52) - 1023);
  if (m > 1.4142135623730951) {
    m = __dmul_rn(m, 0.5);
    e = __dadd_rn(e, 1.0);
  }
  const double s = __ddiv_rn(__dsub_rn(m, 1.0), __dadd_rn(m, 1.0));
  const double log_m = __dmul_rn(s, Horner(__dmul_rn(s, s), kSeries));
  return __dadd_rn(__dmul_rn(e, 0.69314718055994531), log_m);
}

// Sine and cosine of 2 pi t for t in [0, 1): a quarter turn q and the rest r in [-1/2, 1/2] of a quarter.
__device__ __forceinline__ void SinCosTurns(double t, double* sine, double* cosine) {
  constexpr double kSine[] = {1.0,          -1.0 / 6,        1.0 / 120,         -1.0 / 5040,
                              1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0};
  constexpr double kCosine[] = {1.0,         -1.0 / 2,       1.0 / 24,          -1.0 / 720,
                                1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0};
  constexpr double kMagic = 0x1.8p52;  // adding it rounds to an integer, left in the low bits
  const double quarters = __dmul_rn(t, 4.0);
  const double shifted = __dadd_rn(quarters, kMagic);
  const uint64_t q = static_cast<uint64_t>(__double_as_longlong(shifted));
  const double r = __dsub_rn(quarters, __dsub_rn(shifted, kMagic));
  const double angle = __dmul_rn(r, 1.5707963267948966);
  const double square = __dmul_rn(angle, angle);
  const double s = __dmul_rn(angle, Horner(square, kSine));
  const double c = Horner(square, kCosine);
  const bool odd = (q & 1) != 0;
  // Signs: sine is negative in quarters 2 and 3, cosine in 1 and 2.
  const uint64_t sine_sign = (q & 2) << 62;
  const uint64_t cosine_sign = ((q + 1) & 2) << 62;
  const auto flip = [](double value, uint64_t sign) {
    return __longlong_as_double(__double_as_longlong(value) ^ static_cast<long long>(sign));
  };
  *sine = flip(odd ? c : s, sine_sign);
  *cosine = flip(odd ? s : c, cosine_sign);
}

__device__ __forceinline__ float2 NormalPair(uint64_t seed, uint64_t domain, uint64_t block, double std) {
  const std::array<uint32_t, 4> words = RandomBlock(seed, domain, block);
  const double u = __dsub_rn(2.0, OneToTwo(uint64_t{words[1]} << 32 | words[0]));  // (0, 1]
  const double t = __dsub_rn(OneToTwo(uint64_t{words[3]} << 32 | words[2]), 1.0);  // [0, 1)
  const double radius = __dmul_rn(__dsqrt_rn(__dmul_rn(Log(u), -2.0)), std);
  double sine, cosine;
  SinCosTurns(t, &sine, &cosine);
  return {__double2float_rn(__dmul_rn(radius, cosine)), __double2float_rn(__dmul_rn(radius, sine))};
}

// `skip` is 1 when the first number of the first pair is not wanted; `paired`: pairs are 8-byte aligned.
__global__ __launch_bounds__(kThreads) void FillNormalKernel(uint64_t seed, uint64_t domain,
                                                             uint64_t first_block, int64_t pairs,
                                                             int64_t skip, bool paired, int64_t count,
                                                             double std, float* out) {
  const int64_t pair = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (pair >= pairs) return;
  const float2 z = NormalPair(seed, domain, first_block + static_cast<uint64_t>(pair), std);
  const int64_t at = 2 * pair - skip;
  if (paired && at >= 0 && at + 1 < count) {
    *reinterpret_cast<float2*>(out + at) = z;
    return;
  }
  if (at >= 0) out[at] = z.x;
  if (at + 1 < count) out[at + 1] = z.y;
}

}  // namespace
}  // namespace cuda

void cuda::FillNormal(const Stream& stream, uint64_t seed, uint64_t stream_id, uint64_t first_index,
                      int64_t count, float std, float* out) {
  if (count <= 0) return;
  const int64_t skip = static_cast<int64_t>(first_index % 2);
  const int64_t pairs = CeilDiv(skip + count, 2);
  const bool paired = (reinterpret_cast<uintptr_t>(out) / sizeof(float) + skip) % 2 == 0;
  LaunchInTurn(stream, FillNormalKernel, static_cast<unsigned>(CeilDiv(pairs, kThreads)), kThreads, seed,
               stream_id ^ kNormalDomain, first_index / 2, pairs, skip, paired, count, std, out);
}

}  // namespace tanren::kernels
