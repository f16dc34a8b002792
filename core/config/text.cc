#include "core/config/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status.h"

namespace tanren::config {
namespace {

// Length of the valid UTF-8 sequence at text[position], or 0.
size_t SequenceLength(std::string_view text, size_t position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || position + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (first == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
  if (first == 0xED && byte(1) > 0x9F) return 0;  // surrogate
  if (first == 0xF0 && byte(1) < 0x90) return 0;  // overlong
  if (first == 0xF4 && byte(1) > 0x8F) return 0;  // above U+10FFFF
  return length;
}

std::string Escape(char32_t code_point) {
  switch (code_point) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return code_point < 0x100 ? absl::StrFormat("\\x%02x", static_cast<uint32_t>(code_point))
                                : absl::StrFormat("\\u%04x", static_cast<uint32_t>(code_point));
  }
}

}  // namespace

std::string Printable(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t position = 0;
  while (position < text.size()) {
    const size_t length = SequenceLength(text, position);
    std::string piece;
    size_t next = position;
    if (length == 0) {
      piece = absl::StrFormat("\\x%02x", static_cast<unsigned char>(text[next++]));
    } else {
      const char32_t code_point = NextCodePoint(text, &next);
      piece = IsUnprintable(code_point) ? Escape(code_point) : std::string(text.substr(position, length));
    }
    if (out.size() + piece.size() > max_bytes) {
      return absl::StrCat(out, "... (", text.size(), " bytes)");
    }
    out += piece;
    position = next;
  }
  return out;
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    const size_t length = SequenceLength(text, position);
    if (length == 0) return position;
    position += length;
  }
  return std::string_view::npos;
}

char32_t NextCodePoint(std::string_view text, size_t* position) {
  const size_t length = SequenceLength(text, *position);
  TANREN_CHECK(length > 0);
  const unsigned char first = static_cast<unsigned char>(text[*position]);
  char32_t code_point = length == 1 ? first : first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    code_point = (code_point << 6) | (static_cast<unsigned char>(text[*position + i]) & 0x3F);
  }
  *position += length;
  return code_point;
}

bool IsUnprintable(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) ||                           // C0, DEL, C1
         (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||  // zero width, separators, bidi
         (c >= 0x2060 && c <= 0x206F) || c == 0x061C || c == 0xFEFF ||    // more of these
         (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE007F);  // annotations, tags
}

int EditDistance(std::string_view a, std::string_view b) {
  const size_t columns = b.size() + 1;
  std::vector<int> before(columns), above(columns), row(columns);
  for (size_t j = 0; j < columns; ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j < columns; ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row.back();
}

std::string JoinWithOr(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
    out += words[i];
  }
  return out;
}

std::string FormatNumber(double value) {
  char buffer[64];
  const double size = std::abs(value);
  const bool is_short = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof(buffer), value,
                    is_short ? std::chars_format::fixed : std::chars_format::scientific);
  TANREN_CHECK(error == std::errc());
  std::string text(buffer, end);
  const size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  // 1e-08 -> 1e-8 and 1e+20 -> 1e20
  size_t digits = exponent + 1;
  if (text[digits] == '+') {
    text.erase(digits, 1);
  } else if (text[digits] == '-') {
    ++digits;
  }
  while (digits + 1 < text.size() && text[digits] == '0') text.erase(digits, 1);
  return text;
}

}  // namespace tanren::config
