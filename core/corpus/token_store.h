// Where a training source reads tokens from: one logical sequence of documents, addressed by 64-bit offsets.
#ifndef TANREN_CORE_CORPUS_TOKEN_STORE_H_
#define TANREN_CORE_CORPUS_TOKEN_STORE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace tanren {

// Immutable; all functions may be called from several threads at once.
class TokenStore {
 public:
  virtual ~TokenStore() = default;

  virtual int64_t num_tokens() const = 0;
  // At least one; each has at least one token, and they cover 0 .. num_tokens() - 1 in order.
  virtual int64_t num_documents() const = 0;
  virtual int64_t vocab_size() const = 0;
  // Bytes of text behind the tokens, for bits per byte; 0 where there is none.
  virtual int64_t text_bytes() const = 0;
  // SHA-256 of the tokens and documents: equal stores have equal hashes.
  virtual std::string content_hash() const = 0;

  // Fills `out` with the tokens offset .. offset + out.size() - 1, each within the vocabulary. A range
  // outside of the store, or a damaged token, is an error that names the place.
  virtual absl::Status Read(int64_t offset, absl::Span<int32_t> out) const = 0;

  // Offset of a document's first token; num_tokens() for document == num_documents().
  virtual int64_t DocumentBegin(int64_t document) const = 0;
  // The document of the token at `offset`, 0 <= offset < num_tokens().
  virtual int64_t DocumentContaining(int64_t offset) const = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_TOKEN_STORE_H_
