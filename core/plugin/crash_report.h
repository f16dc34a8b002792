// A crash in foreign code that is being loaded: said by name, instead of a bare signal.
#ifndef TANREN_CORE_PLUGIN_CRASH_REPORT_H_
#define TANREN_CORE_PLUGIN_CRASH_REPORT_H_

#include <signal.h>

#include <string>

namespace tanren {

// While one of these lives, a signal that means a crash (also abort) writes "error: <what> crashed (signal
// N)" to stderr and ends the process with exit code 2, which ends the other ranks of the job too. One at a
// time; the former handlers come back with its end.
class CrashReport {
 public:
  explicit CrashReport(const std::string& what);
  ~CrashReport();
  CrashReport(const CrashReport&) = delete;
  CrashReport& operator=(const CrashReport&) = delete;

 private:
  static constexpr int kSignals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
  struct sigaction former_[std::size(kSignals)];
};

}  // namespace tanren

#endif  // TANREN_CORE_PLUGIN_CRASH_REPORT_H_
