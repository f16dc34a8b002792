// Elementary functions on fp32 lanes, within a few units in the last place of the exact value over the whole
// range, with exact limits at infinity; NaN stays NaN. Included once per instruction set.
//
// The polynomials are Chebyshev fits of the named functions on the named intervals.
#include <cmath>
#include <limits>

#include "hwy/highway.h"

#if defined(TANREN_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANREN_KERNELS_CPU_MATH_INL_H_
#undef TANREN_KERNELS_CPU_MATH_INL_H_
#else
#define TANREN_KERNELS_CPU_MATH_INL_H_
#endif

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

// sum of c[i] x^i by Horner's rule.
template <int kCount>
HWY_INLINE VF32 Polynomial(F32 d, VF32 x, const float (&c)[kCount]) {
  VF32 sum = hn::Set(d, c[kCount - 1]);
  for (int i = kCount - 2; i >= 0; --i) sum = hn::MulAdd(sum, x, hn::Set(d, c[i]));
  return sum;
}

// v * 2^n for integral n in about [-252, 254]: in two steps, so that neither factor leaves the normal range.
HWY_INLINE VF32 ScaleByPowerOfTwo(F32 d, VF32 v, VF32 n) {
  const hn::RebindToSigned<F32> di;
  const auto whole = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(whole);
  const auto bias = hn::Set(di, 127);
  const VF32 first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const VF32 second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::Mul(hn::Mul(v, first), second);
}

// e^x. Below -104 the result is 0, above 88.73 infinite; between, denormals are kept.
HWY_INLINE VF32 Exp(F32 d, VF32 x) {
  // (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2.
  constexpr float kTail[] = {0.5f, 0.166665770256f, 0.0416665546621f, 0.00836317307451f, 0.00139261761199f};
  const VF32 clamped = hn::Max(hn::Set(d, -104.5f), hn::Min(hn::Set(d, 90.0f), x));
  const VF32 n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504089f)));
  // ln 2 in two parts; the upper has nine trailing zero bits, so n times it is exact.
  VF32 r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), clamped);
  r = hn::NegMulAdd(n, hn::Set(d, 1.428606765330187e-6f), r);
  const VF32 tail = hn::Mul(hn::Mul(r, r), Polynomial(d, r, kTail));
  const VF32 mantissa = hn::Add(hn::Set(d, 1.0f), hn::Add(r, tail));
  return hn::IfThenElse(hn::IsNaN(x), x, ScaleByPowerOfTwo(d, mantissa, n));
}

// 2^x for x <= 0 (a rounding above does no harm), zero below -126: the weights of a softmax. -inf gives
// exactly 0, 0 gives exactly 1.
HWY_INLINE VF32 Exp2NonPositive(F32 d, VF32 x) {
  // 2^r on |r| <= 1/2.
  constexpr float kPowers[] = {1.0f,
                               0.693147206703f,
                               0.240226509223f,
                               0.0555032722667f,
                               0.00961805667852f,
                               0.00134004281776f,
                               0.000154614446986f};
  const hn::RebindToSigned<F32> di;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it, plus 127, in the low bits of the word.
  const VF32 magic = hn::Set(d, 12583039.0f);
  const VF32 shifted = hn::Add(x, magic);
  const VF32 mantissa = Polynomial(d, hn::Sub(x, hn::Sub(shifted, magic)), kPowers);
  const VF32 power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  // What lies below is garbage up to here; NaN is not below and passes through the products.
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), hn::Mul(mantissa, power));
}

HWY_INLINE VF32 Tanh(F32 d, VF32 x) {
  // (tanh a - a) / a^3 in a^2, on a <= 0.632.
  constexpr float kTail[] = {-0.333333331494f, 0.133333001462f,    -0.0539584616275f,
                             0.0217625029074f, -0.00832318705828f, 0.00226950168416f};
  const VF32 a = hn::Abs(x);
  const VF32 square = hn::Mul(a, a);
  const VF32 small = hn::MulAdd(hn::Mul(square, a), Polynomial(d, square, kTail), a);
  // 1 - 2 / (e^2a + 1); from a = 9.1 on it rounds to 1.
  const VF32 e = Exp(d, hn::Min(hn::Set(d, 20.0f), hn::Add(a, a)));
  const VF32 one = hn::Set(d, 1.0f);
  const VF32 large = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one)));
  const VF32 magnitude = hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625f)), small, large);
  return hn::IfThenElse(hn::IsNaN(x), x, hn::CopySign(magnitude, x));
}

// 1 / (1 + e^-x), with full relative accuracy on both sides.
HWY_INLINE VF32 Sigmoid(F32 d, VF32 x) {
  const VF32 one = hn::Set(d, 1.0f);
  const VF32 e = Exp(d, hn::Neg(hn::Abs(x)));
  const VF32 numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return hn::Div(numerator, hn::Add(one, e));
}

// The standard normal distribution function of x; *density = e^(-x^2/2) / sqrt(2 pi).
//
// erfc(t) = e^(-t^2) g(t) / (1 + 2 t) with g fitted in u = (t - 2) / (t + 2) on t in [0, 10]; the lower tail
// keeps its relative accuracy, which 1 + erf(x) would lose.
HWY_INLINE VF32 NormalCdf(F32 d, VF32 x, VF32* density) {
  constexpr float kScaled[] = {1.27697838237f,    -0.0927638164264f,   -0.166030491712f,   0.164050926134f,
                               -0.0542183129811f, -0.00803012662588f,  0.00871194616635f,  0.00125141354004f,
                               -0.0014277931504f, -0.000401881575874f, 0.000175488956048f, 8.27059713874e-5f};
  const VF32 one = hn::Set(d, 1.0f), two = hn::Set(d, 2.0f);
  const VF32 a = hn::Min(hn::Set(d, 14.5f), hn::Abs(x));
  const VF32 t = hn::Mul(a, hn::Set(d, 0.70710678118654752f));
  // e^(-a^2/2) with the rounding of the square put back (where the processor has a fused multiply-add).
  const VF32 half_square = hn::Mul(hn::Mul(a, hn::Set(d, 0.5f)), a);
  const VF32 rounding = hn::MulSub(hn::Mul(a, hn::Set(d, 0.5f)), a, half_square);
  VF32 e = Exp(d, hn::Neg(half_square));
  e = hn::NegMulAdd(e, rounding, e);
  *density = hn::Mul(e, hn::Set(d, 0.398942280401432678f));
  const VF32 u = hn::Div(hn::Sub(t, two), hn::Add(t, two));
  const VF32 g = Polynomial(d, u, kScaled);
  const VF32 tail = hn::Mul(hn::Set(d, 0.5f), hn::Div(hn::Mul(e, g), hn::MulAdd(two, t, one)));
  const VF32 cdf = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
  return hn::IfThenElse(hn::IsNaN(x), x, cdf);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
