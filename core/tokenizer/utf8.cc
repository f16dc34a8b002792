#include "core/tokenizer/utf8.h"

#include <algorithm>

#include "simdjson.h"

namespace tanren {
namespace {

bool Continues(unsigned char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

Utf8Character DecodeUtf8(std::string_view text, size_t offset) {
  if (offset >= text.size()) return {};
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[offset + i]); };
  const size_t left = text.size() - offset;
  const unsigned char lead = at(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {};
  const int bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (left < static_cast<size_t>(bytes)) return {};
  uint32_t code_point = lead & (0xFF >> (bytes + 1));
  for (int i = 1; i < bytes; ++i) {
    if (!Continues(at(i))) return {};
    code_point = code_point << 6 | (at(i) & 0x3F);
  }
  const uint32_t least = bytes == 2 ? 0x80 : bytes == 3 ? 0x800 : 0x10000;
  if (code_point < least || code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) return {};
  return {code_point, bytes};
}

Utf8Character DecodeUtf8Before(std::string_view text, size_t offset) {
  size_t begin = offset;
  while (begin > 0 && offset - begin < 4) {
    --begin;
    if (!Continues(static_cast<unsigned char>(text[begin]))) break;
  }
  const Utf8Character character = DecodeUtf8(text.substr(0, offset), begin);
  return begin + character.bytes == offset ? character : Utf8Character{};
}

bool IsValidUtf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

size_t ValidUtf8Prefix(std::string_view text) {
  // Whole blocks at the library's speed; the first block that fails is walked. A block may cut a character
  // in two, so a block's end is moved back to where its last character starts.
  constexpr size_t kBlockBytes = 4096;
  size_t offset = 0;
  while (offset < text.size()) {
    size_t end = std::min(text.size(), offset + kBlockBytes);
    for (int back = 0; back < 3 && end < text.size() && Continues(static_cast<unsigned char>(text[end]));
         ++back)
      --end;
    if (!IsValidUtf8(text.substr(offset, end - offset))) break;
    offset = end;
  }
  while (offset < text.size()) {
    const Utf8Character character = DecodeUtf8(text, offset);
    if (character.bytes == 0) break;
    offset += character.bytes;
  }
  return offset;
}

void AppendUtf8(uint32_t code_point, std::string* text) {
  if (code_point < 0x80) {
    text->push_back(static_cast<char>(code_point));
    return;
  }
  const int bytes = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
  const uint32_t lead = bytes == 2 ? 0xC0 : bytes == 3 ? 0xE0 : 0xF0;
  text->push_back(static_cast<char>(lead | code_point >> (6 * (bytes - 1))));
  for (int i = bytes - 2; i >= 0; --i)
    text->push_back(static_cast<char>(0x80 | (code_point >> (6 * i) & 0x3F)));
}

int64_t CountUtf8Characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return !Continues(static_cast<unsigned char>(c)); });
}

bool IsUnicodeSpace(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace tanren
