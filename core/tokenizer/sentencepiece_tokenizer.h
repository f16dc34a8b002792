// SentencePiece models (Llama 2, Mistral 7B, T5, ...) through libsentencepiece.
#ifndef TANREN_CORE_TOKENIZER_SENTENCEPIECE_TOKENIZER_H_
#define TANREN_CORE_TOKENIZER_SENTENCEPIECE_TOKENIZER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

// `path` is a .model file. Control pieces (<s>, </s>, ...) are the special tokens; a document starts with <s>
// and ends with </s>. Text that is not UTF-8 does not encode: the library would replace it without a word.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSentencePieceModel(const std::string& path);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_SENTENCEPIECE_TOKENIZER_H_
