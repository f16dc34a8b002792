// Blocks of Philox4x32-10, one a lane; included once per instruction set.
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/random.h"

#if defined(TANREN_KERNELS_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANREN_KERNELS_CPU_PHILOX_INL_H_
#undef TANREN_KERNELS_CPU_PHILOX_INL_H_
#else
#define TANREN_KERNELS_CPU_PHILOX_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using U64 = hn::ScalableTag<uint64_t>;
using VU64 = hn::Vec<U64>;

// Product of the low 32 bits of each lane with a constant.
HWY_INLINE VU64 MultiplyLow32(VU64 a, uint32_t b) {
#if HWY_TARGET == HWY_SCALAR
  return VU64((a.raw & 0xffffffffu) * b);
#else
  const hn::RepartitionToNarrow<U64> d32;
  return hn::MulEven(hn::BitCast(d32, a), hn::Set(d32, b));
#endif
}

// Blocks of Philox, one a lane; c0..c3 hold a word in their low 32 bits, and garbage above.
HWY_INLINE void PhiloxRounds(VU64& c0, VU64& c1, VU64& c2, VU64& c3, uint64_t seed) {
  const U64 d;
  uint32_t k0 = static_cast<uint32_t>(seed);
  uint32_t k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const VU64 product0 = MultiplyLow32(c0, kPhiloxMultiplier0);
    const VU64 product1 = MultiplyLow32(c2, kPhiloxMultiplier1);
    c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(product1), c1), hn::Set(d, k0));
    c1 = product1;
    c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(product0), c3), hn::Set(d, k1));
    c3 = product0;
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
}

// RandomBlock(seed, stream_id, index) of every lane: `first` holds words 0 (lower half) and 1, `second` words
// 2 and 3.
HWY_INLINE void PhiloxBlocks(uint64_t seed, uint64_t stream_id, VU64 index, VU64& first, VU64& second) {
  const U64 d;
  VU64 c0 = index, c1 = hn::ShiftRight<32>(index);
  VU64 c2 = hn::Set(d, stream_id), c3 = hn::Set(d, stream_id >> 32);
  PhiloxRounds(c0, c1, c2, c3, seed);
  const VU64 low = hn::Set(d, 0xffffffffu);
  first = hn::Or(hn::And(c0, low), hn::ShiftLeft<32>(c1));
  second = hn::Or(hn::And(c2, low), hn::ShiftLeft<32>(c3));
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
