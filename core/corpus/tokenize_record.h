// tokenize.json: what a corpus was made from, so that the same request is recognised. Internal to
// TokenizeCorpus.
#ifndef TANREN_CORE_CORPUS_TOKENIZE_RECORD_H_
#define TANREN_CORE_CORPUS_TOKENIZE_RECORD_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/corpus/documents.h"
#include "core/corpus/input_stream.h"
#include "core/corpus/tokenize.h"

namespace tanren {

struct TokenizeRecord {
  std::string request;  // RequestHash
  std::vector<std::string> splits;
  bool split_by_position = false;
  DamageReport damage;
};

// SHA-256 of all that decides the output: inputs by content and order, tokenizer, options.
std::string RequestHash(const TokenizeOptions& options, const std::vector<CorpusSplit>& splits,
                        const std::vector<FileDigest>& inputs, const Tokenizer& tokenizer);

absl::Status WriteTokenizeRecord(const std::string& directory, const TokenizeRecord& record,
                                 const std::vector<std::string>& input_names,
                                 const std::vector<FileDigest>& inputs);

// NotFound when the directory has no such record.
absl::StatusOr<TokenizeRecord> ReadTokenizeRecord(const std::string& directory);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_TOKENIZE_RECORD_H_
