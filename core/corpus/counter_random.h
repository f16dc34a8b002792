// Random numbers as a function of (seed, index): the same on every platform and in any order of asking.
#ifndef TANREN_CORE_CORPUS_COUNTER_RANDOM_H_
#define TANREN_CORE_CORPUS_COUNTER_RANDOM_H_

#include <cstdint>

namespace tanren {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
constexpr uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

constexpr uint64_t CounterRandom(uint64_t seed, uint64_t index) {
  return MixBits(MixBits(seed + 0x9E3779B97F4A7C15u) + (index + 1) * 0x9E3779B97F4A7C15u);
}

// 0 .. bound - 1. The product's high half: biased by less than bound / 2^64.
constexpr uint64_t BoundedRandom(uint64_t random, uint64_t bound) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(random) * bound >> 64);
}

// A stream of such numbers.
class RandomStream {
 public:
  RandomStream(uint64_t seed, uint64_t stream) : seed_(CounterRandom(seed, stream)) {}
  uint64_t Next() { return CounterRandom(seed_, index_++); }
  // low .. high, both included
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(BoundedRandom(Next(), static_cast<uint64_t>(high - low) + 1));
  }

 private:
  uint64_t seed_;
  uint64_t index_ = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_COUNTER_RANDOM_H_
