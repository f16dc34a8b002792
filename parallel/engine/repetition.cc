#include "parallel/engine/repetition.h"

#include <algorithm>
#include <limits>

namespace tanren {

RepetitionTracker::RepetitionTracker(const GenerationRequest& request, int64_t vocab_size)
    : options_(request.repetition), vocab_size_(vocab_size) {
  for (const std::vector<int32_t>& stop : request.stop) {
    if (stop.size() == 1) ends_.insert(stop[0]);
  }
  for (const int32_t token : request.prompt) Add(token);
}

void RepetitionTracker::Add(int32_t token) {
  if (!options_.on()) return;
  tokens_.push_back(token);
  if (!ends_.contains(token) && present_.insert(token).second) distinct_.push_back(token);
}

// The tokens that followed earlier occurrences of the last n - 1 tokens.
std::unordered_set<int32_t> RepetitionTracker::Banned() const {
  std::unordered_set<int32_t> banned;
  const int64_t size = static_cast<int64_t>(tokens_.size());
  const int64_t before = int64_t{options_.no_repeat_ngram} - 1;
  if (before < 0 || size < before) return banned;
  const auto last = tokens_.end() - before;
  for (int64_t next = before; next < size; ++next) {
    const auto first = tokens_.begin() + (next - before);
    if (std::equal(last, tokens_.end(), first) && !ends_.contains(tokens_[next]))
      banned.insert(tokens_[next]);
  }
  if (static_cast<int64_t>(banned.size()) == vocab_size_) banned.clear();
  return banned;
}

int64_t RepetitionTracker::Write(int32_t row, kernels::TokenPenalty* penalties) const {
  if (!options_.on()) return 0;
  const std::unordered_set<int32_t> banned = Banned();
  int64_t count = 0;
  for (const int32_t token : distinct_) {
    if (banned.contains(token)) {
      penalties[count++] = {row, token, std::numeric_limits<float>::infinity()};
    } else if (options_.penalty != 1) {
      penalties[count++] = {row, token, options_.penalty};
    }
  }
  return count;
}

}  // namespace tanren
