#include "core/reward/numeric.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/reward/checker.h"

namespace tanren {
namespace {

constexpr size_t kMaxQuantityBytes = 512;
constexpr int kMaxDigits = 400;       // more than a double can tell apart from infinity
constexpr int kMaxExponent = 100000;  // larger ones are read as this one

bool StartsWithAt(std::string_view text, size_t at, std::string_view what) {
  return at <= text.size() && text.substr(at, what.size()) == what;
}

// Digits from `at` on.
size_t DigitsAt(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && IsDigit(text[end])) ++end;
  return end - at;
}

// Signs and spaces of typography as ASCII. A space that does not break, between digits, parts thousands.
std::string Plain(std::string_view text) {
  constexpr std::array<std::string_view, 3> kSpaces = {"\u00a0", "\u202f", "\u2009"};
  std::string plain;
  for (size_t i = 0; i < text.size();) {
    const size_t minus = MinusAt(text, i);
    if (minus > 0) {
      plain.push_back('-');
      i += minus;
      continue;
    }
    const auto* space = std::find_if(kSpaces.begin(), kSpaces.end(),
                                     [&](std::string_view s) { return StartsWithAt(text, i, s); });
    if (space == kSpaces.end()) {
      plain.push_back(text[i++]);
      continue;
    }
    i += space->size();
    const bool thousands = !plain.empty() && IsDigit(plain.back()) && i < text.size() && IsDigit(text[i]);
    plain.push_back(thousands ? ',' : ' ');
  }
  return plain;
}

std::string CanonicalUnit(std::string_view text) {
  std::string unit;
  for (const char c : Trimmed(text)) unit.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
  if (unit == "dollar" || unit == "dollars" || unit == "usd") return "$";
  if (unit == "euro" || unit == "euros" || unit == "eur") return "\u20ac";
  if (unit == "percent" || unit == "per cent") return "%";
  return unit;
}

// A unit begins with a letter, a sign of currency or %, and holds no number but an exponent: "12 or 13" has
// none.
bool IsUnit(std::string_view text) {
  if (text.empty()) return true;
  const bool letter = IsLetter(text[0]) || static_cast<unsigned char>(text[0]) >= 0x80;
  if (!letter && text[0] != '%' && CurrencyAt(text, 0) == 0) return false;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '=' || text[i] == '\n') return false;
    if (IsDigit(text[i]) && text[i - 1] != '^') return false;
  }
  return true;
}

// Reads a quantity from left to right.
class QuantityReader {
 public:
  explicit QuantityReader(std::string_view text) : text_(text) {}

  bool Read(Quantity* quantity) {
    bool negative = false;
    bool has_sign = Sign(&negative);
    SkipSpaces();
    const size_t currency = CurrencyAt(text_, at_);
    const std::string before(text_.substr(at_, currency));
    at_ += currency;
    SkipSpaces();
    if (!has_sign) Sign(&negative);
    Decimal decimal;
    if (!ScanDecimal(text_, &at_, &decimal)) return false;
    long double value = decimal.value;
    if (!Exponent(&value) || !Fraction(decimal.decimals == 0, &value)) return false;
    quantity->value = static_cast<double>(negative ? -value : value);
    // Neither an overflow nor a number that vanished is one to compare with.
    if (!std::isfinite(quantity->value) || (value != 0 && quantity->value == 0)) return false;
    const std::string_view behind = Trimmed(text_.substr(at_));
    if (!IsUnit(behind)) return false;
    quantity->unit = CanonicalUnit(behind);
    if (before.empty() || quantity->unit == before) return true;
    quantity->unit = quantity->unit.empty() ? before : before + " " + quantity->unit;
    return true;
  }

 private:
  void SkipSpaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  bool Sign(bool* negative) {
    if (at_ >= text_.size() || (text_[at_] != '-' && text_[at_] != '+')) return false;
    *negative = text_[at_++] == '-';
    return true;
  }

  // "e5" behind a number; the e of "12 eggs" is none.
  bool Exponent(long double* value) {
    if (at_ >= text_.size() || (text_[at_] != 'e' && text_[at_] != 'E')) return true;
    size_t at = at_ + 1;
    const bool negative = at < text_.size() && text_[at] == '-';
    if (negative || (at < text_.size() && text_[at] == '+')) ++at;
    const size_t digits = DigitsAt(text_, at);
    if (digits == 0) return true;
    int exponent = 0;
    for (size_t i = 0; i < digits; ++i)
      exponent = std::min(kMaxExponent, exponent * 10 + (text_[at + i] - '0'));
    at_ = at + digits;
    const bool zero = *value == 0;
    if (!zero) *value *= std::pow(10.0L, static_cast<long double>(negative ? -exponent : exponent));
    return zero || *value != 0;
  }

  // "/2" behind a number, or " 1/2" behind a whole one. False for a denominator of 0.
  bool Fraction(bool whole, long double* value) {
    const size_t start = at_;
    SkipSpaces();
    Decimal above, below;
    if (at_ < text_.size() && text_[at_] == '/') {
      ++at_;
      SkipSpaces();
      if (!ScanDecimal(text_, &at_, &below)) return false;
      *value /= below.value;
      return below.value != 0;
    }
    if (whole && at_ > start && ScanDecimal(text_, &at_, &above) && at_ < text_.size() && text_[at_] == '/') {
      ++at_;
      if (!ScanDecimal(text_, &at_, &below) || above.decimals > 0 || below.decimals > 0) return false;
      *value += above.value / below.value;
      return below.value != 0;
    }
    at_ = start;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

bool ScanDecimal(std::string_view text, size_t* at, Decimal* decimal) {
  size_t i = *at;
  size_t group = DigitsAt(text, i);
  if (group == 0 && !(i + 1 < text.size() && text[i] == '.' && IsDigit(text[i + 1]))) return false;
  std::string digits(text.substr(i, group));
  i += group;
  if (group >= 1 && group <= 3) {
    while (i < text.size() && text[i] == ',' && DigitsAt(text, i + 1) == 3) {
      digits += text.substr(i + 1, 3);
      i += 4;
    }
  }
  decimal->decimals = 0;
  if (i + 1 < text.size() && text[i] == '.' && IsDigit(text[i + 1])) {
    const size_t behind = DigitsAt(text, i + 1);
    digits += text.substr(i + 1, behind);
    decimal->decimals = static_cast<int>(std::min<size_t>(behind, kMaxDigits + 1));
    i += 1 + behind;
  }
  *at = i;
  decimal->value = 0;
  if (digits.size() > kMaxDigits) {
    decimal->value = std::numeric_limits<long double>::infinity();
    return true;
  }
  for (const char digit : digits) decimal->value = decimal->value * 10 + (digit - '0');
  if (decimal->decimals > 0) decimal->value /= std::pow(10.0L, static_cast<long double>(decimal->decimals));
  return true;
}

size_t CurrencyAt(std::string_view text, size_t at) {
  for (const std::string_view sign : {"$", "\u20ac", "\u00a3", "\u00a5", "\u20b9"}) {
    if (StartsWithAt(text, at, sign)) return sign.size();
  }
  return 0;
}

size_t MinusAt(std::string_view text, size_t at) {
  for (const std::string_view sign : {"-", "\u2212", "\u2013"}) {
    if (StartsWithAt(text, at, sign)) return sign.size();
  }
  return 0;
}

std::string LastNumber(std::string_view text) {
  const std::string plain = Plain(text);
  size_t begin = std::string::npos;
  size_t end = 0;
  for (size_t i = 0; i < plain.size();) {
    size_t at = i;
    Decimal decimal;
    if (!ScanDecimal(plain, &at, &decimal)) {
      ++i;
      continue;
    }
    begin = i;
    if (at + 1 < plain.size() && plain[at] == '/' && IsDigit(plain[at + 1]))
      ScanDecimal(plain, &++at, &decimal);
    if (at < plain.size() && plain[at] == '%') ++at;
    i = end = at;
  }
  if (begin == std::string::npos) return "";
  for (size_t bytes = 1; bytes <= 3 && bytes <= begin; ++bytes) {
    if (CurrencyAt(plain, begin - bytes) == bytes) {
      begin -= bytes;
      break;
    }
  }
  // A minus behind a number or a word is an operator or a hyphen.
  if (begin > 0 && plain[begin - 1] == '-' &&
      (begin == 1 || !(IsDigit(plain[begin - 2]) || IsLetter(plain[begin - 2])))) {
    --begin;
  }
  return plain.substr(begin, end - begin);
}

bool ParseQuantity(std::string_view text, Quantity* quantity) {
  *quantity = {};
  text = Trimmed(text);
  if (text.empty() || text.size() > kMaxQuantityBytes) return false;
  const std::string plain = Plain(text);
  std::string_view rest = plain;
  constexpr std::string_view kBehind = ".,;:!?* \t";
  while (!rest.empty() && kBehind.find(rest.back()) != std::string_view::npos) rest.remove_suffix(1);
  while (!rest.empty() && rest.front() == '*') rest.remove_prefix(1);  // of Markdown's **12**
  if (QuantityReader(Trimmed(rest)).Read(quantity)) return true;
  *quantity = {};
  return false;
}

}  // namespace tanren
