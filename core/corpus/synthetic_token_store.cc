#include "core/corpus/synthetic_token_store.h"

#include <algorithm>

#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/corpus/counter_random.h"

namespace tanren {

SyntheticTokenStore::SyntheticTokenStore(int64_t num_tokens, int64_t mean_document_tokens, int64_t vocab_size,
                                         uint64_t seed)
    : num_tokens_(num_tokens),
      mean_document_tokens_(mean_document_tokens),
      vocab_size_(vocab_size),
      seed_(seed),
      num_documents_((num_tokens + mean_document_tokens - 1) / std::max<int64_t>(mean_document_tokens, 1)) {
  TANREN_CHECK(num_tokens >= 1 && mean_document_tokens >= 1 && vocab_size >= 1);
  // The last document begins up to mean - 1 tokens behind its slot's start, which may be behind the end.
  while (num_documents_ > 1 && DocumentBegin(num_documents_ - 1) >= num_tokens_) --num_documents_;
}

std::string SyntheticTokenStore::content_hash() const {
  Sha256 hash;
  hash.UpdateField("synthetic tokens 1");
  for (const int64_t number : {num_tokens_, mean_document_tokens_, vocab_size_}) hash.UpdateNumber(number);
  hash.UpdateNumber(static_cast<int64_t>(seed_));
  return hash.HexDigest();
}

int32_t SyntheticTokenStore::TokenAt(int64_t offset) const {
  return static_cast<int32_t>(
      BoundedRandom(CounterRandom(seed_, static_cast<uint64_t>(offset)), static_cast<uint64_t>(vocab_size_)));
}

absl::Status SyntheticTokenStore::Read(int64_t offset, absl::Span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  if (offset < 0 || count > num_tokens_ || offset > num_tokens_ - count) {
    return InvalidInput("tokens %d to %d of a store of %d", offset, offset + count, num_tokens_);
  }
  for (int64_t i = 0; i < count; ++i) out[i] = TokenAt(offset + i);
  return absl::OkStatus();
}

// One document begins in each slot of mean_document_tokens tokens, at a random place of it.
int64_t SyntheticTokenStore::DocumentBegin(int64_t document) const {
  if (document <= 0) return 0;
  if (document >= num_documents_) return num_tokens_;
  const uint64_t random = CounterRandom(~seed_, static_cast<uint64_t>(document));
  return document * mean_document_tokens_ +
         static_cast<int64_t>(BoundedRandom(random, static_cast<uint64_t>(mean_document_tokens_)));
}

int64_t SyntheticTokenStore::DocumentContaining(int64_t offset) const {
  const int64_t slot = std::min(offset / mean_document_tokens_, num_documents_ - 1);
  return DocumentBegin(slot) <= offset ? slot : slot - 1;
}

}  // namespace tanren
