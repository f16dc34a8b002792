// One answer in several wordings: sentences that state the result of a calculation.
#ifndef TANREN_CORE_CORPUS_SYNTH_WORDINGS_H_
#define TANREN_CORE_CORPUS_SYNTH_WORDINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/corpus/synth_problems.h"

namespace tanren {

// Of each operation. No sentence of one pattern is part of a sentence of another.
inline constexpr int kSentencePatterns = 8;

// Which patterns training may use: all but `held_out` (0 to kSentencePatterns - 1) of each operation, which
// the seed chooses.
class Wordings {
 public:
  Wordings(uint64_t seed, int held_out);

  // "7 plus 5 makes 12.", "12 is what 7 and 5 add up to.", ...: all true, each of another pattern. Only for
  // problems of one operation.
  std::vector<std::string> Seen(const Problem& problem) const;
  std::vector<std::string> Unseen(const Problem& problem) const;

  // The sentences of Seen, then of Unseen, each with one digit of the result changed: all false.
  std::vector<std::string> Wrong(const Problem& problem, RandomStream* random) const;

 private:
  std::vector<int> seen_[3];  // by operation: indices of patterns
  std::vector<int> unseen_[3];
};

// "Say in a sentence: 7 + 5 = ?"
std::string SentencePrompt(const Problem& problem);

// Another number of as many digits, one of them changed; none that begins with a 0, unless it is 0.
std::string ChangeDigit(int64_t number, RandomStream* random);

// In a random order.
void Shuffle(std::vector<std::string>* sentences, RandomStream* random);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_WORDINGS_H_
