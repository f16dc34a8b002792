// How a rank waits for another one: at once where cores are free, politely where ranks outnumber cores, and
// never for ever.
//
// Ranks that share a core make no progress while one of them spins, so waiting goes in three stages: a short
// spin, a number of sched_yield, then naps (a futex or a sleep, the caller's choice). Long waits are reported
// once, end the process when the limit is passed, and end it at once when the process that started the ranks
// has died (mpirun killed with -9 must not leave ranks behind).
#ifndef TANREN_PARALLEL_COMM_WAIT_H_
#define TANREN_PARALLEL_COMM_WAIT_H_

#include <cstdint>
#include <ctime>

namespace tanren {

// Sets PR_SET_PDEATHSIG for this process and remembers its parent; idempotent. A process whose parent dies
// later is killed by the kernel.
void DieWithParent();

// True when the parent of DieWithParent's time is gone.
bool ParentIsGone();

struct WaitLimits {
  // Seconds after which a wait is reported (TANREN_COMM_STALL_SECONDS, default 30).
  double report_seconds = 30;
  // Seconds after which the job is ended; 0 is never (TANREN_COMM_TIMEOUT_SECONDS, default 1800).
  double timeout_seconds = 1800;

  static WaitLimits FromEnvironment();
};

class Wait {
 public:
  enum class Advice { kPoll, kNap, kReport, kTimeOut };
  static constexpr int64_t kNapNanoseconds = 100'000'000;

  // `crowded`: the ranks of this node outnumber its cores.
  Wait(const WaitLimits& limits, bool crowded) : limits_(limits), crowded_(crowded) {}

  // Called after each poll that found nothing; spends the time itself, except on kNap, where the caller
  // blocks for at most kNapNanoseconds. kReport is returned once.
  Advice Next();

  double seconds_waited() const;

 private:
  WaitLimits limits_;
  bool crowded_;
  bool reported_ = false;
  uint32_t polls_ = 0;
  timespec begin_{};
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_WAIT_H_
