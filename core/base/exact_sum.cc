#include "core/base/exact_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace tanren {
namespace {

constexpr int64_t kDigitMask = 0xffffffff;
constexpr int kNaNs = ExactSum::kDigits, kInfinities = kNaNs + 1, kNegativeInfinities = kNaNs + 2;

// Carries on, so that every digit is in [0, 2^32) but the highest, which has the sign.
void Carry(int64_t* digits) {
  for (int d = 0; d + 1 < ExactSum::kDigits; ++d) {
    digits[d + 1] += digits[d] >> 32;  // rounds down, so what stays is not negative
    digits[d] &= kDigitMask;
  }
}

}  // namespace

void ExactSum::Add(double term) {
  const auto bits = std::bit_cast<uint64_t>(term);
  const bool negative = bits >> 63 != 0;
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  if (exponent == 0x7ff) {
    ++words_[fraction != 0 ? kNaNs : negative ? kNegativeInfinities : kInfinities];
    return;
  }
  // term = fraction * 2^(place - 1074)
  const int place = std::max(exponent - 1, 0);
  if (exponent != 0) fraction |= uint64_t{1} << 52;
  const int digit = place / 32;
  const unsigned __int128 shifted = static_cast<unsigned __int128>(fraction) << place % 32;
  for (int d = 0; d < 3; ++d) {
    const auto part = static_cast<int64_t>(static_cast<uint64_t>(shifted >> 32 * d) & kDigitMask);
    words_[digit + d] += negative ? -part : part;
  }
}

double ExactSum::Round() const {
  if (words_[kNaNs] > 0 || (words_[kInfinities] > 0 && words_[kNegativeInfinities] > 0)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (words_[kInfinities] > 0) return std::numeric_limits<double>::infinity();
  if (words_[kNegativeInfinities] > 0) return -std::numeric_limits<double>::infinity();
  std::array<int64_t, kDigits> digits;
  std::copy_n(words_.begin(), kDigits, digits.begin());
  Carry(digits.data());
  const bool negative = digits[kDigits - 1] < 0;
  if (negative) {
    for (int64_t& digit : digits) digit = -digit;
    Carry(digits.data());
  }
  int top = kDigits - 1;
  while (top > 2 && digits[top] == 0) --top;
  // The highest 65 bits or more as they are, and below them one that says whether there is any: the rounding
  // of the conversion is then that of the whole. (The highest digit of all has room for 2^31 terms.)
  unsigned __int128 leading = 0;
  for (int d = top; d > top - 3; --d) leading = leading << 32 | static_cast<uint64_t>(digits[d]);
  const bool rest = std::any_of(digits.begin(), digits.begin() + (top - 2), [](int64_t d) { return d != 0; });
  if (rest) leading |= 1;
  const double magnitude = std::ldexp(static_cast<double>(leading), 32 * (top - 2) + kLowestExponent);
  return negative ? -magnitude : magnitude;
}

}  // namespace tanren
