// What Digest() adds up, on the host and on a GPU.
#ifndef TANREN_KERNELS_DIGEST_H_
#define TANREN_KERNELS_DIGEST_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

// For each place an invertible function of the word: multiplications by odd numbers and an exclusive or with
// the upper half, after Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators" (whose
// golden ratio spreads the places).
TANREN_HOST_DEVICE inline uint64_t DigestWord(uint64_t word, uint64_t place) {
  uint64_t hash = (word ^ (place * 0x9e3779b97f4a7c15)) * 0xbf58476d1ce4e5b9;
  hash ^= hash >> 32;
  return hash * 0x94d049bb133111eb;
}

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_DIGEST_H_
