// Normals and permutations drawn from Philox4x32-10.
//
// Both flip fixed bits of the stream number, so they do not repeat the bits that RandomBits gives for the
// same stream.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/random.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/cpu/philox-inl.h"
// clang-format on

#include <algorithm>
#include <bit>

#include "kernels/backend.h"
#include "kernels/cpu/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/random.h"

#ifndef TANREN_KERNELS_CPU_RANDOM_ONCE_
#define TANREN_KERNELS_CPU_RANDOM_ONCE_
namespace tanren::kernels {

inline constexpr uint64_t kPermutationDomain = 0x7065726D75746521u;

}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_RANDOM_ONCE_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
using F64 = hn::ScalableTag<double>;
using VF64 = hn::Vec<F64>;

// The upper 52 bits as a double in [1, 2).
HWY_INLINE VF64 OneToTwo(VU64 bits) {
  const U64 d;
  return hn::BitCast(F64(), hn::Or(hn::ShiftRight<12>(bits), hn::Set(d, 0x3ff0000000000000u)));
}

// No fused multiply-add below: the same bits on every instruction set.
template <int kCount>
HWY_INLINE VF64 Horner(VF64 x, const double (&c)[kCount]) {
  const F64 d;
  VF64 sum = hn::Set(d, c[kCount - 1]);
  for (int i = kCount - 2; i >= 0; --i) sum = hn::Add(hn::Mul(sum, x), hn::Set(d, c[i]));
  return sum;
}

// ln u for normal u > 0: u = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1) / (m + 1),
// |s| < 0.172.
HWY_INLINE VF64 Log(VF64 u) {
  const F64 d;
  const U64 du;
  const VU64 bits = hn::BitCast(du, u);
  const VF64 one = hn::Set(d, 1.0);
  VF64 m = hn::BitCast(
      d, hn::Or(hn::And(bits, hn::Set(du, 0x000fffffffffffffu)), hn::Set(du, 0x3ff0000000000000u)));
  // A biased exponent put into the fraction of 2^52 is the number 2^52 + exponent.
  const VU64 exponent = hn::Or(hn::ShiftRight<52>(bits), hn::Set(du, 0x4330000000000000u));
  VF64 e = hn::Sub(hn::BitCast(d, exponent), hn::Set(d, 0x1p52 + 1023.0));
  const auto upper = hn::Gt(m, hn::Set(d, 1.4142135623730951));
  m = hn::IfThenElse(upper, hn::Mul(m, hn::Set(d, 0.5)), m);
  e = hn::IfThenElse(upper, hn::Add(e, one), e);
  const VF64 s = hn::Div(hn::Sub(m, one), hn::Add(m, one));
  constexpr double kSeries[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7, 2.0 / 9,
                                2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17};
  const VF64 log_m = hn::Mul(s, Horner(hn::Mul(s, s), kSeries));
  return hn::Add(hn::Mul(e, hn::Set(d, 0.69314718055994531)), log_m);
}

// Sine and cosine of 2 pi t for t in [0, 1): a quarter turn q and the rest r in [-1/2, 1/2] of a quarter.
HWY_INLINE void SinCosTurns(VF64 t, VF64& sine, VF64& cosine) {
  const F64 d;
  const U64 du;
  const VF64 quarters = hn::Mul(t, hn::Set(d, 4.0));
  const VF64 magic = hn::Set(d, 0x1.8p52);  // adding it rounds to an integer, left in the low bits
  const VF64 shifted = hn::Add(quarters, magic);
  const VU64 q = hn::BitCast(du, shifted);
  const VF64 r = hn::Sub(quarters, hn::Sub(shifted, magic));
  const VF64 angle = hn::Mul(r, hn::Set(d, 1.5707963267948966));
  const VF64 square = hn::Mul(angle, angle);
  constexpr double kSine[] = {1.0,          -1.0 / 6,        1.0 / 120,         -1.0 / 5040,
                              1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0};
  constexpr double kCosine[] = {1.0,         -1.0 / 2,       1.0 / 24,          -1.0 / 720,
                                1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0};
  const VF64 s = hn::Mul(angle, Horner(square, kSine));
  const VF64 c = Horner(square, kCosine);
  const VU64 one = hn::Set(du, 1u);
  const auto odd = hn::RebindMask(d, hn::Eq(hn::And(q, one), one));
  // Signs: sine is negative in quarters 2 and 3, cosine in 1 and 2.
  const VU64 sine_sign = hn::ShiftLeft<62>(hn::And(q, hn::Set(du, 2u)));
  const VU64 cosine_sign = hn::ShiftLeft<62>(hn::And(hn::Add(q, one), hn::Set(du, 2u)));
  sine = hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, sine_sign));
  cosine = hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, cosine_sign));
}

// Normals of the blocks first_block, first_block + 1, ... (Box and Muller 1958): two a block, `blocks` of
// them.
void NormalBlocks(uint64_t seed, uint64_t stream_id, uint64_t first_block, int64_t blocks, double std,
                  float* out) {
  const U64 du;
  const F64 d;
  const hn::Rebind<float, F64> df;
  const int64_t lanes = hn::Lanes(d);
  alignas(64) float cosines[HWY_MAX_BYTES / 8];
  alignas(64) float sines[HWY_MAX_BYTES / 8];
  for (int64_t block = 0; block < blocks; block += lanes) {
    VU64 first, second;
    PhiloxBlocks(seed, stream_id, hn::Iota(du, first_block + static_cast<uint64_t>(block)), first, second);
    const VF64 u = hn::Sub(hn::Set(d, 2.0), OneToTwo(first));   // (0, 1]
    const VF64 t = hn::Sub(OneToTwo(second), hn::Set(d, 1.0));  // [0, 1)
    const VF64 radius = hn::Mul(hn::Sqrt(hn::Mul(Log(u), hn::Set(d, -2.0))), hn::Set(d, std));
    VF64 sine, cosine;
    SinCosTurns(t, sine, cosine);
    hn::StoreU(hn::DemoteTo(df, hn::Mul(radius, cosine)), df, cosines);
    hn::StoreU(hn::DemoteTo(df, hn::Mul(radius, sine)), df, sines);
    const int64_t count = std::min(lanes, blocks - block);
    for (int64_t i = 0; i < count; ++i) {
      out[2 * (block + i)] = cosines[i];
      out[2 * (block + i) + 1] = sines[i];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {

HWY_EXPORT(NormalBlocks);

// Elements [begin, end) of the sequence, whole blocks except perhaps the first and the last number.
void NormalElements(uint64_t seed, uint64_t stream_id, uint64_t begin, int64_t count, double std,
                    float* out) {
  const uint64_t domain = stream_id ^ kNormalDomain;
  float pair[2];
  if (count > 0 && begin % 2 == 1) {
    HWY_DYNAMIC_DISPATCH(NormalBlocks)(seed, domain, begin / 2, 1, std, pair);
    *out++ = pair[1];
    ++begin;
    --count;
  }
  HWY_DYNAMIC_DISPATCH(NormalBlocks)(seed, domain, begin / 2, count / 2, std, out);
  if (count % 2 == 1) {
    HWY_DYNAMIC_DISPATCH(NormalBlocks)(seed, domain, (begin + count) / 2, 1, std, pair);
    out[count - 1] = pair[0];
  }
}

}  // namespace

uint64_t RandomBelow(uint64_t seed, uint64_t stream_id, uint64_t index, uint64_t bound) {
  TANREN_KERNEL_CHECK(bound > 0);
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(Wide{RandomBits(seed, stream_id, index)} * bound >> 64);
}

void cpu::FillNormal(const Stream&, uint64_t seed, uint64_t stream_id, uint64_t first_index, int64_t count,
                     float std, float* out) {
  constexpr int64_t kGrain = 8192;
  cpu::ParallelElements(count, kGrain, [&](int64_t begin, int64_t end) {
    NormalElements(seed, stream_id, first_index + static_cast<uint64_t>(begin), end - begin, std,
                   out + begin);
  });
}

// The bits of an index are split into a left and a right part (equal, or one bit apart); each round adds to
// one part, modulo 2, a Philox hash of the other, which is undone by the same round, so the whole is a
// permutation of [0, 2^bits). Values outside [0, size) are permuted again until they fall inside: fewer than
// two steps on average.
uint64_t PermuteIndex(uint64_t seed, uint64_t stream_id, uint64_t size, uint64_t index) {
  TANREN_KERNEL_CHECK(index < size);
  const int bits = std::max<int>(2, std::bit_width(size - 1));
  const int right_bits = bits / 2;
  const int left_bits = bits - right_bits;
  const uint32_t right_mask = static_cast<uint32_t>((uint64_t{1} << right_bits) - 1);
  const uint32_t left_mask = static_cast<uint32_t>((uint64_t{1} << left_bits) - 1);
  const uint64_t domain = stream_id ^ kPermutationDomain;
  const auto hash = [&](uint32_t round, uint32_t part) {
    return Philox({part, round, static_cast<uint32_t>(domain), static_cast<uint32_t>(domain >> 32)},
                  PhiloxKey(seed))[0];
  };
  constexpr uint32_t kRounds = 8;
  do {
    uint32_t left = static_cast<uint32_t>(index >> right_bits);
    uint32_t right = static_cast<uint32_t>(index) & right_mask;
    for (uint32_t round = 0; round < kRounds; round += 2) {
      left ^= hash(round, right) & left_mask;
      right ^= hash(round + 1, left) & right_mask;
    }
    index = uint64_t{left} << right_bits | right;
  } while (index >= size);
  return index;
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
