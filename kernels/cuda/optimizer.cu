// AdamW: one pass over the range that reads g, w, m and v and writes w, m, v and the model's copy of w.
//
// Memory bound: 28 bytes an element, 20 with moments in bf16, and 2 or 4 more for the model's copy. Every
// product, sum, root and quotient is named and correctly rounded, so neither the compiler nor the place of an
// element in a pack changes a bit; the formula and its fused operations are those of the CPU.
//
// Moments in bf16 are rounded by a block of random words for four neighbouring elements. A pack is such four
// where the range's first index lies within a block as its arrays lie within a pack; else each element draws
// the block anew and takes its word.
#include <array>
#include <type_traits>

#include "kernels/adamw_constants.h"
#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/flat.cuh"
#include "kernels/optimizer.h"
#include "kernels/random.h"

namespace tanren::kernels {
namespace cuda {
namespace {

struct AdamWElement {
  float w, m, v;
};

__device__ __forceinline__ AdamWElement Update(const AdamWConstants& c, float g, AdamWElement old) {
  g = __fmul_rn(g, c.gradient_scale);
  AdamWElement result;
  result.m = __fmaf_rn(c.beta1, old.m, __fmul_rn(c.one_minus_beta1, g));
  result.v = __fmaf_rn(c.beta2, old.v, __fmul_rn(__fmul_rn(c.one_minus_beta2, g), g));
  const float root = __fmul_rn(__fsqrt_rn(result.v), c.inverse_root_correction2);
  const float ratio = __fdiv_rn(result.m, __fadd_rn(root, c.epsilon));
  result.w = __fmaf_rn(-c.step_size, ratio, __fmul_rn(old.w, c.keep));
  return result;
}

__device__ __forceinline__ void StoreMoment(float value, uint32_t, float* to) { *to = value; }
__device__ __forceinline__ void StoreMoment(float value, uint32_t random, BFloat16* to) {
  *to = RoundAtRandom(value, random);
}

// Moment: the dtype of the moments. Model: that of the model's copy; void: not wanted.
template <class Moment, class Model>
struct AdamWOp {
  static constexpr int kPack = kPackOf<float>;
  static constexpr int kPacks = 2;
  static constexpr bool kRounds = std::is_same_v<Moment, BFloat16>;
  static_assert(kPack == 4, "a pack has as many elements as a random block has words");

  AdamWConstants constants;
  uint64_t seed;
  uint64_t step;
  uint64_t first_index;
  const float* g;
  float* w;
  Moment* m;
  Moment* v;
  Model* w_model;

  template <int n>
  struct Input {
    Pack<float, n> g, w;
    Pack<Moment, n> m, v;
  };
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    return {LoadPack<n>(g + i), LoadPack<n>(w + i), LoadPack<n>(m + i), LoadPack<n>(v + i)};
  }
  // The words of elements [i, i + n).
  template <int n>
  __device__ std::array<uint32_t, n> Draw(int64_t i) const {
    if constexpr (!kRounds) {
      return {};
    } else {
      const uint64_t index = first_index + static_cast<uint64_t>(i);
      const std::array<uint32_t, 4> words = RandomBlock(seed, step, index / 4);
      if constexpr (n == kPack) {
        return words;
      } else {
        const uint32_t even = (index & 2) != 0 ? words[2] : words[0];
        const uint32_t odd = (index & 2) != 0 ? words[3] : words[1];
        return {(index & 1) != 0 ? odd : even};
      }
    }
  }
  template <int n>
  __device__ void Finish(int64_t i, Input<n>& x) const {
    const std::array<uint32_t, n> random = Draw<n>(i);
#pragma unroll
    for (int e = 0; e < n; ++e) {
      const AdamWElement result =
          Update(constants, x.g.at[e], {x.w.at[e], ToFloat(x.m.at[e]), ToFloat(x.v.at[e])});
      x.w.at[e] = result.w;
      StoreMoment(result.m, random[e] & 0xffffu, &x.m.at[e]);
      StoreMoment(result.v, random[e] >> 16, &x.v.at[e]);
    }
    StorePack(w + i, x.w);
    StorePack(m + i, x.m);
    StorePack(v + i, x.v);
    if constexpr (!std::is_void_v<Model>) {
      Pack<Model, n> model;
#pragma unroll
      for (int e = 0; e < n; ++e) model.at[e] = FromFloat<Model>(x.w.at[e]);
      StorePack(w_model + i, model);
    }
  }
};

template <class Moment, class Model>
void Launch(const Stream& stream, const AdamWArgs& args, const float* g, float* w, Buffer m, Buffer v,
            Buffer w_model) {
  using Op = AdamWOp<Moment, Model>;
  constexpr int n = Op::kPack;
  const Op op{.constants = ConstantsOf(args),
              .seed = args.rounding_seed,
              .step = static_cast<uint64_t>(args.step),
              .first_index = static_cast<uint64_t>(args.first_index),
              .g = g,
              .w = w,
              .m = m.as<Moment>(),
              .v = v.as<Moment>(),
              .w_model = w_model.as<Model>()};
  const int64_t phase = PhaseOf<n>(w);
  int64_t model_phase = phase;
  if constexpr (!std::is_void_v<Model>) model_phase = PhaseOf<n>(op.w_model);
  const int64_t random_phase = Op::kRounds ? static_cast<int64_t>(op.first_index % n) : phase;
  LaunchFlat(stream, args.count,
             {phase, PhaseOf<n>(g), PhaseOf<n>(op.m), PhaseOf<n>(op.v), model_phase, random_phase}, op);
}

template <class Moment>
void LaunchFor(const Stream& stream, const AdamWArgs& args, const float* g, float* w, Buffer m, Buffer v,
               Buffer w_model) {
  if (!w_model) {
    Launch<Moment, void>(stream, args, g, w, m, v, w_model);
  } else if (w_model.dtype == DType::kF32) {
    Launch<Moment, float>(stream, args, g, w, m, v, w_model);
  } else {
    Launch<Moment, BFloat16>(stream, args, g, w, m, v, w_model);
  }
}

}  // namespace
}  // namespace cuda

void cuda::AdamW(const Stream& stream, const AdamWArgs& args, const float* g, float* w, Buffer m, Buffer v,
                 Buffer w_model) {
  TANREN_CUDA_REQUIRE(args.step >= 1);
  TANREN_CUDA_REQUIRE(m.dtype == v.dtype && IsF32OrBF16(m.dtype));
  TANREN_CUDA_REQUIRE(!w_model || IsF32OrBF16(w_model.dtype));
  if (m.dtype == DType::kBF16) {
    LaunchFor<BFloat16>(stream, args, g, w, m, v, w_model);
  } else {
    LaunchFor<float>(stream, args, g, w, m, v, w_model);
  }
}

}  // namespace tanren::kernels
