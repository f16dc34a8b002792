// Scalar reference of rotary position embedding: pair i of a head turns by positions * frequency[i].
#ifndef TANREN_TESTS_REFERENCE_ROTARY_H_
#define TANREN_TESTS_REFERENCE_ROTARY_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace tanren::reference {

// x [heads, head_dim] of one token, by the angles [head_dim / 2].
template <class Real>
std::vector<Real> Rotate(int64_t heads, int64_t head_dim, const std::vector<Real>& angles,
                         std::vector<Real> x) {
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < half; ++i) {
      Real& a = x[h * head_dim + i];
      Real& b = x[h * head_dim + half + i];
      const Real c = std::cos(angles[i]), s = std::sin(angles[i]), before = a;
      a = before * c - b * s;
      b = b * c + before * s;
    }
  }
  return x;
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_ROTARY_H_
