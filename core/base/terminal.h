// Text from files, on its way to a terminal.
#ifndef TANREN_CORE_BASE_TERMINAL_H_
#define TANREN_CORE_BASE_TERMINAL_H_

#include <string>
#include <string_view>

namespace tanren {

// The text with its line breaks, in which nothing commands a terminal that reads UTF-8: control characters,
// those of one byte and those of two that begin with 0xc2, become "\x1b" and the like.
inline std::string ForTerminal(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    const bool control =
        (byte < 0x20 && byte != '\n') || byte == 0x7f || (byte == 0xc2 && next >= 0x80 && next < 0xa0);
    if (control) {
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
      if (byte == 0xc2) out += {'\\', 'x', kDigits[next >> 4], kDigits[next & 15]}, ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace tanren

#endif  // TANREN_CORE_BASE_TERMINAL_H_
