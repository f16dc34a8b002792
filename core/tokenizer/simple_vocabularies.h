// Vocabularies for small experiments: bytes, characters, and words between white space.
//
// Special tokens follow the ordinary ones. An unknown character or word is an error that names it and its
// place, or the token "<unk>" where the vocabulary was made with one.
#ifndef TANREN_CORE_TOKENIZER_SIMPLE_VOCABULARIES_H_
#define TANREN_CORE_TOKENIZER_SIMPLE_VOCABULARIES_H_

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

// Ids 0 to 255 are the bytes. Every text encodes.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteTokenizer(const std::vector<std::string>& specials = {
                                                                 "<|endoftext|>"});

// `characters`: one character of UTF-8 each; ids in the order of their code points. Decode(Encode(t)) == t.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeCharacterTokenizer(const std::set<std::string>& characters,
                                                                  const std::vector<std::string>& specials);

// `words`: without white space; ids in the order of their bytes. Decode puts one space between words, so the
// kind of white space is lost.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeWhitespaceTokenizer(const std::set<std::string>& words,
                                                                   const std::vector<std::string>& specials);

// What a text needs; call for every text of a corpus, then make the tokenizer. Text must be UTF-8.
absl::Status CollectCharacters(std::string_view text, std::set<std::string>* characters);
absl::Status CollectWords(std::string_view text, std::set<std::string>* words);

// vocabulary.json as Save writes it for the three kinds.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSimpleVocabulary(const std::string& path);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_SIMPLE_VOCABULARIES_H_
