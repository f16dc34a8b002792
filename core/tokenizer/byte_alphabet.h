// GPT-2's byte-level alphabet: each of the 256 bytes is one printable character, so that tokens of arbitrary
// bytes can be written in JSON and in lines of text. Visible Latin-1 characters stand for themselves; the
// other bytes are U+0100, U+0101, ... in order (github.com/openai/gpt-2, encoder.py, bytes_to_unicode).
#ifndef TANREN_CORE_TOKENIZER_BYTE_ALPHABET_H_
#define TANREN_CORE_TOKENIZER_BYTE_ALPHABET_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace tanren {

// bytes in the order of their characters, which is the order of ids 0 to 255 in GPT-2's vocabulary
const std::array<unsigned char, 256>& BytesInAlphabetOrder();

std::string BytesToAlphabet(std::string_view bytes);

// False when the text has a character outside of the alphabet.
bool AlphabetToBytes(std::string_view text, std::string* bytes);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_BYTE_ALPHABET_H_
