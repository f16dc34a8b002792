// AdamW: one pass over the range that reads g, w, m and v and writes w, m, v and the model's copy of w.
//
// Memory bound: 28 bytes an element, and 2 or 4 more for the model's copy. Every product, sum, root and
// quotient is named and correctly rounded, so neither the compiler nor the place of an element in a pack
// changes a bit; the formula and its fused operations are those of the CPU.
#include <type_traits>

#include "kernels/adamw_constants.h"
#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/flat.cuh"
#include "kernels/optimizer.h"

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

// Model: the dtype of the model's copy; void: not wanted.
template <class Model>
struct AdamWOp {
  static constexpr int kPack = kPackOf<float>;
  static constexpr int kPacks = 2;

  AdamWConstants constants;
  const float* g;
  float* w;
  float* m;
  float* v;
  Model* w_model;

  template <int n>
  struct Input {
    Pack<float, n> g, w, m, v;
  };
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    return {LoadPack<n>(g + i), LoadPack<n>(w + i), LoadPack<n>(m + i), LoadPack<n>(v + i)};
  }
  template <int n>
  __device__ void Finish(int64_t i, Input<n>& x) const {
#pragma unroll
    for (int e = 0; e < n; ++e) {
      const AdamWElement result = Update(constants, x.g.at[e], {x.w.at[e], x.m.at[e], x.v.at[e]});
      x.w.at[e] = result.w;
      x.m.at[e] = result.m;
      x.v.at[e] = result.v;
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

template <class Model>
void Launch(const Stream& stream, int64_t count, const AdamWOp<Model>& op) {
  constexpr int n = AdamWOp<Model>::kPack;
  const int64_t phase = PhaseOf<n>(op.w);
  int64_t model_phase = phase;
  if constexpr (!std::is_void_v<Model>) model_phase = PhaseOf<n>(op.w_model);
  LaunchFlat(stream, count, {phase, PhaseOf<n>(op.g), PhaseOf<n>(op.m), PhaseOf<n>(op.v), model_phase}, op);
}

}  // namespace
}  // namespace cuda

void cuda::AdamW(const Stream& stream, const AdamWArgs& args, const float* g, float* w, float* m, float* v,
                 Buffer w_model) {
  TANREN_CUDA_REQUIRE(args.step >= 1);
  TANREN_CUDA_REQUIRE(!w_model || IsF32OrBF16(w_model.dtype));
  const AdamWConstants constants = ConstantsOf(args);
  if (!w_model) {
    Launch<void>(stream, args.count, {constants, g, w, m, v, nullptr});
  } else if (w_model.dtype == DType::kF32) {
    Launch<float>(stream, args.count, {constants, g, w, m, v, w_model.as<float>()});
  } else {
    Launch<BFloat16>(stream, args.count, {constants, g, w, m, v, w_model.as<BFloat16>()});
  }
}

}  // namespace tanren::kernels
