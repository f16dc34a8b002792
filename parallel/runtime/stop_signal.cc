// One thread waits for the signals and every other thread blocks them, so no handler ever runs on a thread
// that computes. That is not a matter of taste: oneDNN before 3.11.2 points the stack pointer into a heap
// block inside its classical gemm (oneDNN issue 4845), and the frame of a signal that arrives there
// overwrites what lies below that block. SIGPIPE is the exception: the kernel sends it to the thread that
// wrote, in the midst of the write, so its handler runs where nothing computes.
#include "parallel/runtime/stop_signal.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <initializer_list>
#include <thread>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int kFromProgram = -1;
std::atomic<int> received{0};
std::atomic<bool> interrupted{false};  // by SIGINT
static_assert(std::atomic<int>::is_always_lock_free);

// Of a thread that was started before Install and does not block the signals, and of SIGPIPE.
void OnSignal(int signal_number) { received.store(signal_number, std::memory_order_relaxed); }

void Handle(int signal_number) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

sigset_t SetOf(std::initializer_list<int> numbers) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : numbers) sigaddset(&set, number);
  return set;
}

[[noreturn]] void EndBy(int signal_number) {
  signal(signal_number, SIG_DFL);
  const sigset_t set = SetOf({signal_number});
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal_number);
  _exit(128 + signal_number);
}

void WaitForSignals(sigset_t set) {
  while (true) {
    int number = 0;
    if (sigwait(&set, &number) != 0) continue;
    if (number == SIGINT && interrupted.exchange(true)) EndBy(SIGINT);
    received.store(number, std::memory_order_relaxed);
  }
}

}  // namespace

void StopSignal::Install(bool with_term_and_int) {
  static bool installed = false;
  TANREN_CHECK_MSG(!installed, "StopSignal::Install is called once");
  installed = true;
  const sigset_t set = with_term_and_int ? SetOf({SIGUSR1, SIGTERM, SIGINT}) : SetOf({SIGUSR1});
  // Blocked first: a signal that arrives in between waits for the thread. A signal that the parent left
  // ignored would not even be delivered to sigwait.
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) {
    if (sigismember(&set, number) != 0) Handle(number);
  }
  std::thread(WaitForSignals, set).detach();
}

void StopSignal::StopOnBrokenPipe() { Handle(SIGPIPE); }

bool StopSignal::Requested() { return received.load(std::memory_order_relaxed) != 0; }

int StopSignal::Number() { return received.load(std::memory_order_relaxed); }

const char* StopSignal::Name() {
  switch (Number()) {
    case 0:
      return "";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGPIPE:
      return "SIGPIPE (nobody reads the output any more)";
    default:
      return "the program's own request";
  }
}

void StopSignal::Request() { received.store(kFromProgram, std::memory_order_relaxed); }

void StopSignal::Clear() {
  received.store(0, std::memory_order_relaxed);
  interrupted.store(false);
}

}  // namespace tanren
