#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/backend.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include "kernels/adamw_constants.h"
#include "kernels/cpu/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/optimizer.h"

#ifndef TANREN_KERNELS_CPU_OPTIMIZER_ONCE_
#define TANREN_KERNELS_CPU_OPTIMIZER_ONCE_
namespace tanren::kernels {

struct AdamWRange {
  int64_t count;
  const float* g;
  float* w;
  float* m;
  float* v;
};

}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_OPTIMIZER_ONCE_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

struct AdamWVectors {
  VF32 w, m, v;
};

// One vector of updates; the only arithmetic there is, for bodies and tails.
HWY_INLINE AdamWVectors UpdateVector(F32 d, const AdamWConstants& c, VF32 g, AdamWVectors in) {
  g = hn::Mul(g, hn::Set(d, c.gradient_scale));
  AdamWVectors out;
  out.m = hn::MulAdd(hn::Set(d, c.beta1), in.m, hn::Mul(hn::Set(d, c.one_minus_beta1), g));
  out.v = hn::MulAdd(hn::Set(d, c.beta2), in.v, hn::Mul(hn::Mul(hn::Set(d, c.one_minus_beta2), g), g));
  const VF32 root = hn::Mul(hn::Sqrt(out.v), hn::Set(d, c.inverse_root_correction2));
  const VF32 ratio = hn::Div(out.m, hn::Add(root, hn::Set(d, c.epsilon)));
  out.w = hn::NegMulAdd(hn::Set(d, c.step_size), ratio, hn::Mul(in.w, hn::Set(d, c.keep)));
  return out;
}

// T is the dtype of w_model; null: not wanted.
template <class T>
void UpdateRange(const AdamWConstants& c, const AdamWRange& range, T* w_model) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= range.count; i += lanes) {
    const AdamWVectors in{hn::LoadU(d, range.w + i), hn::LoadU(d, range.m + i), hn::LoadU(d, range.v + i)};
    const AdamWVectors out = UpdateVector(d, c, hn::LoadU(d, range.g + i), in);
    hn::StoreU(out.w, d, range.w + i);
    hn::StoreU(out.m, d, range.m + i);
    hn::StoreU(out.v, d, range.v + i);
    if (w_model != nullptr) StoreF32(d, out.w, w_model + i);
  }
  const int64_t left = range.count - i;
  if (left == 0) return;
  const AdamWVectors in{LoadPart(d, range.w + i, left), LoadPart(d, range.m + i, left),
                        LoadPart(d, range.v + i, left)};
  const AdamWVectors out = UpdateVector(d, c, LoadPart(d, range.g + i, left), in);
  StorePart(d, out.w, range.w + i, left);
  StorePart(d, out.m, range.m + i, left);
  StorePart(d, out.v, range.v + i, left);
  if (w_model != nullptr) StorePart(d, out.w, w_model + i, left);
}

void UpdateF32(const AdamWConstants& c, const AdamWRange& range, float* w_model) {
  UpdateRange(c, range, w_model);
}
void UpdateBF16(const AdamWConstants& c, const AdamWRange& range, BFloat16* w_model) {
  UpdateRange(c, range, w_model);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {

HWY_EXPORT(UpdateF32);
HWY_EXPORT(UpdateBF16);

void cpu::AdamW(const Stream&, const AdamWArgs& args, const float* g, float* w, float* m, float* v,
                Buffer w_model) {
  TANREN_KERNEL_CHECK(args.step >= 1);
  TANREN_KERNEL_CHECK(!w_model || w_model.dtype == DType::kF32 || w_model.dtype == DType::kBF16);
  const AdamWConstants constants = ConstantsOf(args);
  constexpr int64_t kGrain = 16384;
  cpu::ParallelElements(args.count, kGrain, [&](int64_t begin, int64_t end) {
    const AdamWRange range{end - begin, g + begin, w + begin, m + begin, v + begin};
    if (w_model.dtype == DType::kBF16) {
      HWY_DYNAMIC_DISPATCH(UpdateBF16)(constants, range, w_model ? w_model.as<BFloat16>() + begin : nullptr);
    } else {
      HWY_DYNAMIC_DISPATCH(UpdateF32)(constants, range, w_model ? w_model.as<float>() + begin : nullptr);
    }
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
