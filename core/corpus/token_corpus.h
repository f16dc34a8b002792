// Reads a directory of token shards made by `tanren data tokenize`.
#ifndef TANREN_CORE_CORPUS_TOKEN_CORPUS_H_
#define TANREN_CORE_CORPUS_TOKEN_CORPUS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/corpus/corpus_manifest.h"
#include "core/corpus/shard_format.h"
#include "core/corpus/token_store.h"

namespace tanren {

// The shards are mapped into memory: opening reads no token, and what is read stays in the page cache. Files
// must not be truncated while a corpus is open.
class TokenCorpus : public TokenStore {
 public:
  // Checks the manifest, every shard's header and size, and that documents ascend and cover the tokens.
  // Damage is an error that names the file; damage among the tokens is found by Read (ids) and by Verify
  // (everything).
  static absl::StatusOr<std::unique_ptr<TokenCorpus>> Open(const std::string& directory);
  ~TokenCorpus() override;

  int64_t num_tokens() const override { return manifest_.tokens; }
  int64_t num_documents() const override { return manifest_.documents; }
  int64_t vocab_size() const override { return manifest_.vocab_size; }
  int64_t text_bytes() const override { return manifest_.text_bytes; }
  std::string content_hash() const override { return manifest_.content_hash; }
  absl::Status Read(int64_t offset, absl::Span<int32_t> out) const override;
  int64_t DocumentBegin(int64_t document) const override;
  int64_t DocumentContaining(int64_t offset) const override;

  const CorpusManifest& manifest() const { return manifest_; }
  const std::string& directory() const { return directory_; }
  std::string tokenizer_directory() const { return directory_ + "/tokenizer"; }

  // Reads everything: checksums of all shards, every id, and the content hash.
  absl::Status Verify() const;

 private:
  struct Shard;

  TokenCorpus() = default;
  absl::Status AddShard(const CorpusManifest::Shard& entry);
  const Shard& ShardOfDocument(int64_t document) const;

  std::string directory_;
  CorpusManifest manifest_;
  std::vector<Shard> shards_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_TOKEN_CORPUS_H_
