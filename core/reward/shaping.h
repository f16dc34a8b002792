// What is added to or taken from a reward for the form of an answer.
#ifndef TANREN_CORE_REWARD_SHAPING_H_
#define TANREN_CORE_REWARD_SHAPING_H_

#include <cstdint>
#include <span>

namespace tanren {

// DAPO's soft over-length penalty (Yu et al. 2025, eq. 13): 0 up to max_tokens - buffer_tokens, then falling
// linearly to -1 at max_tokens and beyond.
double OverlongPenalty(int64_t tokens, int64_t max_tokens, int64_t buffer_tokens);

// Share of the n-grams of an answer that occurred before in it, 0 (none) to 1; 0 when it is shorter than n
// + 1.
double RepetitionShare(std::span<const int32_t> tokens, int n);

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_SHAPING_H_
