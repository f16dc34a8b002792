// Scalar functions that losses share, stable for large arguments, on host and device.
#ifndef TANREN_STAGES_LOSSES_PRIMITIVES_H_
#define TANREN_STAGES_LOSSES_PRIMITIVES_H_

#include <cmath>

#include "core/loss/functor.h"

namespace tanren {

// log(1 + e^x)
template <class T>
TANREN_HOST_DEVICE T Softplus(T x) {
  return x > T(0) ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

template <class T>
TANREN_HOST_DEVICE T LogSigmoid(T x) {
  return -Softplus(-x);
}

template <class T>
TANREN_HOST_DEVICE T Sigmoid(T x) {
  if (x >= T(0)) return T(1) / (T(1) + std::exp(-x));
  const T e = std::exp(x);
  return e / (T(1) + e);
}

// log(1 - e^x) for x < 0 (Maechler 2012: the switch at -ln 2 keeps digits on both sides).
template <class T>
TANREN_HOST_DEVICE T Log1mExp(T x) {
  return x > T(-0.6931471805599453) ? std::log(-std::expm1(x)) : std::log1p(-std::exp(x));
}

template <class T>
TANREN_HOST_DEVICE T Clip(T x, T low, T high) {
  return x < low ? low : x > high ? high : x;
}

template <class T>
TANREN_HOST_DEVICE T AtLeastOne(T x) {
  return x > T(1) ? x : T(1);
}

}  // namespace tanren

#endif  // TANREN_STAGES_LOSSES_PRIMITIVES_H_
