// Which process a rank is, so that it can be named, looked at, and ended from outside.
#ifndef TANREN_PARALLEL_WATCHDOG_IDENTITY_H_
#define TANREN_PARALLEL_WATCHDOG_IDENTITY_H_

#include <cstdint>
#include <string>

namespace tanren {

// Plain bytes: it travels between ranks.
struct ProcessIdentity {
  char host[64] = {};
  char boot[40] = {};  // of the running kernel and PID namespace: equal where process ids mean the same
  int32_t pid = 0;
  int32_t unused = 0;
  uint64_t started = 0;  // in clock ticks since boot: tells a process from a later one with its number

  static ProcessIdentity Own();
  // Of a process of this machine and PID namespace.
  static ProcessIdentity Of(int32_t pid);
};

// Why a process of this machine does not run, "the process is stopped (by SIGSTOP, ...)"; "" where it runs,
// is gone, or is on another machine.
std::string WhyNotRunning(const ProcessIdentity& process);

// SIGKILL, if that very process runs on this machine.
void KillIfHere(const ProcessIdentity& process);

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_IDENTITY_H_
