#include "parallel/watchdog/ending.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "parallel/runtime/launch_check.h"
#include "parallel/runtime/runtime.h"

namespace tanren {

void WatchdogSays(const std::string& text) {
  const std::string line = absl::StrCat("watchdog: ", text, "\n");
  // Not through stdio: the stuck thread may hold its lock.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

void EndByWatchdog(std::span<const ProcessIdentity> culprits) {
  if (!LaunchEnvironment::Read().under_mpirun) {
    for (const ProcessIdentity& culprit : culprits) KillIfHere(culprit);
  }
  if (ftrylockfile(stdout) == 0) fflush_unlocked(stdout);
  _exit(kExitWatchdog);
}

}  // namespace tanren
