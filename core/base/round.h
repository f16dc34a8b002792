#ifndef TANREN_CORE_BASE_ROUND_H_
#define TANREN_CORE_BASE_ROUND_H_

#include <cstdint>

namespace tanren {

// The least multiple of `multiple`, above 0, that is not below `value`, at least 0.
constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace tanren

#endif  // TANREN_CORE_BASE_ROUND_H_
