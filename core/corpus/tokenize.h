// From text files to a token corpus: what `tanren data tokenize` does.
#ifndef TANREN_CORE_CORPUS_TOKENIZE_H_
#define TANREN_CORE_CORPUS_TOKENIZE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/corpus/corpus_manifest.h"
#include "core/corpus/corpus_writer.h"
#include "core/corpus/documents.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

struct CorpusSplit {
  std::string name;  // letters, digits, '-' and '_'
  double fraction = 0;
};

// "train=0.9": a name and a fraction above 0 and at most 1.
absl::StatusOr<CorpusSplit> ParseCorpusSplit(std::string_view text);

struct TokenizeOptions {
  enum class SplitBy {
    kAuto,      // position where there is one text file that is one document, else document
    kPosition,  // by characters, in the order of the splits: the first 90 %, then the last 10 %
    kDocument,  // by the SHA-256 of a document's text (of the file, where a file is one document)
  };

  std::vector<std::string> inputs;  // in this order
  std::string out;                  // a directory: a corpus, or with splits a corpus per split below it
  DocumentOptions documents;
  std::vector<CorpusSplit> splits;  // fractions sum to 1; without a "train" it gets what is left
  SplitBy split_by = SplitBy::kAuto;
  bool append_end_of_text = true;      // where the tokenizer has such a token
  bool prepend_bos = true;             // where the tokenizer's model was made with it
  double max_damaged_fraction = 0.01;  // of the lines read; more is an error
  int64_t shard_tokens = CorpusWriter::kDefaultShardTokens;
  int threads = 0;     // 0: as the machine has; the output does not depend on it
  bool force = false;  // replace another corpus at `out`

  std::function<void(const char* stage, int64_t done_bytes, int64_t total_bytes)> progress;  // may be empty
};

struct TokenizeSummary {
  struct Split {
    std::string name;  // empty without splits
    std::string directory;
    CorpusManifest manifest;
  };
  bool up_to_date = false;  // `out` held just this corpus already: nothing was written
  bool split_by_position = false;
  std::vector<Split> splits;
  DamageReport damage;
};

// `out` appears complete or not at all, and is never replaced unless `force` (and then only if it is a
// corpus). A file tokenize.json in it records the hash of inputs, tokenizer and options: a second run with
// the same does nothing.
absl::StatusOr<TokenizeSummary> TokenizeCorpus(const TokenizeOptions& options, const Tokenizer& tokenizer);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_TOKENIZE_H_
