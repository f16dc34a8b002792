// Text from data, made safe and visible in HTML.
#ifndef TANREN_CORE_REPORT_HTML_ESCAPE_H_
#define TANREN_CORE_REPORT_HTML_ESCAPE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tanren {

inline constexpr size_t kHtmlTextBytes = 4096;

// `text` for use between tags and inside quoted attributes: & < > " ' become entities; control characters and
// characters that reorder or hide text are shown as \n, \x1b, \u202e; a byte that is not UTF-8 becomes
// U+FFFD. Of more than `max_bytes` bytes only the beginning is kept, followed by "... (N bytes)".
std::string HtmlText(std::string_view text, size_t max_bytes = kHtmlTextBytes);

// The same, but line feeds stay: for elements that show them (white-space: pre-wrap).
std::string HtmlLines(std::string_view text, size_t max_bytes = kHtmlTextBytes);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_ESCAPE_H_
