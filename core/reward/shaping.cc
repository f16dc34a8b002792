#include "core/reward/shaping.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace tanren {

double OverlongPenalty(int64_t tokens, int64_t max_tokens, int64_t buffer_tokens) {
  if (tokens >= max_tokens) return buffer_tokens > 0 || tokens > max_tokens ? -1 : 0;
  const int64_t free_tokens = max_tokens - buffer_tokens;
  if (tokens <= free_tokens) return 0;
  return -static_cast<double>(tokens - free_tokens) / static_cast<double>(buffer_tokens);
}

double RepetitionShare(std::span<const int32_t> tokens, int n) {
  if (n < 1 || tokens.size() < static_cast<size_t>(n) + 1) return 0;
  std::vector<size_t> begins(tokens.size() - n + 1);
  std::iota(begins.begin(), begins.end(), size_t{0});
  const auto gram = [&](size_t begin) { return tokens.subspan(begin, n); };
  std::sort(begins.begin(), begins.end(), [&](size_t a, size_t b) {
    return std::lexicographical_compare(gram(a).begin(), gram(a).end(), gram(b).begin(), gram(b).end());
  });
  size_t repeated = 0;
  for (size_t i = 1; i < begins.size(); ++i) {
    if (std::equal(gram(begins[i]).begin(), gram(begins[i]).end(), gram(begins[i - 1]).begin())) ++repeated;
  }
  return static_cast<double>(repeated) / static_cast<double>(begins.size());
}

}  // namespace tanren
