// Ranks whose own work takes persistently longer than their peers'. They are reported, never ended.
#ifndef TANREN_PARALLEL_WATCHDOG_SLOW_RANKS_H_
#define TANREN_PARALLEL_WATCHDOG_SLOW_RANKS_H_

#include <span>
#include <vector>

#include "core/activity/activity.h"
#include "parallel/watchdog/judge.h"

namespace tanren {

// Compares the time that ranks spend in a step outside of collectives, so that whoever waits for a slow one
// does not look slow too. A window is at least 5 steps of every rank and 5 s; a rank above `slow_factor`
// times the median (of an even number, the lower middle) in two windows in a row is slow. It is reported
// then, and again after ten minutes if it still is.
class SlowRanks {
 public:
  explicit SlowRanks(double slow_factor) : factor_(slow_factor) {}

  // To be called every now and then; returns what is to be reported now. `now` in seconds.
  std::vector<SlowRank> Update(std::span<const RankView> ranks, double now);

 private:
  struct Mark {
    int64_t steps = 0;
    double seconds = 0;
  };
  struct History {
    int slow_windows = 0;  // in a row
    bool reported = false;
    double report_time = 0;
  };

  double factor_;
  double window_begin_ = -1;
  std::vector<Mark> begin_;
  std::vector<History> history_;
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_SLOW_RANKS_H_
