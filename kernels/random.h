// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011).
//
// A number is a pure function of (seed, stream, index), so any rank can make any part of a sequence alone and
// every layout sees the same numbers.
#ifndef TANREN_KERNELS_RANDOM_H_
#define TANREN_KERNELS_RANDOM_H_

#include <array>
#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

// One block of Philox4x32-10.
TANREN_HOST_DEVICE std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter,
                                                  std::array<uint32_t, 2> key);

// 64 random bits number `index` of stream `stream_id` under `seed`.
TANREN_HOST_DEVICE uint64_t RandomBits(uint64_t seed, uint64_t stream_id, uint64_t index);
// Uniform in [0, 1), 53 bits (double) or 24 bits (float).
TANREN_HOST_DEVICE double RandomUniform(uint64_t seed, uint64_t stream_id, uint64_t index);
// Uniform integer in [0, bound), unbiased to 2^-64 (multiply-shift). bound > 0.
TANREN_HOST_DEVICE uint64_t RandomBelow(uint64_t seed, uint64_t stream_id, uint64_t index, uint64_t bound);

// out[i] = mean 0, standard deviation `std` normal number of index first_index + i (Box-Muller on one block a
// number pair).
void FillNormal(const Stream& stream, uint64_t seed, uint64_t stream_id, uint64_t first_index, int64_t count,
                float std, float* out);

// A pseudo-random permutation of [0, size) evaluated point by point (a Feistel network with cycle walking):
// an epoch's order without a table.
uint64_t PermuteIndex(uint64_t seed, uint64_t stream_id, uint64_t size, uint64_t index);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_RANDOM_H_
