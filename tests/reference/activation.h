// Scalar references of the activations, by their textbook formulas, and their derivatives.
#ifndef TANREN_TESTS_REFERENCE_ACTIVATION_H_
#define TANREN_TESTS_REFERENCE_ACTIVATION_H_

#include <cmath>

namespace tanren::reference {

template <class Real>
Real Gelu(Real x) {
  return x * std::erfc(-x / std::sqrt(Real(2))) / 2;
}
template <class Real>
Real GeluSlope(Real x) {
  return std::erfc(-x / std::sqrt(Real(2))) / 2 + x * std::exp(-x * x / 2) / std::sqrt(Real(2) * Real(M_PI));
}

template <class Real>
Real GeluTanh(Real x) {
  return x / 2 * (1 + std::tanh(std::sqrt(2 / Real(M_PI)) * (x + Real(0.044715) * x * x * x)));
}
template <class Real>
Real GeluTanhSlope(Real x) {
  const Real k = std::sqrt(2 / Real(M_PI)), t = std::tanh(k * (x + Real(0.044715) * x * x * x));
  return (1 + t) / 2 + x / 2 * (1 - t * t) * k * (1 + 3 * Real(0.044715) * x * x);
}

template <class Real>
Real Silu(Real x) {
  return x / (1 + std::exp(-x));
}
template <class Real>
Real SiluSlope(Real x) {
  const Real gate = 1 / (1 + std::exp(-x));
  return gate * (1 + x * (1 - gate));
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_ACTIVATION_H_
