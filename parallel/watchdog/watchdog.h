// The watchdog of a job: names a rank that is gone, stopped, stuck or out of order, and ends the job.
//
// On a channel of its own: one thread a rank, which makes no MPI or NCCL call, sends rank 0 a heartbeat with
// what Activity says of its rank, over TCP; rank 0 answers, and judges (judge.h). So it notices what no
// communicator can, and a rank that computes for long is not taken for one that hangs. When rank 0 itself is
// silent or gone, the others say so and end the job. Costs and limits: docs/reliability.md.
#ifndef TANREN_PARALLEL_WATCHDOG_WATCHDOG_H_
#define TANREN_PARALLEL_WATCHDOG_WATCHDOG_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/activity/activity.h"
#include "core/comm/comm.h"
#include "parallel/watchdog/judge.h"

namespace tanren {

struct WatchdogOptions {
  bool enabled = true;
  WatchLimits limits;
  std::string interface;  // on which the other hosts reach rank 0; "": each of its addresses is tried
};

class Watchdog {
 public:
  // Collective over `world`, all ranks of the job. Returns null where there is nothing to watch: one rank, or
  // not enabled. An error, the same on every rank, when a rank cannot reach rank 0. On return all ranks are
  // being watched. One at a time in a process.
  static absl::StatusOr<std::unique_ptr<Watchdog>> Start(Comm& world, const WatchdogOptions& options);

  // Says goodbye: nothing is expected of this rank any more. Not collective, but ranks that stay longer than
  // rank 0 are no longer watched.
  virtual ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // On rank 0: the slow ranks found since the last call. From any thread.
  virtual std::vector<SlowRank> TakeSlowRanks() { return {}; }

  // This rank ends the job itself and says why: the watchdog of rank 0 need not.
  virtual void AnnounceEnd() = 0;

 protected:
  Watchdog() = default;
};

// AnnounceEnd of the watchdog of this process, if there is one. From the main thread.
void AnnounceEndToWatchdog();

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_WATCHDOG_H_
