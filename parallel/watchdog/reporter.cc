#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "parallel/runtime/runtime.h"
#include "parallel/watchdog/ending.h"
#include "parallel/watchdog/messages.h"
#include "parallel/watchdog/monitor.h"
#include "parallel/watchdog/watch_thread.h"

namespace tanren {
namespace {

// Rank 1 speaks for all when rank 0 fails. The others follow after this time, should it be gone as well; by
// then the launcher has usually ended them.
constexpr double kTurnSeconds = 3;

class Reporter final : public Watchdog {
 public:
  Reporter(const WatchLimits& limits, Channel channel, int rank, int size, const ProcessIdentity& rank_0)
      : limits_(limits), channel_(std::move(channel)), rank_(rank), views_(size) {
    // Of the other ranks nothing is known here.
    for (RankView& view : views_) view.left = true;
    views_[0].left = false;
    views_[0].identity = rank_0;
    views_[0].heard = SteadySeconds();
    thread_.Start(
        HeartbeatSeconds(limits_), [this] { return Sockets(); }, views_,
        [this](double now, bool stopping) { return Turn(now, stopping); });
  }

  ~Reporter() override { thread_.Stop(); }

  void AnnounceEnd() override { Send(Beat::kGoodbye); }

 private:
  std::vector<pollfd> Sockets() const { return {{channel_.descriptor(), POLLIN, 0}}; }

  bool Send(Beat::Kind kind) {
    Beat beat{.kind = kind};
    beat.record = Activity::Own().Read();
    return channel_.Send(&beat, sizeof(beat));
  }

  // False when this rank is no longer watched.
  bool Turn(double now, bool stopping) {
    if (stopping) {
      Send(Beat::kGoodbye);
      return false;
    }
    bool alive = channel_.Fill();
    Order order;
    while (channel_.Take(&order)) {
      if (order.kind == Order::kGoodbye) return false;
      if (order.kind == Order::kEnd) {
        EndByWatchdog({order.culprit.data(), std::min<size_t>(order.culprits, order.culprit.size())});
      }
      Hear(order.record, now, views_[0]);
    }
    if (alive && now >= next_beat_) {
      next_beat_ = now + HeartbeatSeconds(limits_);
      alive = Send(Beat::kBeat);
    }
    views_[0].lost = !alive;
    const double patience = rank_ == 1 ? 0 : kTurnSeconds;
    if (!alive) Sleep(std::max(patience, kLossSettleSeconds));
    if (const std::optional<WatchVerdict> verdict = JudgeAlive(views_, limits_, now - patience)) {
      WatchdogSays(absl::StrCat(Describe(*verdict, views_), "; rank ", rank_, " ends the job with exit code ",
                                kExitWatchdog));
      if (!alive) Sleep(kLossGraceSeconds);
      EndByWatchdog({&views_[0].identity, 1});
    }
    return true;
  }

  static void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

  WatchLimits limits_;
  Channel channel_;
  int rank_;
  std::vector<RankView> views_;
  double next_beat_ = 0;
  WatchThread thread_;
};

}  // namespace

std::unique_ptr<Watchdog> MakeReporter(const WatchLimits& limits, Channel channel, int rank, int size,
                                       const ProcessIdentity& rank_0) {
  return std::make_unique<Reporter>(limits, std::move(channel), rank, size, rank_0);
}

}  // namespace tanren
