// Untrusted text in messages, UTF-8, and the distance between names.
#ifndef TANREN_CORE_CONFIG_TEXT_H_
#define TANREN_CORE_CONFIG_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tanren::config {

// `text` fit for a terminal, a log and one line: control characters, characters that reorder or hide text and
// bytes that are not UTF-8 are escaped, and of more than `max_bytes` bytes only the beginning is kept,
// followed by "..." and the whole length.
std::string Printable(std::string_view text, size_t max_bytes = 80);

// Where `text` first stops being UTF-8 (no surrogates, no overlong forms), or npos.
size_t FirstInvalidUtf8(std::string_view text);

// The code point that starts at text[*position], which must be valid UTF-8; moves *position behind it.
char32_t NextCodePoint(std::string_view text, size_t* position);

// Control characters, and format characters that change how the text around them is shown.
bool IsUnprintable(char32_t code_point);

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment) from a to b.
int EditDistance(std::string_view a, std::string_view b);

// "a", "a or b", "a, b or c".
std::string JoinWithOr(const std::vector<std::string>& words);

// The shortest digits that read back as exactly `value`, which is finite: 0.0003, 10000, 1e-8.
std::string FormatNumber(double value);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_TEXT_H_
