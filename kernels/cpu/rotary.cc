// Rotary position embedding: memory-bound, one pass in place.
#include "kernels/rotary.h"

#include "kernels/backend.h"
#include "kernels/cpu/element.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rotary.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

// (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin) for the pairs of one head; `sign` -1 rotates back.
template <class T>
void RotateHead(int64_t half, const float* cosine, const float* sine, float sign, T* x) {
  const F32 d;
  const VF32 direction = hn::Set(d, sign);
  for (int64_t i = 0; i < half; i += hn::Lanes(d)) {
    const int64_t left = half - i;
    const VF32 c = LoadUpTo(d, cosine + i, left);
    const VF32 s = hn::Mul(LoadUpTo(d, sine + i, left), direction);
    const VF32 x1 = LoadUpTo(d, x + i, left);
    const VF32 x2 = LoadUpTo(d, x + half + i, left);
    StoreUpTo(d, hn::NegMulAdd(x2, s, hn::Mul(x1, c)), x + i, left);
    StoreUpTo(d, hn::MulAdd(x1, s, hn::Mul(x2, c)), x + half + i, left);
  }
}

template <class T>
void RotateOf(const RotaryArgs& args, T* x, float sign) {
  const int64_t half = args.head_dim / 2;
  cpu::ParallelRange(args.tokens, 16, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t angle = int64_t{args.positions[token]} * half;
      for (int64_t head = 0; head < args.heads; ++head) {
        RotateHead(half, args.cosine + angle, args.sine + angle, sign,
                   x + token * args.stride + head * args.head_dim);
      }
    }
  });
}

void Rotate(const RotaryArgs& args, Buffer x, bool inverse) {
  const float sign = inverse ? -1.0f : 1.0f;
  if (x.dtype == DType::kBF16) {
    RotateOf(args, x.as<BFloat16>(), sign);
  } else {
    RotateOf(args, x.as<float>(), sign);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {
HWY_EXPORT(Rotate);
}  // namespace

void cpu::Rotary(const Stream&, const RotaryArgs& args, Buffer x, bool inverse) {
  cpu::CheckElements(x.dtype, {});
  TANREN_KERNEL_CHECK(args.head_dim % 2 == 0);
  HWY_DYNAMIC_DISPATCH(Rotate)(args, x, inverse);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
