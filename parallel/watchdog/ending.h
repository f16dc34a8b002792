// How a watchdog's thread speaks and how it ends its process, without MPI, whose calls belong to another
// thread.
#ifndef TANREN_PARALLEL_WATCHDOG_ENDING_H_
#define TANREN_PARALLEL_WATCHDOG_ENDING_H_

#include <span>
#include <string>

#include "parallel/watchdog/identity.h"

namespace tanren {

// mpirun notices the end of a process by itself in about two seconds, and returns the code with which that
// process ended, which says more than the watchdog's.
inline constexpr double kLossGraceSeconds = 3;

// A launcher that ends a job ends its ranks one after the other. A rank that sees another gone waits so long
// before it speaks of it, for it may be the next.
inline constexpr double kLossSettleSeconds = 0.25;

// "watchdog: <text>" on stderr, in one write.
void WatchdogSays(const std::string& text);

// Ends this process with kExitWatchdog; no destructors run. mpirun then ends all others, stopped ones too,
// and returns that code. Other launchers may not, so there the culprits are killed first if they are on this
// machine.
[[noreturn]] void EndByWatchdog(std::span<const ProcessIdentity> culprits);

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_ENDING_H_
