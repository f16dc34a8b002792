#include "core/report/units.h"

#include <array>
#include <cmath>

#include "absl/strings/str_format.h"

namespace tanren {
namespace {

bool IsKnown(double value) { return std::isfinite(value) && value >= 0; }

// Three significant digits of a value below 1000 (which it stays after rounding).
std::string ThreeDigits(double value) {
  if (value < 9.995) return absl::StrFormat("%.2f", value);
  if (value < 99.95) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.0f", value);
}

}  // namespace

std::string FormatCount(double count) {
  if (!IsKnown(count)) return "-";
  if (count < 999.5) {
    return count == std::floor(count) || count >= 99.95 ? absl::StrFormat("%.0f", count) : ThreeDigits(count);
  }
  constexpr std::array<const char*, 6> kSuffixes = {"k", "M", "G", "T", "P", "E"};
  size_t index = 0;
  for (count /= 1000; count >= 999.5 && index + 1 < kSuffixes.size(); ++index) count /= 1000;
  return ThreeDigits(count) + kSuffixes[index];
}

std::string FormatBytes(double bytes) {
  if (!IsKnown(bytes)) return "-";
  if (bytes < 1023.5) return absl::StrFormat("%.0f B", bytes);
  constexpr std::array<const char*, 6> kSuffixes = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  size_t index = 0;
  for (bytes /= 1024; bytes >= 1023.5 && index + 1 < kSuffixes.size(); ++index) bytes /= 1024;
  return ThreeDigits(bytes) + kSuffixes[index];
}

std::string FormatDuration(double seconds) {
  if (!IsKnown(seconds) || seconds > 1e12) return "-";
  const int64_t whole = std::llround(seconds);
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  if (hours < 24) return absl::StrFormat("%d:%02d:%02d", hours, minutes, rest);
  return absl::StrFormat("%dd %02dh", hours / 24, hours % 24);
}

}  // namespace tanren
