#include "parallel/comm/wait.h"

#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace tanren {
namespace {

pid_t first_parent = 0;

void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

double SecondsFromEnvironment(const char* name, double fallback) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return fallback;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !(seconds >= 0)) {
    std::fprintf(stderr, "%s=%s is not a number of seconds; using %g\n", name, text, fallback);
    return fallback;
  }
  return seconds;
}

}  // namespace

void DieWithParent() {
  if (first_parent != 0) return;
  first_parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died between the two calls; then no signal will ever come.
  if (ParentIsGone()) _exit(1);
}

bool ParentIsGone() { return first_parent != 0 && getppid() != first_parent; }

WaitLimits WaitLimits::FromEnvironment() {
  WaitLimits limits;
  limits.report_seconds = SecondsFromEnvironment("TANREN_COMM_STALL_SECONDS", limits.report_seconds);
  limits.timeout_seconds = SecondsFromEnvironment("TANREN_COMM_TIMEOUT_SECONDS", limits.timeout_seconds);
  return limits;
}

Wait::Advice Wait::Next() {
  // A pause is some 10 to 40 ns, so the spin lasts 3 to 12 us. Not longer: even where cores suffice, two
  // ranks may find themselves on one core, and then each spins in the other's time.
  const uint32_t spins = crowded_ ? 16 : 300;
  const uint32_t yields = spins + (crowded_ ? 64 : 400);
  ++polls_;
  if (polls_ <= spins) {
    CpuRelax();
    return Advice::kPoll;
  }
  if (polls_ <= yields) {
    if (polls_ == spins + 1) clock_gettime(CLOCK_MONOTONIC, &begin_);
    sched_yield();
    return Advice::kPoll;
  }
  if (ParentIsGone()) _exit(1);
  const double seconds = seconds_waited();
  if (!reported_ && seconds >= limits_.report_seconds) {
    reported_ = true;
    return Advice::kReport;
  }
  if (limits_.timeout_seconds > 0 && seconds >= limits_.timeout_seconds) return Advice::kTimeOut;
  return Advice::kNap;
}

double Wait::seconds_waited() const {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec - begin_.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec - begin_.tv_nsec);
}

}  // namespace tanren
