#include "core/hugging_face/tokenizer_files.h"

#include <filesystem>

#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

constexpr const char* kNames[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "tokenizer.model",
    "vocabulary.json",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
};

}  // namespace

absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& directory) {
  TokenizerFiles files;
  for (const char* name : kNames) {
    const std::filesystem::path path = std::filesystem::path(directory) / name;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    TANREN_ASSIGN_OR_RETURN(files[name], ReadSmallFile(path.string(), kMaxTokenizerFileBytes));
  }
  return files;
}

}  // namespace tanren
