// Writes a directory of token shards.
#ifndef TANREN_CORE_CORPUS_CORPUS_WRITER_H_
#define TANREN_CORE_CORPUS_CORPUS_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/sha256.h"
#include "core/corpus/corpus_manifest.h"
#include "core/corpus/shard_format.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

// Tokens arrive in order and go to disk at once; memory holds a write buffer and the document index of one
// shard. `corpus.json` is written by Finish, last: a directory without it is no corpus.
class CorpusWriter {
 public:
  static constexpr int64_t kDefaultShardTokens = int64_t{1} << 28;

  // `directory` exists and has no shards. The tokenizer is saved into it.
  static absl::StatusOr<std::unique_ptr<CorpusWriter>> Create(const std::string& directory,
                                                              const Tokenizer& tokenizer,
                                                              int64_t shard_tokens = kDefaultShardTokens);
  ~CorpusWriter();

  // Tokens of the document at hand, and the bytes of text they stand for. Ids must be within the vocabulary.
  absl::Status Append(absl::Span<const int32_t> ids, int64_t text_bytes);
  // Documents without tokens are dropped.
  void EndDocument();

  // Closes the last shard and writes the manifest, all on disk on return (fsync). `bos` and `end_of_text`:
  // what the caller put around every document, -1 for nothing. A corpus without tokens is NotFound.
  absl::StatusOr<CorpusManifest> Finish(int32_t bos, int32_t end_of_text);

 private:
  CorpusWriter(std::string directory, const Tokenizer& tokenizer, int64_t shard_tokens);
  absl::Status OpenShard();
  absl::Status CloseShard();
  void Buffer(int32_t id);
  absl::Status FlushTokens();
  absl::Status WriteAt(const void* data, int64_t bytes, int64_t offset);

  std::string directory_;
  int64_t shard_tokens_;
  CorpusManifest manifest_;
  int fd_ = -1;
  std::string shard_path_;
  ShardHeader header_;
  int64_t written_bytes_ = 0;             // of this shard's tokens
  std::vector<unsigned char> buffer_;     // tokens not yet written
  std::vector<int64_t> document_begins_;  // of this shard
  bool in_document_ = false;
  Sha256 token_hash_;
  Sha256 document_hash_;
};

// The content hash from SHA-256 over all tokens as stored and over all document begins as int64.
std::string ContentHash(Sha256 tokens, Sha256 documents, int64_t num_tokens, int64_t vocab_size);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_CORPUS_WRITER_H_
