// The files of a tokenizer that lie in a model directory of Hugging Face's. Internal to this folder.
#ifndef TANREN_CORE_HUGGING_FACE_TOKENIZER_FILES_H_
#define TANREN_CORE_HUGGING_FACE_TOKENIZER_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "core/checkpoint/manifest.h"

namespace tanren {

// Those of the known names that are there (tokenizer.json, merges.txt, tokenizer.model, chat_template.jinja,
// ...).
absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& directory);

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_TOKENIZER_FILES_H_
