// Counts the distinct pieces of texts on several threads. Internal to BPE training.
#ifndef TANREN_CORE_TOKENIZER_PIECE_COUNTER_H_
#define TANREN_CORE_TOKENIZER_PIECE_COUNTER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "core/tokenizer/split_pattern.h"

namespace tanren {

class PieceCounter {
 public:
  // `pattern` is one of the published ones; it must outlive the counter.
  PieceCounter(const SplitPattern* pattern, int threads);

  absl::Status Add(std::string_view text);
  // The pieces in the order of their bytes, with how often each was seen. Leaves the counter empty.
  absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> Finish();

 private:
  using Counts = absl::flat_hash_map<std::string, int64_t>;

  absl::Status CountPending();

  const SplitPattern* pattern_;
  std::vector<std::string> pending_;
  size_t pending_bytes_ = 0;
  std::vector<Counts> counts_;         // per thread
  std::vector<SplitScratch> scratch_;  // per thread
};

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_PIECE_COUNTER_H_
