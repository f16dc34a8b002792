// A ranking as people write it: "B > A = C", letters for the answers in order.
#ifndef TANREN_CORE_EXAMPLES_RANKING_TEXT_H_
#define TANREN_CORE_EXAMPLES_RANKING_TEXT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

// As many answers as there are letters.
inline constexpr size_t kMostRankedByLetter = 26;

// Ranks of the answers A, B, ..: 1 the best, equal for ties, without gaps. Spaces do not matter.
// InvalidArgument, beginning with "no permutation: ", unless every one of the `answers` letters stands in the
// text once, with > or = between two of them. 1 <= answers <= kMostRankedByLetter.
absl::StatusOr<std::vector<int32_t>> ParseRankingText(std::string_view text, size_t answers);

// The text of ranks, best first, ties in the order of their letters: {2, 1, 2} is "B > A = C".
std::string RankingText(std::span<const int32_t> ranks);

}  // namespace tanren

#endif  // TANREN_CORE_EXAMPLES_RANKING_TEXT_H_
