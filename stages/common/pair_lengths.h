// Lengths of better and worse answers, said before the first step: where sides were swapped, or length alone
// decides, it shows there.
#ifndef TANREN_STAGES_COMMON_PAIR_LENGTHS_H_
#define TANREN_STAGES_COMMON_PAIR_LENGTHS_H_

#include <string>
#include <vector>

#include "stages/common/unit_source.h"

namespace tanren {

// A line over all pairs of differently ranked answers, by the segment column "rank"; units without it are
// pairs, the better answer first. Units with the segment column "label" (1 good, 0 bad) are single answers,
// of which the mean lengths are given. "" where there is nothing to compare.
std::string PairLengths(const std::vector<UnitSet>& sets);

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_PAIR_LENGTHS_H_
