// The thread of a watchdog: beats in time, wakes for what arrives, and ends when it is told to.
#ifndef TANREN_PARALLEL_WATCHDOG_WATCH_THREAD_H_
#define TANREN_PARALLEL_WATCHDOG_WATCH_THREAD_H_

#include <poll.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "core/checkpoint/file_system.h"
#include "parallel/watchdog/judge.h"

namespace tanren {

// Twenty in the time after which silence means something, and one a second at least.
double HeartbeatSeconds(const WatchLimits& limits);

class WatchThread {
 public:
  WatchThread();
  ~WatchThread() { Stop(); }
  WatchThread(const WatchThread&) = delete;
  WatchThread& operator=(const WatchThread&) = delete;

  // Calls `turn` again and again until it returns false: at least once a `heartbeat`, in seconds, and
  // whenever one of the `sockets` is readable. `views` are forgiven what the process itself has slept.
  // `stopping` is said once, in the last turn.
  void Start(double heartbeat, std::function<std::vector<pollfd>()> sockets, std::span<RankView> views,
             std::function<bool(double now, bool stopping)> turn);
  // Returns when the thread has ended.
  void Stop();

 private:
  void Run(double heartbeat, const std::function<std::vector<pollfd>()>& sockets, std::span<RankView> views,
           const std::function<bool(double, bool)>& turn);

  Descriptor wake_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_WATCH_THREAD_H_
