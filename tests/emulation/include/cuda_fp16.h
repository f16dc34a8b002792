// What the project's kernels use of the toolkit's cuda_fp16.h, for the emulated GPU (see emulator.h).
#ifndef TANREN_TESTS_EMULATION_INCLUDE_CUDA_FP16_H_
#define TANREN_TESTS_EMULATION_INCLUDE_CUDA_FP16_H_

#include <bit>
#include <cmath>
#include <cstdint>

struct __half {
  uint16_t bits;
};
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline float __half2float(__half value) {
  const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
  const float sign = value.bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) {
    return std::bit_cast<float>(static_cast<uint32_t>(value.bits >> 15) << 31 | 0x7f800000u |
                                static_cast<uint32_t>(fraction) << 13);
  }
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}
// To nearest, ties to even; every NaN becomes 0x7fff.
inline __half __float2half_rn(float value) {
  if (std::isnan(value)) return {0x7fff};
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (size >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (size < 0x1p-14f)
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24f)))};
  int exponent = 0;
  const float fraction = std::frexp(size, &exponent);  // in [0.5, 1)
  const auto rounded =
      static_cast<unsigned>(std::nearbyint(fraction * 2048));  // 1024..2048: carries by itself
  return {static_cast<uint16_t>(sign | (static_cast<unsigned>(exponent + 13) * 1024 + rounded))};
}

#endif  // TANREN_TESTS_EMULATION_INCLUDE_CUDA_FP16_H_
