// Loads and stores of fp32 lanes from fp32 or bf16 memory; included once per instruction set.
//
// A part of a vector at the end of a row goes through a small copy, never through a masked access: no byte
// outside the row is touched on any instruction set.
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/types.h"

#if defined(TANREN_KERNELS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANREN_KERNELS_CPU_VECTOR_INL_H_
#undef TANREN_KERNELS_CPU_VECTOR_INL_H_
#else
#define TANREN_KERNELS_CPU_VECTOR_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VF32 = hn::Vec<F32>;

template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const float* from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const BFloat16* from) {
  const hn::RebindToUnsigned<D> du32;
  const hn::Rebind<uint16_t, D> du16;
  const auto half = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, half)));
}

HWY_INLINE void StoreF32(F32 d, VF32 v, float* to) { hn::StoreU(v, d, to); }

// Lanes that fit sixteen bits, as bf16 numbers.
template <class VU32>
HWY_INLINE void StoreBits(F32 d, VU32 bits, BFloat16* to) {
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  alignas(16) uint32_t lanes[HWY_MAX_BYTES / 4];
  hn::Store(bits, hn::RebindToUnsigned<F32>(), lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) to[i].bits = static_cast<uint16_t>(lanes[i]);
#else
  // The saturation of DemoteTo (from int32) changes nothing.
  const hn::Rebind<uint16_t, F32> du16;
  const hn::RebindToSigned<F32> di32;
  hn::StoreU(hn::DemoteTo(du16, hn::BitCast(di32, bits)), du16, reinterpret_cast<uint16_t*>(to));
#endif
}

// Rounds to nearest, ties to even, as BFloat16(float) does; NaN stays NaN.
HWY_INLINE void StoreF32(F32 d, VF32 v, BFloat16* to) {
  const hn::RebindToUnsigned<F32> du32;
  const auto word = hn::BitCast(du32, v);
  const auto upper = hn::ShiftRight<16>(word);
  const auto tie = hn::And(upper, hn::Set(du32, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(word, hn::Add(tie, hn::Set(du32, 0x7fffu))));
  const auto is_nan = hn::RebindMask(du32, hn::IsNaN(v));
  StoreBits(d, hn::IfThenElse(is_nan, hn::Or(upper, hn::Set(du32, 0x40u)), rounded), to);
}

// The first `count` lanes (count < Lanes(d)); the others are zero.
template <class T>
HWY_INLINE VF32 LoadPart(F32 d, const T* from, int64_t count) {
  alignas(64) T lanes[HWY_MAX_BYTES / 4] = {};
  std::memcpy(lanes, from, count * sizeof(T));
  return LoadF32(d, lanes);
}

template <class T>
HWY_INLINE void StorePart(F32 d, VF32 v, T* to, int64_t count) {
  alignas(64) T lanes[HWY_MAX_BYTES / 4];
  StoreF32(d, v, lanes);
  std::memcpy(to, lanes, count * sizeof(T));
}

// A whole vector, or the `left` lanes (>= 1) before the end of the row.
template <class T>
HWY_INLINE VF32 LoadUpTo(F32 d, const T* from, int64_t left) {
  return left >= static_cast<int64_t>(hn::Lanes(d)) ? LoadF32(d, from) : LoadPart(d, from, left);
}
template <class T>
HWY_INLINE void StoreUpTo(F32 d, VF32 v, T* to, int64_t left) {
  if (left >= static_cast<int64_t>(hn::Lanes(d))) {
    StoreF32(d, v, to);
  } else {
    StorePart(d, v, to, left);
  }
}

HWY_INLINE float SumLanes(F32 d, VF32 v) { return hn::GetLane(hn::SumOfLanes(d, v)); }
HWY_INLINE float MaxLanes(F32 d, VF32 v) { return hn::GetLane(hn::MaxOfLanes(d, v)); }

// v rounded to T and back: what a later kernel will read.
HWY_INLINE VF32 RoundTo(F32, VF32 v, const float*) { return v; }
HWY_INLINE VF32 RoundTo(F32 d, VF32 v, const BFloat16*) {
  alignas(64) BFloat16 lanes[HWY_MAX_BYTES / 4];
  StoreF32(d, v, lanes);
  return LoadF32(d, lanes);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
