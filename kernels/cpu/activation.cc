// Activations: one pass over memory; every vector is read before anything is written over it, so the gradient
// may take the input's place.
#include "kernels/activation.h"

#include <algorithm>

#include "kernels/backend.h"
#include "kernels/cpu/element.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

// Each kind: Value(x), and Value with its derivative.
struct Gelu {
  static HWY_INLINE VF32 Value(F32 d, VF32 x) {
    VF32 density;
    return hn::Mul(x, NormalCdf(d, x, &density));
  }
  static HWY_INLINE VF32 Value(F32 d, VF32 x, VF32* slope) {
    VF32 density;
    const VF32 cdf = NormalCdf(d, x, &density);
    *slope = hn::MulAdd(x, density, cdf);
    return hn::Mul(x, cdf);
  }
};

// x sigmoid(2 k (x + c x^3)), k = sqrt(2 / pi), c = 0.044715: the tanh form, written so that the lower tail
// keeps its relative accuracy.
struct GeluTanh {
  static HWY_INLINE VF32 Gate(F32 d, VF32 x, VF32 square) {
    const VF32 k = hn::Set(d, 2 * 0.79788456080286536f);
    return Sigmoid(d, hn::Mul(hn::Mul(k, x), hn::MulAdd(hn::Set(d, 0.044715f), square, hn::Set(d, 1.0f))));
  }
  static HWY_INLINE VF32 Value(F32 d, VF32 x) { return hn::Mul(x, Gate(d, x, hn::Mul(x, x))); }
  static HWY_INLINE VF32 Value(F32 d, VF32 x, VF32* slope) {
    const VF32 k = hn::Set(d, 2 * 0.79788456080286536f);
    // Beyond 20 the gate is exactly 0 or 1; the bound keeps its slope's 0 * inf away.
    const VF32 bounded = hn::Max(hn::Set(d, -20.0f), hn::Min(hn::Set(d, 20.0f), x));
    const VF32 square = hn::Mul(bounded, bounded);
    const VF32 gate = Gate(d, bounded, square);
    const VF32 inner = hn::Mul(k, hn::MulAdd(hn::Set(d, 3 * 0.044715f), square, hn::Set(d, 1.0f)));
    const VF32 gate_slope = hn::Mul(hn::Mul(gate, hn::Sub(hn::Set(d, 1.0f), gate)), inner);
    *slope = hn::IfThenElse(hn::IsNaN(x), x, hn::MulAdd(bounded, gate_slope, gate));
    return hn::Mul(x, gate);
  }
};

struct Silu {
  static HWY_INLINE VF32 Value(F32 d, VF32 x) { return hn::Mul(x, Sigmoid(d, x)); }
  static HWY_INLINE VF32 Value(F32 d, VF32 x, VF32* slope) {
    const VF32 gate = Sigmoid(d, x);
    const VF32 value = hn::Mul(x, gate);
    *slope = hn::MulAdd(value, hn::Sub(hn::Set(d, 1.0f), gate), gate);
    return value;
  }
};

template <class Function, class T>
void PlainForward(int64_t count, const T* x, T* y) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  cpu::ParallelRange((count + lanes - 1) / lanes, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * lanes; i < end * lanes; i += lanes) {
      StoreUpTo(d, Function::Value(d, LoadUpTo(d, x + i, count - i)), y + i, count - i);
    }
  });
}

template <class Function, class T>
void PlainBackward(int64_t count, const T* dy, const T* x, T* dx) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  cpu::ParallelRange((count + lanes - 1) / lanes, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * lanes; i < end * lanes; i += lanes) {
      VF32 slope;
      Function::Value(d, LoadUpTo(d, x + i, count - i), &slope);
      StoreUpTo(d, hn::Mul(LoadUpTo(d, dy + i, count - i), slope), dx + i, count - i);
    }
  });
}

template <class Function, class T>
void GatedForward(int64_t rows, int64_t width, const T* x, T* y) {
  const F32 d;
  cpu::ParallelRange(rows, std::max<int64_t>(1, 4096 / std::max<int64_t>(width, 1)),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t row = begin; row < end; ++row) {
                         const T* gate = x + row * 2 * width;
                         const T* up = gate + width;
                         for (int64_t i = 0; i < width; i += hn::Lanes(d)) {
                           const int64_t left = width - i;
                           const VF32 value = Function::Value(d, LoadUpTo(d, gate + i, left));
                           StoreUpTo(d, hn::Mul(value, LoadUpTo(d, up + i, left)), y + row * width + i, left);
                         }
                       }
                     });
}

template <class Function, class T>
void GatedBackward(int64_t rows, int64_t width, const T* dy, const T* x, T* dx) {
  const F32 d;
  cpu::ParallelRange(rows, std::max<int64_t>(1, 4096 / std::max<int64_t>(width, 1)),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t row = begin; row < end; ++row) {
                         const int64_t gate = row * 2 * width;
                         for (int64_t i = 0; i < width; i += hn::Lanes(d)) {
                           const int64_t left = width - i;
                           VF32 slope;
                           const VF32 value = Function::Value(d, LoadUpTo(d, x + gate + i, left), &slope);
                           const VF32 up = LoadUpTo(d, x + gate + width + i, left);
                           const VF32 grad = LoadUpTo(d, dy + row * width + i, left);
                           StoreUpTo(d, hn::Mul(hn::Mul(grad, up), slope), dx + gate + i, left);
                           StoreUpTo(d, hn::Mul(grad, value), dx + gate + width + i, left);
                         }
                       }
                     });
}

template <class T>
void ForwardOf(Activation kind, int64_t rows, int64_t width, const T* x, T* y) {
  switch (kind) {
    case Activation::kGelu:
      return PlainForward<Gelu>(rows * width, x, y);
    case Activation::kGeluTanh:
      return PlainForward<GeluTanh>(rows * width, x, y);
    case Activation::kSwiGlu:
      return GatedForward<Silu>(rows, width, x, y);
    case Activation::kGeGlu:
      return GatedForward<GeluTanh>(rows, width, x, y);
  }
}

template <class T>
void BackwardOf(Activation kind, int64_t rows, int64_t width, const T* dy, const T* x, T* dx) {
  switch (kind) {
    case Activation::kGelu:
      return PlainBackward<Gelu>(rows * width, dy, x, dx);
    case Activation::kGeluTanh:
      return PlainBackward<GeluTanh>(rows * width, dy, x, dx);
    case Activation::kSwiGlu:
      return GatedBackward<Silu>(rows, width, dy, x, dx);
    case Activation::kGeGlu:
      return GatedBackward<GeluTanh>(rows, width, dy, x, dx);
  }
}

void Forward(Activation kind, int64_t rows, int64_t width, ConstBuffer x, Buffer y) {
  if (x.dtype == DType::kBF16) {
    ForwardOf(kind, rows, width, x.as<BFloat16>(), y.as<BFloat16>());
  } else {
    ForwardOf(kind, rows, width, x.as<float>(), y.as<float>());
  }
}

void Backward(Activation kind, int64_t rows, int64_t width, ConstBuffer dy, ConstBuffer x, Buffer dx) {
  if (x.dtype == DType::kBF16) {
    BackwardOf(kind, rows, width, dy.as<BFloat16>(), x.as<BFloat16>(), dx.as<BFloat16>());
  } else {
    BackwardOf(kind, rows, width, dy.as<float>(), x.as<float>(), dx.as<float>());
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {
HWY_EXPORT(Forward);
HWY_EXPORT(Backward);
}  // namespace

void cpu::ActivationForward(const Stream&, Activation kind, int64_t rows, int64_t width, ConstBuffer x,
                            Buffer y) {
  cpu::CheckElements(x.dtype, {y});
  HWY_DYNAMIC_DISPATCH(Forward)(kind, rows, width, x, y);
}

void cpu::ActivationBackward(const Stream&, Activation kind, int64_t rows, int64_t width, ConstBuffer dy,
                             ConstBuffer x, Buffer dx) {
  cpu::CheckElements(x.dtype, {dy, dx});
  HWY_DYNAMIC_DISPATCH(Backward)(kind, rows, width, dy, x, dx);
}

void cpu::SoftCap(const Stream&, int64_t count, float cap, float* x) {
  constexpr int64_t kGrain = 4096;
  cpu::ParallelElements(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] = cap * std::tanh(x[i] / cap);
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
