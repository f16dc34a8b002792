#include "parallel/runtime/stop_signal.h"

#include <signal.h>

#include <atomic>

namespace tanren {
namespace {

constexpr int kFromProgram = -1;
std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free);

void OnSignal(int signal_number) { received.store(signal_number, std::memory_order_relaxed); }

void Handle(int signal_number, int flags) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART | flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

}  // namespace

void StopSignal::Install(bool with_term_and_int) {
  Handle(SIGUSR1, 0);
  if (!with_term_and_int) return;
  Handle(SIGTERM, 0);
  Handle(SIGINT, SA_RESETHAND);
}

bool StopSignal::Requested() { return received.load(std::memory_order_relaxed) != 0; }

const char* StopSignal::Name() {
  switch (received.load(std::memory_order_relaxed)) {
    case 0:
      return "";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "the program's own request";
  }
}

void StopSignal::Request() { received.store(kFromProgram, std::memory_order_relaxed); }

void StopSignal::Clear() { received.store(0, std::memory_order_relaxed); }

}  // namespace tanren
