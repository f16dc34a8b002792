#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/model/decoder.h"

namespace tanren {
namespace {

// Wavelengths above original/low are stretched by `factor`, those below original/high kept, between them
// blended.
double Llama3Frequency(const RotaryShape& rotary, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double original = static_cast<double>(rotary.original_context_length);
  if (wavelength < original / rotary.high_frequency_factor) return frequency;
  if (wavelength > original / rotary.low_frequency_factor) return frequency / rotary.factor;
  const double blend = (original / wavelength - rotary.low_frequency_factor) /
                       (rotary.high_frequency_factor - rotary.low_frequency_factor);
  return (1 - blend) * frequency / rotary.factor + blend * frequency;
}

// The dimension whose wavelength makes `rotations` turns over the original context (Peng et al. 2023, YaRN).
double YarnDimension(const RotaryShape& rotary, double head_dim, double rotations) {
  return head_dim * std::log(rotary.original_context_length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rotary.base));
}

double YarnFrequency(const RotaryShape& rotary, int64_t head_dim, int64_t pair, double frequency) {
  const double low = std::max(0.0, std::floor(YarnDimension(rotary, head_dim, rotary.beta_fast)));
  double high = std::min(head_dim - 1.0, std::ceil(YarnDimension(rotary, head_dim, rotary.beta_slow)));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return frequency / rotary.factor * ramp + frequency * (1 - ramp);
}

}  // namespace

void FillRotaryTables(const RotaryShape& rotary, int64_t head_dim, int64_t positions, float* cosine,
                      float* sine) {
  const int64_t half = head_dim / 2;
  std::vector<double> frequencies(half);
  // YaRN also tempers the scores: both tables carry the square root of that factor.
  double amplitude = 1;
  if (rotary.scaling == RotaryShape::Scaling::kYarn && rotary.factor > 1) {
    amplitude = 0.1 * std::log(rotary.factor) + 1;
  }
  for (int64_t i = 0; i < half; ++i) {
    const double plain = std::pow(rotary.base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    switch (rotary.scaling) {
      case RotaryShape::Scaling::kNone:
        frequencies[i] = plain;
        break;
      case RotaryShape::Scaling::kLinear:
        frequencies[i] = plain / rotary.factor;
        break;
      case RotaryShape::Scaling::kLlama3:
        frequencies[i] = Llama3Frequency(rotary, plain);
        break;
      case RotaryShape::Scaling::kYarn:
        frequencies[i] = YarnFrequency(rotary, head_dim, i, plain);
        break;
    }
  }
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      cosine[position * half + i] = static_cast<float>(amplitude * std::cos(angle));
      sine[position * half + i] = static_cast<float>(amplitude * std::sin(angle));
    }
  }
}

}  // namespace tanren
