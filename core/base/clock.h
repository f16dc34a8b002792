// The clock by which durations are measured.
#ifndef TANREN_CORE_BASE_CLOCK_H_
#define TANREN_CORE_BASE_CLOCK_H_

#include <chrono>

namespace tanren {

// Seconds since some moment before; never set back.
inline double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace tanren

#endif  // TANREN_CORE_BASE_CLOCK_H_
