// What the heartbeats of a job's ranks say about it: pure functions of a table and a time.
#ifndef TANREN_PARALLEL_WATCHDOG_JUDGE_H_
#define TANREN_PARALLEL_WATCHDOG_JUDGE_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/activity/activity.h"
#include "parallel/watchdog/identity.h"

namespace tanren {

struct WatchLimits {
  double silence_seconds = 20;  // without a heartbeat: the process is stopped, or its host is gone
  double stall_seconds = 30;    // without progress, or step_factor times the longest recent step
  double step_factor = 5;
  // The same where no step tells what is normal: start, load, save, and until the first step has ended.
  double quiet_seconds = 600;
  double slow_factor = 1.5;  // compute time of a step, relative to the median rank; see slow_ranks.h
};

// One rank as its last heartbeat showed it. Times are seconds of one monotonic clock.
struct RankView {
  ProcessIdentity identity;
  ActivityRecord record;
  double heard = 0;       // when the last heartbeat came
  double progressed = 0;  // when its progress was last seen to change
  bool left = false;      // said goodbye: nothing is expected of it any more
  bool lost = false;      // its connection ended without a goodbye
};

// A heartbeat that has come at `now`.
void Hear(const ActivityRecord& record, double now, RankView& view);

// The judge itself did not run for `seconds` (a suspended machine, a stopped job): nobody is blamed for them.
void Forgive(double seconds, std::span<RankView> ranks);

struct WatchVerdict {
  enum class Kind {
    kLost,      // a process is gone
    kSilent,    // a process does not run
    kStuck,     // makes no progress, and waits for nobody
    kDiverged,  // wait for each other in different collectives
  };
  Kind kind = Kind::kStuck;
  std::vector<int> ranks = {};  // who is at fault; of a divergence, all that wait in the ring
  double seconds = 0;           // for how long
  double limit = 0;
};

// The seconds without progress that `view` may have. `longest_step` is that of all ranks; infinite while an
// external command runs, which has a limit of its own.
double StallLimit(const RankView& view, double longest_step, const WatchLimits& limits);

// Lost ranks, or else silent ones, or else nothing: all that can be said of a rank by looking at it alone.
std::optional<WatchVerdict> JudgeAlive(std::span<const RankView> ranks, const WatchLimits& limits,
                                       double now);

// The worst that can be said, or nothing.
//  - Lost and silent ranks come first: who waits for them is a victim.
//  - A rank without progress for its limit that is in no collective is stuck. Where collectives are
//    queued on a device a host may wait outside of one: if some of them entered fewer collectives of a group
//    than its other members, only those are named.
//  - Ranks without progress that all wait, directly or through others, for each other have diverged.
std::optional<WatchVerdict> Judge(std::span<const RankView> ranks, const WatchLimits& limits, double now);

// "rank 3 of 8 on node7 (pid 4711)"
std::string Who(int rank, std::span<const RankView> ranks);

// A line for people: who, why, where they were last seen, and who waits.
std::string Describe(const WatchVerdict& verdict, std::span<const RankView> ranks);

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_JUDGE_H_
