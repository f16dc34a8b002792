#include "core/report/html_escape.h"

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/config/text.h"

namespace tanren {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// Entities for the five characters; what cannot be printed in config::Printable's notation.
void AppendValid(std::string_view piece, char32_t code_point, bool keep_lines, std::string* out) {
  switch (code_point) {
    case '&':
      *out += "&amp;";
      return;
    case '<':
      *out += "&lt;";
      return;
    case '>':
      *out += "&gt;";
      return;
    case '"':
      *out += "&quot;";
      return;
    case '\'':
      *out += "&#39;";
      return;
    default:
      if (code_point == '\n' && keep_lines) {
        *out += '\n';
      } else if (config::IsUnprintable(code_point)) {
        *out += config::Printable(piece);
      } else {
        out->append(piece);
      }
  }
}

// Where the run of valid UTF-8 that starts at `begin` ends.
size_t ValidEnd(std::string_view text, size_t begin) {
  const size_t invalid = config::FirstInvalidUtf8(text.substr(begin));
  return invalid == std::string_view::npos ? text.size() : begin + invalid;
}

std::string Escape(std::string_view text, size_t max_bytes, bool keep_lines) {
  std::string out;
  size_t position = 0;
  // A text that is cut may lose part of a character: what is decoded has a few bytes more than what is shown.
  const std::string_view head = text.substr(0, max_bytes + 4);
  size_t valid_end = ValidEnd(head, 0);
  while (position < head.size()) {
    if (position >= max_bytes) return absl::StrCat(out, "... (", text.size(), " bytes)");
    if (position == valid_end) {
      out += kReplacement;
      valid_end = ValidEnd(head, ++position);
      continue;
    }
    size_t next = position;
    const char32_t code_point = config::NextCodePoint(head, &next);
    AppendValid(head.substr(position, next - position), code_point, keep_lines, &out);
    position = next;
  }
  return out;
}

}  // namespace

std::string HtmlText(std::string_view text, size_t max_bytes) { return Escape(text, max_bytes, false); }

std::string HtmlLines(std::string_view text, size_t max_bytes) { return Escape(text, max_bytes, true); }

}  // namespace tanren
