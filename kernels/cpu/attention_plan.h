// Which keys a query sees, and how packed rows are cut into tasks.
#ifndef TANREN_KERNELS_CPU_ATTENTION_PLAN_H_
#define TANREN_KERNELS_CPU_ATTENTION_PLAN_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/attention.h"

namespace tanren::kernels::attention {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
};

// Positions within one segment of `length` tokens.
struct Visibility {
  AttentionMask mask = AttentionMask::kCausal;
  int64_t window = 0;
  int64_t length = 0;

  // Keys that the query at `position` sees.
  Range KeysOf(int64_t position) const {
    Range keys{0, mask == AttentionMask::kCausal ? position + 1 : length};
    if (window > 0) {
      keys.begin = std::max<int64_t>(0, position - window + 1);
      keys.end = std::min(keys.end, position + window);
    }
    return keys;
  }
  // Queries that see any key of [begin, end).
  Range QueriesOf(int64_t begin, int64_t end) const {
    Range queries{mask == AttentionMask::kCausal ? begin : 0, length};
    if (window > 0) {
      queries.begin = std::max(queries.begin, begin - window + 1);
      queries.end = std::min(length, end - 1 + window);
    }
    return queries;
  }
};

// A part of one segment: positions [begin, end) of the segment that starts at token `start`.
struct Part {
  int64_t start = 0;
  int64_t length = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Cuts every segment for which keep(length) holds into parts of `tile` positions.
template <class Keep>
std::vector<Part> CutSegments(const AttentionShape& shape, int64_t tile, const Keep& keep) {
  std::vector<Part> parts;
  for (int64_t s = 0; s < shape.segments; ++s) {
    const int64_t start = shape.cu_seqlens[s], length = shape.cu_seqlens[s + 1] - start;
    if (length == 0 || !keep(length)) continue;
    for (int64_t begin = 0; begin < length; begin += tile) {
      parts.push_back({start, length, begin, std::min(length, begin + tile)});
    }
  }
  return parts;
}

}  // namespace tanren::kernels::attention

#endif  // TANREN_KERNELS_CPU_ATTENTION_PLAN_H_
