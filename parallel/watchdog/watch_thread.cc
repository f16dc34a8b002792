#include "parallel/watchdog/watch_thread.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "parallel/comm/wait.h"

namespace tanren {

double HeartbeatSeconds(const WatchLimits& limits) {
  return std::clamp(limits.silence_seconds / 20, 0.01, 1.0);
}

WatchThread::WatchThread() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  TANREN_CHECK_MSG(wake_.get() >= 0, "no eventfd for the watchdog");
}

void WatchThread::Start(double heartbeat, std::function<std::vector<pollfd>()> sockets,
                        std::span<RankView> views, std::function<bool(double, bool)> turn) {
  thread_ = std::thread([this, heartbeat, sockets = std::move(sockets), views, turn = std::move(turn)] {
    pthread_setname_np(pthread_self(), "watchdog");
    Run(heartbeat, sockets, views, turn);
  });
}

void WatchThread::Run(double heartbeat, const std::function<std::vector<pollfd>()>& sockets,
                      std::span<RankView> views, const std::function<bool(double, bool)>& turn) {
  double last = SteadySeconds();
  double next = last;
  while (true) {
    std::vector<pollfd> entries = sockets();
    entries.push_back({wake_.get(), POLLIN, 0});
    const double rest = std::max(next - SteadySeconds(), 0.0);
    poll(entries.data(), entries.size(), static_cast<int>(std::ceil(1000 * rest)));
    // mpirun was killed: the kernel ends this process too, unless something took that away.
    if (ParentIsGone()) _exit(1);
    const double now = SteadySeconds();
    const double slept = now - last - heartbeat;
    if (slept > 2 * heartbeat) Forgive(slept, views);
    last = now;
    if (now >= next) next = now + heartbeat;
    const bool stopping = stop_.load(std::memory_order_acquire);
    if (!turn(now, stopping) || stopping) return;
  }
}

void WatchThread::Stop() {
  stop_.store(true, std::memory_order_release);
  eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

}  // namespace tanren
