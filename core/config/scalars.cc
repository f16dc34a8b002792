#include "core/config/scalars.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// A decimal literal, split: the value is (-1)^negative * whole.fraction * 10^exponent.
struct Decimal {
  bool negative = false;
  std::string_view whole;
  std::string_view fraction;
  int64_t exponent = 0;  // clamped to +-1e6: beyond any representable value
};

std::string_view TakeDigits(std::string_view* text) {
  size_t count = 0;
  while (count < text->size() && IsDigit((*text)[count])) ++count;
  const std::string_view digits = text->substr(0, count);
  text->remove_prefix(count);
  return digits;
}

bool TakeSign(std::string_view* text) {
  if (text->empty() || (text->front() != '+' && text->front() != '-')) return false;
  const bool negative = text->front() == '-';
  text->remove_prefix(1);
  return negative;
}

bool IsNotFinite(std::string_view text) {
  std::string lower = absl::AsciiStrToLower(View(text));
  if (!lower.empty() && (lower[0] == '+' || lower[0] == '-')) lower.erase(0, 1);
  if (!lower.empty() && lower[0] == '.') lower.erase(0, 1);
  return lower == "inf" || lower == "nan" || lower == "infinity";
}

std::string NotA(const char* type, std::string_view text) {
  return absl::StrCat(Printable(text), " is not ", type);
}

std::string ParseDecimal(std::string_view text, const char* type, Decimal* decimal) {
  if (IsNotFinite(text)) return absl::StrCat(Printable(text), " is not finite");
  std::string_view rest = text;
  decimal->negative = TakeSign(&rest);
  decimal->whole = TakeDigits(&rest);
  if (!rest.empty() && rest.front() == '.') {
    rest.remove_prefix(1);
    decimal->fraction = TakeDigits(&rest);
  }
  if (decimal->whole.empty() && decimal->fraction.empty()) return NotA(type, text);
  if (!rest.empty() && (rest.front() == 'e' || rest.front() == 'E')) {
    rest.remove_prefix(1);
    const bool negative = TakeSign(&rest);
    const std::string_view digits = TakeDigits(&rest);
    if (digits.empty()) return NotA(type, text);
    for (char c : digits)
      decimal->exponent = std::min<int64_t>(decimal->exponent * 10 + (c - '0'), 1'000'000);
    if (negative) decimal->exponent = -decimal->exponent;
  }
  if (!rest.empty()) return NotA(type, text);
  if (decimal->whole.size() > 1 && decimal->whole[0] == '0') {
    return absl::StrCat(Printable(text),
                        " starts with a zero, which some programs read as octal; leave it out");
  }
  return "";
}

}  // namespace

std::string ParseInteger(std::string_view text, int64_t* value) {
  Decimal decimal;
  if (std::string problem = ParseDecimal(text, "an integer", &decimal); !problem.empty()) return problem;
  // The digits of the value: whole and fraction, the point moved `exponent` places to the right.
  std::string digits = absl::StrCat(View(decimal.whole), View(decimal.fraction));
  int64_t point = static_cast<int64_t>(decimal.whole.size()) + decimal.exponent;
  const size_t first = std::min(digits.find_first_not_of('0'), digits.size());
  digits.erase(0, first);
  point -= static_cast<int64_t>(first);
  while (!digits.empty() && digits.back() == '0') digits.pop_back();
  if (digits.empty()) {
    *value = 0;
    return "";
  }
  if (point < static_cast<int64_t>(digits.size())) return NotA("an integer", text);
  const std::string too_large = absl::StrCat(Printable(text), " does not fit a 64-bit integer");
  if (point > 19) return too_large;
  digits.append(static_cast<size_t>(point) - digits.size(), '0');
  if (decimal.negative) digits.insert(0, 1, '-');
  int64_t parsed = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), parsed);
  if (error != std::errc()) return too_large;
  *value = parsed;
  return "";
}

std::string ParseNumber(std::string_view text, double* value) {
  Decimal decimal;
  if (std::string problem = ParseDecimal(text, "a number", &decimal); !problem.empty()) return problem;
  if (text.front() == '+') text.remove_prefix(1);
  double parsed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error == std::errc::result_out_of_range) {
    return absl::StrCat(Printable(text), " is too large or too small for a double");
  }
  if (error != std::errc() || end != text.data() + text.size()) return NotA("a number", text);
  *value = parsed;
  return "";
}

std::string ParseBoolean(std::string_view text, bool* value) {
  if (text != "true" && text != "false") return NotA("true or false", text);
  *value = text == "true";
  return "";
}

}  // namespace tanren::config
