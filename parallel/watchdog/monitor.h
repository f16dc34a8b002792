// The watchdog of rank 0: hears all ranks, answers, judges, and ends the job.
#ifndef TANREN_PARALLEL_WATCHDOG_MONITOR_H_
#define TANREN_PARALLEL_WATCHDOG_MONITOR_H_

#include <memory>
#include <vector>

#include "parallel/watchdog/network.h"
#include "parallel/watchdog/watchdog.h"

namespace tanren {

// `channels` receive Beats, by rank; that of rank 0 is not open. `identities` of all ranks. The thread runs
// on return.
std::unique_ptr<Watchdog> MakeMonitor(const WatchLimits& limits, std::vector<Channel> channels,
                                      const std::vector<ProcessIdentity>& identities);

// The watchdog of rank `rank` > 0 of `size`: its channel to rank 0 receives Orders.
std::unique_ptr<Watchdog> MakeReporter(const WatchLimits& limits, Channel channel, int rank, int size,
                                       const ProcessIdentity& rank_0);

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_MONITOR_H_
