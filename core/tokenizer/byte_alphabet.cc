#include "core/tokenizer/byte_alphabet.h"

#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

constexpr uint32_t kCharacters = 256 + 68;  // the largest code point is U+0143

struct Alphabet {
  std::array<uint32_t, 256> character_of{};
  std::array<int16_t, kCharacters> byte_of{};
  std::array<unsigned char, 256> in_order{};

  Alphabet() {
    byte_of.fill(-1);
    const auto visible = [](int b) {
      return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    };
    uint32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      character_of[byte] = visible(byte) ? static_cast<uint32_t>(byte) : next++;
      byte_of[character_of[byte]] = static_cast<int16_t>(byte);
    }
    int rank = 0;
    for (uint32_t character = 0; character < kCharacters; ++character) {
      if (byte_of[character] >= 0) in_order[rank++] = static_cast<unsigned char>(byte_of[character]);
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

const std::array<unsigned char, 256>& BytesInAlphabetOrder() { return TheAlphabet().in_order; }

std::string BytesToAlphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes)
    AppendUtf8(TheAlphabet().character_of[static_cast<unsigned char>(byte)], &text);
  return text;
}

bool AlphabetToBytes(std::string_view text, std::string* bytes) {
  bytes->clear();
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = DecodeUtf8(text, i);
    if (character.bytes == 0 || character.code_point >= kCharacters) return false;
    const int16_t byte = TheAlphabet().byte_of[character.code_point];
    if (byte < 0) return false;
    bytes->push_back(static_cast<char>(byte));
    i += character.bytes;
  }
  return true;
}

}  // namespace tanren
