#include "core/report/html_scale.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tanren {
namespace {

constexpr int kMaxTicks = 12;
// Doubles beyond it are drawn at it: differences of two values stay finite.
constexpr double kLargest = 1e300;

// 1e-05 and 1e+06 as 1e-5 and 1e6.
std::string TidyExponent(std::string text) {
  const size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  const bool negative = text[exponent + 1] == '-';
  size_t digits = exponent + 2;
  while (digits + 1 < text.size() && text[digits] == '0') ++digits;
  return absl::StrCat(text.substr(0, exponent + 1), negative ? "-" : "", text.substr(digits));
}

std::string Significant(double value, int digits) {
  digits = std::clamp(digits, 1, 15);
  const double size = std::fabs(value);
  if (value == 0) return "0";
  if (size >= 1e-3 && size < 1e6) {
    const int before_point = size >= 1 ? static_cast<int>(std::floor(std::log10(size))) + 1 : 0;
    const int leading_zeros = size >= 1 ? 0 : static_cast<int>(-std::floor(std::log10(size))) - 1;
    return absl::StrFormat("%.*f", std::max(0, digits - before_point + leading_zeros), value);
  }
  std::string text = absl::StrFormat("%.*e", digits - 1, value);
  const size_t exponent = text.find('e');
  if (text.find('.') != std::string::npos) {
    size_t end = exponent;
    while (text[end - 1] == '0') --end;
    if (text[end - 1] == '.') --end;
    text.erase(end, exponent - end);
  }
  return TidyExponent(text);
}

// What the unit is multiplied with before it is written, and what is written behind it.
struct Scale {
  double factor = 1;
  const char* suffix = "";
};

Scale ScaleOf(double size, Unit unit) {
  static constexpr const char* kBytes[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  static constexpr const char* kCounts[] = {"", "k", "M", "G", "T", "P", "E"};
  if (unit == Unit::kShare) return {100, "%"};
  if (unit == Unit::kSeconds) return {1, " s"};
  if (unit == Unit::kNumber) return {};
  const double base = unit == Unit::kBytes ? 1024 : 1000;
  Scale scale{1, unit == Unit::kBytes ? kBytes[0] : kCounts[0]};
  // Half a unit of the last digit below the next suffix, for 999.96 is written as 1000.
  for (size_t i = 1; i < std::size(kBytes) && size * scale.factor >= base * 0.9995; ++i) {
    scale.factor /= base;
    scale.suffix = unit == Unit::kBytes ? kBytes[i] : kCounts[i];
  }
  return scale;
}

// The multiples of `step` in [low, high]. The label has the digits that tell neighbours apart.
std::vector<Tick> MultiplesIn(double low, double high, double step, const Scale& scale) {
  std::vector<Tick> ticks;
  const double first = std::ceil(low / step - 1e-6);
  const int step_digit = static_cast<int>(std::floor(std::log10(step * scale.factor) + 1e-9));
  for (int i = 0; i < kMaxTicks; ++i) {
    const double multiple = first + i;
    const double value = multiple * step;
    if (!(value <= high + step * 1e-6)) break;
    const double written = value * scale.factor;
    const int digits =
        written == 0 ? 1 : static_cast<int>(std::floor(std::log10(std::fabs(written)))) - step_digit + 1;
    const std::string label = value == 0 ? "0" : absl::StrCat(Significant(written, digits), scale.suffix);
    if (!ticks.empty() && (ticks.back().value == value || ticks.back().label == label)) continue;
    ticks.push_back({value, label});
  }
  return ticks;
}

// The one of 1, 2 and 5 times a power of ten that is nearest to `raw`.
double NiceStep(double raw) {
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double multiple = raw / power;
  return power * (multiple < 1.5 ? 1 : multiple < 3.5 ? 2 : multiple < 7.5 ? 5 : 10);
}

}  // namespace

std::string FormatFigure(double value, Unit unit) {
  if (std::isnan(value)) return "-";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const Scale scale = ScaleOf(std::fabs(value), unit);
  const double written = value * scale.factor;
  if (!std::isfinite(written)) return Significant(value, 4);
  const bool whole = std::fabs(written) < 1e6 && written == std::floor(written);
  if (whole) return absl::StrCat(absl::StrFormat("%.0f", written), scale.suffix);
  const bool is_short = unit == Unit::kShare || unit == Unit::kBytes || unit == Unit::kCount;
  return absl::StrCat(Significant(written, is_short ? 3 : 4), scale.suffix);
}

Axis Axis::Linear(double low, double high, Unit unit, int ticks) {
  Axis axis;
  axis.low_ = std::clamp(low, -kLargest, kLargest);
  axis.high_ = std::clamp(high, -kLargest, kLargest);
  const double size = std::max(std::fabs(axis.low_), std::fabs(axis.high_));
  // Where the values are equal, or too near for doubles between them, the axis is made longer.
  if (axis.high_ - axis.low_ <= size * 1e-9 || axis.high_ - axis.low_ < 1e-290) {
    const double margin = size < 1e-280 ? 1 : size * 0.05;
    axis.low_ -= margin;
    axis.high_ += margin;
  }
  // Counts of four digits are read more easily than tenths of a thousand.
  const Scale scale = unit == Unit::kCount && size < 1e4 ? Scale{} : ScaleOf(size, unit);
  const double step = NiceStep((axis.high_ - axis.low_) / std::max(ticks, 1) * scale.factor) / scale.factor;
  if (!std::isfinite(step) || step <= 0) return axis;  // beyond what can be written: no ticks
  axis.ticks_ = MultiplesIn(axis.low_, axis.high_, step, scale);
  return axis;
}

Axis Axis::Logarithmic(double low, double high, Unit unit) {
  Axis axis;
  axis.logarithmic_ = true;
  axis.low_ = std::clamp(low, 1e-300, kLargest);
  axis.high_ = std::clamp(high, axis.low_, kLargest);
  if (axis.high_ < axis.low_ * 1.001) {
    axis.low_ /= 2;
    axis.high_ *= 2;
  }
  const int first = static_cast<int>(std::floor(std::log10(axis.low_)));
  const int last = static_cast<int>(std::ceil(std::log10(axis.high_)));
  const int stride = std::max(1, (last - first) / 6 + ((last - first) % 6 != 0 ? 1 : 0));
  for (int power = first; power <= last; power += stride) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && axis.high_ / axis.low_ > 1e3) continue;
      const double value = factor * std::pow(10, power);
      if (value < axis.low_ * (1 - 1e-9) || value > axis.high_ * (1 + 1e-9)) continue;
      if (axis.ticks_.size() < kMaxTicks) {
        const Scale scale = ScaleOf(value, unit);
        axis.ticks_.push_back({value, absl::StrCat(Significant(value * scale.factor, 1), scale.suffix)});
      }
    }
  }
  return axis;
}

double Axis::Position(double value) const {
  value = std::clamp(value, low_, high_);
  if (logarithmic_) return std::log(value / low_) / std::log(high_ / low_);
  return (value - low_) / (high_ - low_);
}

}  // namespace tanren
