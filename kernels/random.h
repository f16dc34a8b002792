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

// Multipliers and key increments of Philox4x32 (Salmon et al. 2011, section 4.3): the golden ratio and
// sqrt(3) - 1.
inline constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
inline constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
inline constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;

// One block of Philox4x32-10.
TANREN_HOST_DEVICE inline std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter,
                                                         std::array<uint32_t, 2> key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  return counter;
}

TANREN_HOST_DEVICE inline std::array<uint32_t, 2> PhiloxKey(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

// Block number `index` of stream `stream_id` under `seed`: counter = (index, stream), key = seed.
TANREN_HOST_DEVICE inline std::array<uint32_t, 4> RandomBlock(uint64_t seed, uint64_t stream_id,
                                                              uint64_t index) {
  return Philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                 static_cast<uint32_t>(stream_id), static_cast<uint32_t>(stream_id >> 32)},
                PhiloxKey(seed));
}

// 64 random bits number `index` of stream `stream_id` under `seed`.
TANREN_HOST_DEVICE inline uint64_t RandomBits(uint64_t seed, uint64_t stream_id, uint64_t index) {
  const std::array<uint32_t, 4> block = RandomBlock(seed, stream_id, index);
  return uint64_t{block[1]} << 32 | block[0];
}

// Uniform in [0, 1), 53 bits.
TANREN_HOST_DEVICE inline double RandomUniform(uint64_t seed, uint64_t stream_id, uint64_t index) {
  return static_cast<double>(RandomBits(seed, stream_id, index) >> 11) * 0x1p-53;
}

// Uniform integer in [0, bound), unbiased to 2^-64 (multiply-shift). bound > 0. On the host.
uint64_t RandomBelow(uint64_t seed, uint64_t stream_id, uint64_t index, uint64_t bound);

// Normals flip these bits of the stream number, so they do not repeat what RandomBits gives for the stream.
inline constexpr uint64_t kNormalDomain = 0x6E6F726D616C7321u;

// out[i] = mean 0, standard deviation `std` normal number of index first_index + i (Box-Muller on one block a
// number pair). The same bits on every device.
void FillNormal(const Stream& stream, uint64_t seed, uint64_t stream_id, uint64_t first_index, int64_t count,
                float std, float* out);

// A pseudo-random permutation of [0, size) evaluated point by point (a Feistel network with cycle walking):
// an epoch's order without a table. On the host.
uint64_t PermuteIndex(uint64_t seed, uint64_t stream_id, uint64_t size, uint64_t index);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_RANDOM_H_
