// Finds "expression = value" in text and evaluates it, in long double: sums and products of whole numbers are
// exact up to 2^63, other values are compared within 1e-18 of the largest number on the way. A right side
// with a decimal point may be rounded to the digits it prints: "2/3 = 0.67". A whole one may not: "7/2 = 4"
// is wrong.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/reward/checker.h"
#include "core/reward/numeric.h"

namespace tanren {
namespace {

constexpr int kMaxDepth = 32;
constexpr int kMaxNumbers = 1000;  // of one expression
constexpr long double kRelativeRoom = 1e-18L;

struct Value {
  long double value = 0;
  long double magnitude = 0;  // the largest absolute value on the way
  bool defined = true;        // no division by zero
  int decimals = -1;          // a lone number: digits behind its point; else -1
};

// Sum := product (+- product)*, product := factor (*/ factor)*, factor := -factor | (sum) | number[%]. What
// cannot be read as a whole is read as far as it goes: "3+4 apples" is 7.
class ExpressionReader {
 public:
  ExpressionReader(std::string_view text, size_t at) : text_(text), at_(at) {}

  bool Sum(Value* value) {
    if (!Product(value)) return false;
    while (true) {
      const size_t before = at_;
      SkipSpaces();
      const size_t minus = MinusAt(text_, at_);
      Value right;
      if (minus == 0 && !Is('+')) return Back(before);
      at_ += minus == 0 ? 1 : minus;
      if (!Product(&right)) return Back(before);
      Combine(value->value + (minus == 0 ? right.value : -right.value), right, value);
    }
  }

  size_t at() const { return at_; }
  bool over_limit() const { return over_limit_; }  // too deep or too long to be evaluated

 private:
  bool Is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Is(const char* sign) const { return text_.substr(std::min(at_, text_.size()), strlen(sign)) == sign; }
  void SkipSpaces() {
    while (Is(' ') || Is('\t')) ++at_;
  }
  bool Back(size_t to) {
    at_ = to;
    return true;
  }

  static void Combine(long double result, const Value& right, Value* value) {
    value->value = result;
    value->magnitude = std::max({value->magnitude, right.magnitude, std::abs(result)});
    value->defined = value->defined && right.defined && std::isfinite(result);
    value->decimals = -1;
  }

  bool Product(Value* value) {
    if (!Factor(value)) return false;
    while (true) {
      const size_t before = at_;
      Value right;
      if (Is('(')) {  // 2(3+4)
        if (!Factor(&right)) return Back(before);
        Combine(value->value * right.value, right, value);
        continue;
      }
      SkipSpaces();
      bool divide = false;
      if (!Operator(&divide) || !Factor(&right)) return Back(before);
      if (divide && right.value == 0) right.defined = false;
      Combine(!divide            ? value->value * right.value
              : right.value == 0 ? 0
                                 : value->value / right.value,
              right, value);
    }
  }

  bool Operator(bool* divide) {
    const bool cross = Is("\u00d7");
    *divide = Is('/') || Is("\u00f7");
    if (Is('*') || Is('/')) return ++at_, true;
    if (cross || *divide) return at_ += 2, true;
    if (!Is('x') && !Is('X')) return false;
    // The x of "3 x 4" stands before a number, that of "2x + 3" does not.
    const size_t next = text_.find_first_not_of(" \t", at_ + 1);
    if (next == std::string_view::npos) return false;
    ++at_;
    return IsDigit(text_[next]) || text_[next] == '(' || text_[next] == '.' || CurrencyAt(text_, next) > 0;
  }

  bool Factor(Value* value) {
    SkipSpaces();
    if (depth_ >= kMaxDepth || numbers_ >= kMaxNumbers) {
      over_limit_ = true;
      return false;
    }
    if (const size_t minus = MinusAt(text_, at_); minus > 0) {
      at_ += minus;
      ++depth_;
      const bool read = Factor(value);
      --depth_;
      value->value = -value->value;
      return read;
    }
    if (Is('(')) {
      ++at_;
      ++depth_;
      bool read = Sum(value);
      --depth_;
      SkipSpaces();
      read = read && Is(')');
      ++at_;
      value->decimals = -1;
      return read;
    }
    if (Is('+') && at_ + 1 < text_.size() && IsDigit(text_[at_ + 1])) ++at_;  // a sign
    return Number(value);
  }

  bool Number(Value* value) {
    at_ += CurrencyAt(text_, at_);
    SkipSpaces();
    Decimal decimal;
    if (!ScanDecimal(text_, &at_, &decimal)) return false;
    ++numbers_;
    *value = {decimal.value, 0, std::isfinite(decimal.value), decimal.decimals};
    if (Is('%')) {
      ++at_;
      value->value /= 100;
      if (value->decimals > 0) value->decimals += 2;
    }
    value->magnitude = value->value;
    return true;
  }

  std::string_view text_;
  size_t at_;
  int depth_ = 0;
  int numbers_ = 0;
  bool over_limit_ = false;
};

bool Same(const Value& left, const Value& right) {
  if (!left.defined || !right.defined) return false;
  const long double difference = std::abs(left.value - right.value);
  if (difference <= kRelativeRoom * std::max(left.magnitude, right.magnitude)) return true;
  if (right.decimals <= 0) return false;
  return difference <= 0.5L * std::pow(10.0L, -static_cast<long double>(right.decimals)) * (1 + 1e-9L);
}

// Goes through the lines of a text and reports its equations.
class StepFinder {
 public:
  explicit StepFinder(std::string_view text) : text_(text) {}

  StepReport Find() {
    for (size_t begin = 0; begin < text_.size();) {
      const size_t end = std::min(text_.find('\n', begin), text_.size());
      ScanLine(begin, end);
      begin = end + 1;
    }
    return report_;
  }

  // What the last step found: the digits behind a colon at the end of its line, or else its value.
  bool LastValue(long double* value) const {
    if (report_.steps == 0) return false;
    *value = last_.value;
    const size_t end = report_.step_end.back();
    const std::string_view rest = text_.substr(end, text_.find('\n', end) - end);
    const size_t colon = rest.rfind(':');
    if (colon == std::string_view::npos) return last_.defined;
    const std::string_view digits = Trimmed(rest.substr(colon + 1));
    size_t at = 0;
    Decimal decimal;
    if (std::all_of(digits.begin(), digits.end(), IsDigit) && ScanDecimal(digits, &at, &decimal)) {
      *value = decimal.value;
    }
    return last_.defined;
  }

 private:
  void Record(bool right, const Value& value, size_t end) {
    ++report_.steps;
    report_.right += right ? 1 : 0;
    report_.step_right.push_back(right ? 1 : 0);
    report_.step_end.push_back(end);
    last_ = value;
  }

  // A minus or plus that is a sign: "-3" behind a space or at the start, not "x - 3" nor "x-3".
  bool IsSign(std::string_view line, size_t at) const {
    const size_t next = at + (line[at] == '+' ? 1 : MinusAt(line, at));
    if (next == at || next >= line.size() || line[next] == ' ') return false;
    return at == 0 || !(IsDigit(line[at - 1]) || IsLetter(line[at - 1]) || line[at - 1] == ')');
  }

  void ScanLine(size_t begin, size_t end) {
    const std::string_view line = text_.substr(begin, end - begin);
    size_t i = 0;
    while (i < line.size() && (line[i] == ' ' || line[i] == '\t')) ++i;
    if (i + 1 < line.size() && (line[i] == '-' || line[i] == '*') && line[i + 1] == ' ') i += 2;  // a bullet
    bool dangling = false;  // behind an operator whose left side is no number: "x + 3 = 7" is no arithmetic
    while (i < line.size()) {
      const char c = line[i];
      if (IsLetter(c) || c == '_') {
        while (i < line.size() && (IsLetter(line[i]) || IsDigit(line[i]) || line[i] == '_')) ++i;
        dangling = false;
      } else if (IsDigit(c) || c == '.' || c == '(' || CurrencyAt(line, i) > 0 || IsSign(line, i)) {
        if (!ScanChain(line, begin, dangling, &i)) return;
        dangling = false;
      } else {
        const size_t minus = MinusAt(line, i);
        const bool sign = minus > 0 || c == '+' || c == '*' || c == '/' || c == '^';
        if (c != ' ' && c != '\t') dangling = sign;
        i += std::max<size_t>(minus, 1);
      }
    }
  }

  // The expressions of a chain "a = b = c" at *at, which moves behind it. False when the rest of the line is
  // lost.
  bool ScanChain(std::string_view line, size_t line_begin, bool dangling, size_t* at) {
    Value left;
    ExpressionReader first(line, *at);
    const bool read = first.Sum(&left);
    // What is too deep or too long to be evaluated counts as wrong, or it would be a way around being
    // checked.
    if (first.over_limit()) return Record(false, Value{0, 0, false, -1}, line_begin + line.size()), false;
    if (!read) return ++*at, true;
    *at = first.at();
    while (!dangling) {
      const size_t equal = line.find_first_not_of(" \t", *at);
      if (equal == std::string_view::npos || line[equal] != '=') break;
      Value right;
      ExpressionReader next(line, equal + 1);
      const bool found = next.Sum(&right);
      if (next.over_limit()) return Record(false, Value{0, 0, false, -1}, line_begin + line.size()), false;
      if (!found) break;
      *at = next.at();
      Record(Same(left, right), right, line_begin + *at);
      left = right;
    }
    return true;
  }

  std::string_view text_;
  StepReport report_;
  Value last_;
};

}  // namespace

StepReport CheckSteps(std::string_view response, std::string_view marker) {
  StepFinder finder(response);
  StepReport report = finder.Find();
  const std::string answer = marker.empty() ? LastNumber(response) : ExtractAnswer(response, marker);
  Quantity quantity;
  long double last = 0;
  if (ParseQuantity(answer, &quantity) && finder.LastValue(&last)) {
    const long double answered = quantity.value;
    report.leads_to_answer =
        std::abs(last - answered) <= 1e-15L * std::max(std::abs(last), std::abs(answered));
  }
  return report;
}

std::vector<size_t> LineEnds(std::string_view text) {
  std::vector<size_t> ends;
  for (size_t begin = 0; begin < text.size(); begin = ends.back()) {
    ends.push_back(std::min(text.find('\n', begin), text.size() - 1) + 1);
  }
  return ends;
}

}  // namespace tanren
