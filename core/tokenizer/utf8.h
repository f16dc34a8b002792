// UTF-8 (RFC 3629): strict decoding, and the white space that splitting patterns know.
#ifndef TANREN_CORE_TOKENIZER_UTF8_H_
#define TANREN_CORE_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tanren {

// One decoded character. `bytes` is 0 at the end of the text or where the bytes are not UTF-8
// (overlong forms, surrogates and values above U+10FFFF included).
struct Utf8Character {
  uint32_t code_point = 0;
  int bytes = 0;
};

Utf8Character DecodeUtf8(std::string_view text, size_t offset);

// The character that ends right before `offset`; bytes 0 at the start or where it is not UTF-8.
Utf8Character DecodeUtf8Before(std::string_view text, size_t offset);

bool IsValidUtf8(std::string_view text);

// Bytes from the start that are valid UTF-8; text.size() when all of it is.
size_t ValidUtf8Prefix(std::string_view text);

void AppendUtf8(uint32_t code_point, std::string* text);

// Characters of valid UTF-8: the bytes that do not continue a character.
int64_t CountUtf8Characters(std::string_view text);

// Unicode's White_Space property.
bool IsUnicodeSpace(uint32_t code_point);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_UTF8_H_
