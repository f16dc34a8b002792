// Makes a tokenizer from text files: what `tanren tokenizer train` does.
#ifndef TANREN_CORE_CORPUS_TRAIN_TOKENIZER_H_
#define TANREN_CORE_CORPUS_TRAIN_TOKENIZER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/corpus/documents.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

struct TrainTokenizerOptions {
  std::string kind = "bpe";         // bpe, bytes, characters or whitespace
  std::vector<std::string> inputs;  // none for bytes
  DocumentOptions documents;
  double max_damaged_fraction = 0.01;
  std::vector<std::string> specials = {"<|endoftext|>"};

  // bpe only: see BpeTrainerOptions.
  int64_t vocab_size = 8192;
  std::string split = "gpt2";
  int64_t min_count = 2;
  int threads = 0;

  std::function<void(const char* stage, int64_t done, int64_t total)> progress;  // may be empty
};

// Damaged lines are left out and counted in *damage; more than the allowed fraction is an error.
absl::StatusOr<std::unique_ptr<Tokenizer>> TrainTokenizer(const TrainTokenizerOptions& options,
                                                          DamageReport* damage);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_TRAIN_TOKENIZER_H_
