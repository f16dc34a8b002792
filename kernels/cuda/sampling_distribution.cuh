// A row's distribution over tokens: exact masses and the descending order. See sampling.cu for the algorithm.
#ifndef TANREN_KERNELS_CUDA_SAMPLING_DISTRIBUTION_CUH_
#define TANREN_KERNELS_CUDA_SAMPLING_DISTRIBUTION_CUH_

#include <cstdint>
#include <limits>

#include "kernels/cuda/pack.cuh"
#include "kernels/sampling.h"

namespace tanren::kernels::cuda::sampling {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Mass = unsigned long long;  // as the atomics of CUDA name it
using Key = unsigned long long;

constexpr Key kLastKey = ~Key{0};

// Tokens at most this far below the largest logit, after division by the temperature, are near.
constexpr float kReach = 8;

// Of the logits of a segment or a row. A NaN among them makes `max` NaN; `min` is that of the values other
// than -infinity.
struct Range {
  float max;
  float min;
};

struct RowMass {
  Mass total;
  Mass near_count;
};

// Ascending order of keys = descending logit, then ascending id.
__device__ __forceinline__ Key OrderKey(float logit, uint32_t id) {
  const uint32_t word = logit == 0 ? 0 : __float_as_uint(logit);  // -0 is 0
  const uint32_t ascending = (word & 0x80000000u) ? ~word : word | 0x80000000u;
  return Key{~ascending} << 32 | id;
}
__device__ __forceinline__ float LogitOf(Key key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  return __uint_as_float((ascending & 0x80000000u) ? ascending & 0x7fffffffu : ~ascending);
}
__device__ __forceinline__ uint32_t IdOf(Key key) { return static_cast<uint32_t>(key); }

// A row's distribution. Infinite logits share all the mass: they become 0 and the others minus infinity.
struct Distribution {
  float max, min;
  float temperature;  // 1 when greedy
  float unit;         // masses in a probability of 1 relative to the largest
  bool infinite;
  bool exists;

  __device__ __forceinline__ float Logit(float raw) const {
    return infinite ? (raw == kInfinity ? 0.0f : -kInfinity) : raw;
  }
  __device__ __forceinline__ float Distance(float logit) const {
    const float difference = __fsub_rn(max, logit);
    return temperature == 1 ? difference : __fdiv_rn(difference, temperature);
  }
  __device__ __forceinline__ Mass MassAt(float distance) const {
    // fmaxf turns the NaN of an infinite temperature into no mass.
    return __float2ull_rn(__fmul_rn(fmaxf(expf(-distance), 0.0f), unit));
  }
};

// All threads of a block of kThreads call it, for the ranges of their row's segments.
template <int kThreads>
__device__ Distribution ReadDistribution(const Range* ranges, unsigned segments, float temperature,
                                         float unit) {
  float max = -kInfinity, min = kInfinity;
  bool nan = false;
#pragma unroll 1
  for (unsigned s = threadIdx.x; s < segments; s += kThreads) {
    const Range range = ranges[s];
    nan |= isnan(range.max);
    max = fmaxf(max, range.max);
    min = fminf(min, range.min);
  }
  nan = __syncthreads_or(nan) != 0;
  Distribution result;
  result.max = BlockMax<kThreads>(max);
  result.min = -BlockMax<kThreads>(-min);
  result.temperature = temperature == 0 ? 1.0f : temperature;
  result.unit = unit;
  result.infinite = result.max == kInfinity;
  if (result.infinite) result.max = result.min = 0;
  result.exists = !nan && result.max != -kInfinity && temperature >= 0;
  return result;
}

// Of a token in a row whose masses add up to `total`.
__device__ __forceinline__ float LogProbability(const Distribution& distribution, float logit, Mass total) {
  const double distance =
      (static_cast<double>(distribution.max) - logit) / static_cast<double>(distribution.temperature);
  const double log_total = log(static_cast<double>(total) / distribution.unit);
  return static_cast<float>(-distance - log_total);
}

}  // namespace tanren::kernels::cuda::sampling

#endif  // TANREN_KERNELS_CUDA_SAMPLING_DISTRIBUTION_CUH_
