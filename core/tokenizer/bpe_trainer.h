// Learns the merges of a byte-level BPE from text (Sennrich et al. 2016).
//
// Text is counted as distinct pieces on several threads; then the most frequent pair of adjacent tokens
// merges, again and again, the pair with the smaller ids of equals. Pair counts and the places of pairs are
// kept up to date, so that all merges together cost O(bytes of distinct pieces). The result depends on the
// texts only, not on their order nor on the number of threads.
#ifndef TANREN_CORE_TOKENIZER_BPE_TRAINER_H_
#define TANREN_CORE_TOKENIZER_BPE_TRAINER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tokenizer/bpe_tokenizer.h"

namespace tanren {

struct BpeTrainerOptions {
  int64_t vocab_size = 8192;   // 256 bytes, then merges, then special tokens
  std::string split = "gpt2";  // gpt2, gpt4 or qwen: see split_pattern.h
  std::vector<std::string> specials = {"<|endoftext|>"};
  int64_t min_count = 2;  // pairs seen less often do not merge: the vocabulary may stay smaller than asked
  int threads = 0;        // 0: as the machine has
  std::function<void(int64_t merges, int64_t target)> progress;  // now and then; may be empty
};

class BpeTrainer {
 public:
  static absl::StatusOr<std::unique_ptr<BpeTrainer>> Create(BpeTrainerOptions options);
  ~BpeTrainer();

  // Adds one text; pieces never cross from one text to the next. The text is copied, and counted once enough
  // has gathered. Memory: what the distinct pieces need, about 16 bytes per byte of them in Train.
  absl::Status Add(std::string_view text);

  // Ids 0 to 255 are the bytes in the order of their alphabet (byte_alphabet.h), as in GPT-2. Call it once.
  absl::StatusOr<BpeDefinition> Train();

  int64_t distinct_pieces() const;  // after Train

 private:
  struct Impl;
  explicit BpeTrainer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_BPE_TRAINER_H_
