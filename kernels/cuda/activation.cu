// Activations of the feed-forward layer, element by element, at the bandwidth of memory.
//
// bf16 leaves about thirty instructions an element before arithmetic is slower than memory, so each function
// is written around one exponential and one reciprocal of the special-function unit (2 and 1 ulp):
//  - the gates are sigmoids, 1 / (1 + 2^(-x log2 e)), which keep their relative accuracy in the lower tail;
//  - gelu needs the upper tail of the normal distribution, Q(a) = e^(-a^2/2) w P(w) with w = 1 / (1 + p a)
//    (the form of Hastings 1955). P is a minimax fit of the relative error on 0 <= a <= 14.5: 2e-8 for fp32,
//    8e-6, a five-hundredth of a bf16 rounding, for bf16.
#include <cstdint>
#include <type_traits>

#include "kernels/activation.h"
#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/flat.cuh"
#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/pack_float.cuh"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

// sum of c[i] x^i by Horner's rule.
template <int kCount>
__device__ __forceinline__ float Polynomial(float x, const float (&c)[kCount]) {
  float sum = c[kCount - 1];
#pragma unroll
  for (int i = kCount - 2; i >= 0; --i) sum = fmaf(sum, x, c[i]);
  return sum;
}

// 1 / (1 + 2^x). In bf16, gates below 2^-126 are 0.
template <class T>
__device__ __forceinline__ float GateOfPower(float x) {
  const float denominator = 1.0f + Exp2(x);
  return std::is_same_v<T, float> ? ReciprocalOfAny(denominator) : Reciprocal(denominator);
}

struct ValueAndSlope {
  float value;
  float slope;
};

// Functions of x for elements of dtype T, which the accuracy follows.

struct Gelu {
  struct Tail {
    float bell;         // e^(-a^2/2)
    float probability;  // Q(a)
  };

  // e^(-a^2/2): 2^(a^2 * -log2(e) / 2).
  template <class T>
  static __device__ __forceinline__ float Bell(float a) {
    constexpr float kScale = -0.72134752044448170f;
    const float square = __fmul_rn(a, a);
    const float power = __fmul_rn(square, kScale);
    if constexpr (!std::is_same_v<T, float>) return Exp2(power);
    // The power reaches -152, so its rounding errors, and the scale's, weigh a hundredfold: they are put
    // back.
    constexpr float kScaleRest = static_cast<float>(-0.72134752044448170 - double{kScale});
    constexpr float kLn2 = 0.693147180559945309f;
    float rest = fmaf(square, kScale, -power);
    rest = fmaf(square, kScaleRest, rest);
    rest = fmaf(fmaf(a, a, -square), kScale, rest);
    const float bell = Exp2(power);
    return fmaf(bell, rest * kLn2, bell);
  }

  template <class T>
  static __device__ __forceinline__ Tail TailFrom(float a) {
    Tail tail;
    tail.bell = Bell<T>(a);
    if constexpr (std::is_same_v<T, float>) {
      constexpr float kFit[] = {0.105740391f,  0.105266772f, 0.102555089f,  0.0608950071f, 0.136554986f,
                                -0.114286542f, 0.215950504f, -0.143300682f, 0.0306244772f};
      const float w = Reciprocal(fmaf(a, 0.265f, 1.0f));
      tail.probability = tail.bell * (w * Polynomial(w, kFit));
    } else {
      constexpr float kFit[] = {0.181301743f, 0.185793921f,  0.111677848f,
                                0.187315494f, -0.236391991f, 0.0703039393f};
      const float w = Reciprocal(fmaf(a, 0.455f, 1.0f));
      tail.probability = tail.bell * (w * Polynomial(w, kFit));
    }
    return tail;
  }

  // From here on the tail is 0 in fp32; the bound keeps 0 * inf away.
  static __device__ __forceinline__ float Bounded(float x) { return MinOrNan(fabsf(x), 14.5f); }

  // x Phi(x) = max(x, 0) - |x| Q(|x|).
  template <class T>
  static __device__ __forceinline__ float Value(float x) {
    const float a = Bounded(x);
    return fmaf(-a, TailFrom<T>(a).probability, fmaxf(x, 0.0f));
  }
  // Phi(x) + x phi(x).
  template <class T>
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    constexpr float kInverseRootTwoPi = 0.398942280401432678f;
    const float a = Bounded(x);
    const Tail tail = TailFrom<T>(a);
    const float above = fmaf(a * kInverseRootTwoPi, tail.bell, -tail.probability);  // slope(a) - 1
    return {fmaf(-a, tail.probability, fmaxf(x, 0.0f)), x < 0 ? -above : 1.0f + above};
  }
};

// x sigmoid(2 k (x + c x^3)), k = sqrt(2 / pi), c = 0.044715: the tanh form.
struct GeluTanh {
  static constexpr float kTwiceK = 2 * 0.797884560802865356f;
  static constexpr float kCubic = 0.044715f;

  template <class T>
  static __device__ __forceinline__ float Gate(float x, float square) {
    return GateOfPower<T>(x * fmaf(square, -kLog2E * kTwiceK * kCubic, -kLog2E * kTwiceK));
  }
  template <class T>
  static __device__ __forceinline__ float Value(float x) {
    return x * Gate<T>(x, x * x);
  }
  template <class T>
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    // Beyond 20 the gate is exactly 0 or 1; the bound keeps its slope's 0 * inf away.
    const float bounded = MaxOrNan(-20.0f, MinOrNan(x, 20.0f));
    const float square = bounded * bounded;
    const float gate = Gate<T>(bounded, square);
    const float inner = fmaf(square, 3 * kTwiceK * kCubic, kTwiceK);
    return {x * gate, fmaf(bounded * inner, fmaf(-gate, gate, gate), gate)};
  }
};

struct Silu {
  template <class T>
  static __device__ __forceinline__ float Value(float x) {
    return x * GateOfPower<T>(-kLog2E * x);
  }
  template <class T>
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float gate = GateOfPower<T>(-kLog2E * x);
    const float value = x * gate;
    return {value, fmaf(value, 1.0f - gate, gate)};
  }
};

// --- Operations of LaunchFlat; i counts the elements of y or dy. ---

template <class Function, class T>
struct PlainForwardOp {
  static constexpr int kPack = kPackOf<T>;
  static constexpr int kPacks = 4;

  const T* x;
  T* y;

  template <int n>
  using Input = Pack<T, n>;
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    return LoadPack<n>(x + i);
  }
  template <int n>
  __device__ void Finish(int64_t i, Input<n>& input) const {
    Floats<n> values = ToFloats(input);
#pragma unroll
    for (float& value : values.at) value = Function::template Value<T>(value);
    StorePack(y + i, FromFloats<T>(values));
  }
};

template <class Function, class T>
struct PlainBackwardOp {
  static constexpr int kPack = kPackOf<T>;
  static constexpr int kPacks = 2;

  const T* dy;
  const T* x;
  T* dx;

  template <int n>
  struct Input {
    Pack<T, n> dy, x;
  };
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    return {LoadPack<n>(dy + i), LoadPack<n>(x + i)};
  }
  template <int n>
  __device__ void Finish(int64_t i, Input<n>& input) const {
    const Floats<n> grad = ToFloats(input.dy);
    Floats<n> values = ToFloats(input.x);
#pragma unroll
    for (int e = 0; e < n; ++e) values.at[e] = grad.at[e] * Function::template Both<T>(values.at[e]).slope;
    StorePack(dx + i, FromFloats<T>(values));
  }
};

// Where the gate of element i of y lies in x: row * 2 * width + column, which is i + row * width.
__device__ __forceinline__ int64_t GateOffset(int64_t i, int64_t width) {
  return i + static_cast<int64_t>(static_cast<uint64_t>(i) / static_cast<uint64_t>(width)) * width;
}

template <class Function, class T>
struct GatedForwardOp {
  static constexpr int kPack = kPackOf<T>;
  static constexpr int kPacks = 2;

  int64_t width;
  const T* x;
  T* y;

  template <int n>
  struct Input {
    Pack<T, n> gate, up;
  };
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    const T* from = x + GateOffset(i, width);
    return {LoadPack<n>(from), LoadPack<n>(from + width)};
  }
  template <int n>
  __device__ void Finish(int64_t i, Input<n>& input) const {
    const Floats<n> gate = ToFloats(input.gate);
    Floats<n> values = ToFloats(input.up);
#pragma unroll
    for (int e = 0; e < n; ++e) values.at[e] *= Function::template Value<T>(gate.at[e]);
    StorePack(y + i, FromFloats<T>(values));
  }
};

template <class Function, class T>
struct GatedBackwardOp {
  static constexpr int kPack = kPackOf<T>;
  static constexpr int kPacks = 2;

  int64_t width;
  const T* dy;
  const T* x;
  T* dx;

  template <int n>
  struct Input {
    int64_t offset;
    Pack<T, n> dy, gate, up;
  };
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    const int64_t offset = GateOffset(i, width);
    return {offset, LoadPack<n>(dy + i), LoadPack<n>(x + offset), LoadPack<n>(x + offset + width)};
  }
  template <int n>
  __device__ void Finish(int64_t, Input<n>& input) const {
    const Floats<n> grad = ToFloats(input.dy);
    Floats<n> gate = ToFloats(input.gate), up = ToFloats(input.up);
#pragma unroll
    for (int e = 0; e < n; ++e) {
      const ValueAndSlope activated = Function::template Both<T>(gate.at[e]);
      gate.at[e] = grad.at[e] * up.at[e] * activated.slope;
      up.at[e] = grad.at[e] * activated.value;
    }
    StorePack(dx + input.offset, FromFloats<T>(gate));
    StorePack(dx + input.offset + width, FromFloats<T>(up));
  }
};

// --- Launchers. ---

// A pack of a gated row must not reach into the next row: rows are whole packs or go element by element.
template <int kPack>
int64_t RowPhase(int64_t width) {
  return width % kPack;
}

template <class Function, class T>
void PlainForward(const Stream& stream, int64_t count, const T* x, T* y) {
  using Op = PlainForwardOp<Function, T>;
  LaunchFlat(stream, count, {PhaseOf<Op::kPack>(x), PhaseOf<Op::kPack>(y)}, Op{x, y});
}
template <class Function, class T>
void GatedForward(const Stream& stream, int64_t rows, int64_t width, const T* x, T* y) {
  using Op = GatedForwardOp<Function, T>;
  constexpr int n = Op::kPack;
  LaunchFlat(stream, rows * width, {0, RowPhase<n>(width), PhaseOf<n>(x), PhaseOf<n>(y)}, Op{width, x, y});
}
template <class Function, class T>
void PlainBackward(const Stream& stream, int64_t count, const T* dy, const T* x, T* dx) {
  using Op = PlainBackwardOp<Function, T>;
  constexpr int n = Op::kPack;
  LaunchFlat(stream, count, {PhaseOf<n>(dy), PhaseOf<n>(x), PhaseOf<n>(dx)}, Op{dy, x, dx});
}
template <class Function, class T>
void GatedBackward(const Stream& stream, int64_t rows, int64_t width, const T* dy, const T* x, T* dx) {
  using Op = GatedBackwardOp<Function, T>;
  constexpr int n = Op::kPack;
  LaunchFlat(stream, rows * width, {0, RowPhase<n>(width), PhaseOf<n>(dy), PhaseOf<n>(x), PhaseOf<n>(dx)},
             Op{width, dy, x, dx});
}

template <class T>
void Forward(const Stream& stream, Activation kind, int64_t rows, int64_t width, const T* x, T* y) {
  switch (kind) {
    case Activation::kGelu:
      return PlainForward<Gelu>(stream, rows * width, x, y);
    case Activation::kGeluTanh:
      return PlainForward<GeluTanh>(stream, rows * width, x, y);
    case Activation::kSwiGlu:
      return GatedForward<Silu>(stream, rows, width, x, y);
    case Activation::kGeGlu:
      return GatedForward<GeluTanh>(stream, rows, width, x, y);
  }
}

template <class T>
void Backward(const Stream& stream, Activation kind, int64_t rows, int64_t width, const T* dy, const T* x,
              T* dx) {
  switch (kind) {
    case Activation::kGelu:
      return PlainBackward<Gelu>(stream, rows * width, dy, x, dx);
    case Activation::kGeluTanh:
      return PlainBackward<GeluTanh>(stream, rows * width, dy, x, dx);
    case Activation::kSwiGlu:
      return GatedBackward<Silu>(stream, rows, width, dy, x, dx);
    case Activation::kGeGlu:
      return GatedBackward<GeluTanh>(stream, rows, width, dy, x, dx);
  }
}

}  // namespace
}  // namespace cuda

void cuda::ActivationForward(const Stream& stream, Activation kind, int64_t rows, int64_t width,
                             ConstBuffer x, Buffer y) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && y.dtype == x.dtype);
  if (x.dtype == DType::kF32) {
    Forward(stream, kind, rows, width, x.as<float>(), y.as<float>());
  } else {
    Forward(stream, kind, rows, width, x.as<BFloat16>(), y.as<BFloat16>());
  }
}

void cuda::ActivationBackward(const Stream& stream, Activation kind, int64_t rows, int64_t width,
                              ConstBuffer dy, ConstBuffer x, Buffer dx) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && dy.dtype == x.dtype && dx.dtype == x.dtype);
  if (x.dtype == DType::kF32) {
    Backward(stream, kind, rows, width, dy.as<float>(), x.as<float>(), dx.as<float>());
  } else {
    Backward(stream, kind, rows, width, dy.as<BFloat16>(), x.as<BFloat16>(), dx.as<BFloat16>());
  }
}

}  // namespace tanren::kernels
