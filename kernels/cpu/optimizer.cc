#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/backend.h"
#include "kernels/cpu/philox-inl.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include <algorithm>
#include <cstring>
#include <type_traits>

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
  Buffer m, v, w_model;
  uint64_t seed, step, first_index;  // of the random numbers
};

}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_OPTIMIZER_ONCE_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

using U32 = hn::RebindToUnsigned<F32>;
using VU32 = hn::Vec<U32>;

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

// M is the dtype of the moments; T that of w_model, which is null when it is not wanted.
template <class M, class T>
struct AdamWArrays {
  const float* g;
  float* w;
  M* m;
  M* v;
  T* w_model;
};

// Moments in fp32 are kept as they are.
HWY_INLINE void StoreMoment(F32 d, VF32 x, VU32, float* to) { hn::StoreU(x, d, to); }

// As RoundAtRandom() does it; `random` has 16 bits a lane.
HWY_INLINE void StoreMoment(F32 d, VF32 x, VU32 random, BFloat16* to) {
  const U32 du;
  const VU32 word = hn::BitCast(du, x);
  const auto is_nan = hn::RebindMask(du, hn::IsNaN(x));
  const VU32 quiet = hn::Or(hn::ShiftRight<16>(word), hn::Set(du, 0x40u));
  StoreBits(d, hn::IfThenElse(is_nan, quiet, hn::ShiftRight<16>(hn::Add(word, random))), to);
}

template <class M>
HWY_INLINE void StoreMomentPart(F32 d, VF32 x, VU32 random, M* to, int64_t count) {
  alignas(64) M lanes[HWY_MAX_BYTES / 4];
  StoreMoment(d, x, random, lanes);
  std::memcpy(to, lanes, count * sizeof(M));
}

// Elements [begin, end); `random` holds a word of each, and a vector more.
template <class M, class T>
HWY_INLINE void UpdateElements(const AdamWConstants& c, const AdamWArrays<M, T>& x, int64_t begin,
                               int64_t end, const uint32_t* random) {
  const F32 d;
  const U32 du;
  const int64_t lanes = hn::Lanes(d);
  const auto lower = [&](VU32 word) { return hn::And(word, hn::Set(du, 0xffffu)); };
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) {
    const AdamWVectors in{LoadF32(d, x.w + i), LoadF32(d, x.m + i), LoadF32(d, x.v + i)};
    const AdamWVectors out = UpdateVector(d, c, LoadF32(d, x.g + i), in);
    const VU32 word = random == nullptr ? hn::Zero(du) : hn::LoadU(du, random + (i - begin));
    StoreF32(d, out.w, x.w + i);
    StoreMoment(d, out.m, lower(word), x.m + i);
    StoreMoment(d, out.v, hn::ShiftRight<16>(word), x.v + i);
    if (x.w_model != nullptr) StoreF32(d, out.w, x.w_model + i);
  }
  const int64_t left = end - i;
  if (lanes == 1 || left == 0) return;
  const AdamWVectors in{LoadPart(d, x.w + i, left), LoadPart(d, x.m + i, left), LoadPart(d, x.v + i, left)};
  const AdamWVectors out = UpdateVector(d, c, LoadPart(d, x.g + i, left), in);
  const VU32 word = random == nullptr ? hn::Zero(du) : hn::LoadU(du, random + (i - begin));
  StorePart(d, out.w, x.w + i, left);
  StoreMomentPart(d, out.m, lower(word), x.m + i, left);
  StoreMomentPart(d, out.v, hn::ShiftRight<16>(word), x.v + i, left);
  if (x.w_model != nullptr) StorePart(d, out.w, x.w_model + i, left);
}

// Words of at least `blocks` blocks from `first_block` on: whole vectors of blocks.
void DrawBlocks(const AdamWRange& range, uint64_t first_block, int64_t blocks, uint64_t* words) {
  const U64 d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t block = 0; block < blocks; block += lanes) {
    VU64 first, second;
    PhiloxBlocks(range.seed, range.step, hn::Iota(d, first_block + static_cast<uint64_t>(block)), first,
                 second);
    hn::StoreInterleaved2(first, second, d, words + 2 * block);
  }
}

template <class M, class T>
void UpdateRange(const AdamWConstants& c, const AdamWRange& range) {
  const AdamWArrays<M, T> x{range.g, range.w, range.m.as<M>(), range.v.as<M>(), range.w_model.as<T>()};
  if constexpr (std::is_same_v<M, float>) {
    UpdateElements(c, x, 0, range.count, nullptr);
  } else {
    // The random words of a tile stay in the first cache.
    constexpr int64_t kTile = 1024;
    constexpr int64_t kSpare = 2 * HWY_MAX_BYTES / 4 + 4;
    alignas(64) uint64_t words[(kTile + kSpare) / 2];
    for (int64_t begin = 0; begin < range.count; begin += kTile) {
      const int64_t end = std::min(begin + kTile, range.count);
      const uint64_t index = range.first_index + static_cast<uint64_t>(begin);
      const int64_t skipped = static_cast<int64_t>(index % 4);
      DrawBlocks(range, index / 4, (skipped + end - begin + 3) / 4, words);
      UpdateElements(c, x, begin, end, reinterpret_cast<const uint32_t*>(words) + skipped);
    }
  }
}

void Update(const AdamWConstants& c, const AdamWRange& range) {
  const bool model_is_bf16 = range.w_model.dtype == DType::kBF16;
  if (range.m.dtype == DType::kBF16) {
    return model_is_bf16 ? UpdateRange<BFloat16, BFloat16>(c, range) : UpdateRange<BFloat16, float>(c, range);
  }
  return model_is_bf16 ? UpdateRange<float, BFloat16>(c, range) : UpdateRange<float, float>(c, range);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {

HWY_EXPORT(Update);

void cpu::AdamW(const Stream&, const AdamWArgs& args, const float* g, float* w, Buffer m, Buffer v,
                Buffer w_model) {
  TANREN_KERNEL_CHECK(args.step >= 1);
  TANREN_KERNEL_CHECK(m.dtype == v.dtype && (m.dtype == DType::kF32 || m.dtype == DType::kBF16));
  TANREN_KERNEL_CHECK(!w_model || w_model.dtype == DType::kF32 || w_model.dtype == DType::kBF16);
  const AdamWConstants constants = ConstantsOf(args);
  const auto from = [](Buffer buffer, int64_t element) {
    if (!buffer) return buffer;
    return Buffer(buffer.as<char>() + element * SizeOf(buffer.dtype), buffer.dtype);
  };
  constexpr int64_t kGrain = 16384;
  cpu::ParallelElements(args.count, kGrain, [&](int64_t begin, int64_t end) {
    const AdamWRange range{.count = end - begin,
                           .g = g + begin,
                           .w = w + begin,
                           .m = from(m, begin),
                           .v = from(v, begin),
                           .w_model = from(w_model, begin),
                           .seed = args.rounding_seed,
                           .step = static_cast<uint64_t>(args.step),
                           .first_index = static_cast<uint64_t>(args.first_index + begin)};
    HWY_DYNAMIC_DISPATCH(Update)(constants, range);
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
