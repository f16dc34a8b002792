// Numbers in text: what the checkers share. Internal to core/reward.
#ifndef TANREN_CORE_REWARD_NUMERIC_H_
#define TANREN_CORE_REWARD_NUMERIC_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tanren {

std::string_view Trimmed(std::string_view text);
inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }
inline bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// An unsigned decimal number at *at ("1,000", "2.50", ".5"), which *at moves behind. Infinity for one of more
// than 400 digits. False, and *at as it was, when there is none.
struct Decimal {
  long double value = 0;
  int decimals = 0;  // digits behind the point
};
bool ScanDecimal(std::string_view text, size_t* at, Decimal* decimal);

// Bytes of the currency sign, or of the minus sign ("-", U+2212, U+2013), at `at`; 0 when there is none.
size_t CurrencyAt(std::string_view text, size_t at);
size_t MinusAt(std::string_view text, size_t at);

// The last number of a text, with its sign, currency, denominator and %; "" when it holds none.
std::string LastNumber(std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_NUMERIC_H_
