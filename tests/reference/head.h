// Scalar references of the token statistics of a row of logits and of their gradient.
#ifndef TANREN_TESTS_REFERENCE_HEAD_H_
#define TANREN_TESTS_REFERENCE_HEAD_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace tanren::reference {

template <class Real>
struct TokenStatistics {
  Real logp = 0, lse = 0, entropy = 0;
};

template <class Real>
Real EffectiveLogit(Real z, Real soft_cap, Real temperature) {
  return (soft_cap > 0 ? soft_cap * std::tanh(z / soft_cap) : z) / temperature;
}

// The statistics of one row; target -1 leaves logp zero.
template <class Real>
TokenStatistics<Real> Statistics(const std::vector<Real>& z, Real soft_cap, Real temperature,
                                 int64_t target) {
  TokenStatistics<Real> out;
  Real largest = -INFINITY, sum = 0;
  for (Real value : z) largest = std::max(largest, EffectiveLogit(value, soft_cap, temperature));
  for (Real value : z) sum += std::exp(EffectiveLogit(value, soft_cap, temperature) - largest);
  out.lse = largest + std::log(sum);
  for (Real value : z) {
    const Real logp = EffectiveLogit(value, soft_cap, temperature) - out.lse;
    out.entropy -= std::exp(logp) * logp;
  }
  if (target >= 0) out.logp = EffectiveLogit(z[target], soft_cap, temperature) - out.lse;
  return out;
}

// The gradient of dlogp logp + dlse lse + dentropy H by the row's raw logits.
template <class Real>
std::vector<Real> LogitGradient(const std::vector<Real>& z, Real soft_cap, Real temperature, int64_t target,
                                Real dlogp, Real dlse, Real dentropy) {
  const TokenStatistics<Real> row = Statistics(z, soft_cap, temperature, target);
  std::vector<Real> dz(z.size());
  for (size_t v = 0; v < z.size(); ++v) {
    const Real logp = EffectiveLogit(z[v], soft_cap, temperature) - row.lse, p = std::exp(logp);
    Real du = dlse * p - dentropy * p * (logp + row.entropy);
    if (target >= 0) du += dlogp * ((int64_t(v) == target ? 1 : 0) - p);
    const Real t = soft_cap > 0 ? std::tanh(z[v] / soft_cap) : Real(0);
    dz[v] = du * (1 - t * t) / temperature;
  }
  return dz;
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_HEAD_H_
