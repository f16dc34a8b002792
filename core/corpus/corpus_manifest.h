// corpus.json: what a directory of token shards holds; the grammar is docs/token_shards.md.
#ifndef TANREN_CORE_CORPUS_CORPUS_MANIFEST_H_
#define TANREN_CORE_CORPUS_CORPUS_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

struct CorpusManifest {
  struct Shard {
    std::string file;  // a basename
    int64_t tokens = 0;
    int64_t documents = 0;
  };

  std::string tokenizer_kind;
  std::string tokenizer_hash;
  int64_t vocab_size = 0;
  int32_t end_of_text = -1;  // the id at the end of every document; -1: none was added
  int32_t bos = -1;          // the id at the start of every document; -1: none was added
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t text_bytes = 0;  // of the text that was encoded, without what bos and end of text add
  std::string content_hash;
  std::vector<Shard> shards;
};

inline constexpr const char* kManifestFile = "corpus.json";

std::string FormatManifest(const CorpusManifest& manifest);

// Checks types, the checksum over the content, that shard files are basenames, and that sums agree.
absl::StatusOr<CorpusManifest> ParseManifest(std::string_view text, const std::string& path);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_CORPUS_MANIFEST_H_
