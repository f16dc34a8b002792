// File formats of byte-level BPE: GPT-2's published pair of files and Hugging Face's tokenizer.json.
#ifndef TANREN_CORE_TOKENIZER_BPE_FILES_H_
#define TANREN_CORE_TOKENIZER_BPE_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tokenizer/bpe_tokenizer.h"

namespace tanren {

// `vocabulary_path`: JSON, token (in the byte alphabet) to id. `merges_path`: a pair per line, best first,
// after an optional "#version" line. A token that is no single byte and that no merge makes is special.
absl::StatusOr<BpeDefinition> ReadGpt2Files(const std::string& vocabulary_path,
                                            const std::string& merges_path);

// tokenizer.json of a byte-level BPE model. Any part that would change ids and is not known here (another
// model, normaliser, splitter, dropout, ...) is an error that names it. Roles come from tokenizer_config.json
// in the same directory where there is one, else from the names of the added tokens.
absl::StatusOr<BpeDefinition> ReadHuggingFaceTokenizer(const std::string& path);

// Writes tokenizer.json and tokenizer_config.json, which `transformers` loads, into `directory`.
absl::Status WriteHuggingFaceTokenizer(const BpeDefinition& definition, const std::string& directory);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_BPE_FILES_H_
