// A store of any size that needs no memory: tokens and document lengths are functions of the seed.
#ifndef TANREN_CORE_CORPUS_SYNTHETIC_TOKEN_STORE_H_
#define TANREN_CORE_CORPUS_SYNTHETIC_TOKEN_STORE_H_

#include <string>

#include "core/corpus/token_store.h"

namespace tanren {

class SyntheticTokenStore : public TokenStore {
 public:
  // Documents have 1 to 2 * mean_document_tokens - 1 tokens. All arguments are at least 1.
  SyntheticTokenStore(int64_t num_tokens, int64_t mean_document_tokens, int64_t vocab_size, uint64_t seed);

  int64_t num_tokens() const override { return num_tokens_; }
  int64_t num_documents() const override { return num_documents_; }
  int64_t vocab_size() const override { return vocab_size_; }
  int64_t text_bytes() const override { return 0; }
  std::string content_hash() const override;
  absl::Status Read(int64_t offset, absl::Span<int32_t> out) const override;
  int64_t DocumentBegin(int64_t document) const override;
  int64_t DocumentContaining(int64_t offset) const override;

  int32_t TokenAt(int64_t offset) const;

 private:
  int64_t num_tokens_;
  int64_t mean_document_tokens_;
  int64_t vocab_size_;
  uint64_t seed_;
  int64_t num_documents_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTHETIC_TOKEN_STORE_H_
