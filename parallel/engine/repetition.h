// Which tokens of a growing sequence are discouraged at its next place.
#ifndef TANREN_PARALLEL_ENGINE_REPETITION_H_
#define TANREN_PARALLEL_ENGINE_REPETITION_H_

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "core/engine/engine.h"
#include "kernels/sampling.h"

namespace tanren {

class RepetitionTracker {
 public:
  // Begins with the request's prompt. Does nothing where the request's repetition options are off.
  RepetitionTracker(const GenerationRequest& request, int64_t vocab_size);

  // The sequence has grown by `token`.
  void Add(int32_t token);

  // Writes the penalties of the next token, each of `row`, in order of the tokens' first occurrence, and
  // returns how many: at most as many as there are different tokens in the sequence. Looks through the whole
  // sequence where no_repeat_ngram is on.
  int64_t Write(int32_t row, kernels::TokenPenalty* penalties) const;

 private:
  std::unordered_set<int32_t> Banned() const;

  RepetitionOptions options_;
  int64_t vocab_size_ = 0;
  std::unordered_set<int32_t> ends_;     // tokens that end the answer by themselves
  std::unordered_set<int32_t> present_;  // in the sequence, without ends_
  std::vector<int32_t> distinct_;        // present_ in order of first occurrence
  std::vector<int32_t> tokens_;          // the sequence
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_ENGINE_REPETITION_H_
