#include "parallel/watchdog/monitor.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "parallel/runtime/runtime.h"
#include "parallel/watchdog/ending.h"
#include "parallel/watchdog/messages.h"
#include "parallel/watchdog/slow_ranks.h"
#include "parallel/watchdog/watch_thread.h"

namespace tanren {
namespace {

class Monitor final : public Watchdog {
 public:
  Monitor(const WatchLimits& limits, std::vector<Channel> channels,
          const std::vector<ProcessIdentity>& identities)
      : limits_(limits), channels_(std::move(channels)), slow_ranks_(limits.slow_factor) {
    const double now = SteadySeconds();
    for (const ProcessIdentity& identity : identities) {
      RankView view;
      view.identity = identity;
      view.heard = view.progressed = now;
      views_.push_back(view);
    }
    thread_.Start(
        HeartbeatSeconds(limits_), [this] { return Sockets(); }, views_,
        [this](double t, bool stopping) { return Turn(t, stopping); });
  }

  ~Monitor() override { thread_.Stop(); }

  std::vector<SlowRank> TakeSlowRanks() override {
    const std::lock_guard lock(mutex_);
    return std::exchange(found_slow_, {});
  }

  // From the main thread, beside the watchdog's: sends only.
  void AnnounceEnd() override { Tell(Order{.kind = Order::kGoodbye}); }

 private:
  std::vector<pollfd> Sockets() const {
    std::vector<pollfd> entries;
    for (const Channel& channel : channels_) {
      if (channel.open()) entries.push_back({channel.descriptor(), POLLIN, 0});
    }
    return entries;
  }

  bool Turn(double now, bool stopping) {
    if (stopping) {
      Tell(Order{.kind = Order::kGoodbye});
      return false;
    }
    Hear(Activity::Own().Read(), now, views_[0]);
    for (size_t rank = 1; rank < channels_.size(); ++rank) Listen(rank, now);
    if (loss_time_ > 0) {
      // What is known is said: only how it ends is open.
      if (now - loss_time_ >= kLossGraceSeconds) End(lost_);
      return true;
    }
    const bool judge = now >= next_judgement_ || std::ranges::any_of(views_, &RankView::lost);
    if (!judge) return true;
    next_judgement_ = now + HeartbeatSeconds(limits_);
    if (const std::optional<WatchVerdict> verdict = Judge(views_, limits_, now)) Act(*verdict, now);
    std::vector<SlowRank> slow = slow_ranks_.Update(views_, now);
    if (slow.empty()) return true;
    const std::lock_guard lock(mutex_);
    std::ranges::move(slow, std::back_inserter(found_slow_));
    return true;
  }

  void Listen(size_t rank, double now) {
    Channel& channel = channels_[rank];
    if (!channel.open()) return;
    const bool more = channel.Fill();
    Beat beat;
    bool heard = false;
    while (channel.Take(&beat)) {
      if (beat.kind == Beat::kGoodbye) views_[rank].left = true;
      if (beat.kind != Beat::kBeat) continue;
      Hear(beat.record, now, views_[rank]);
      heard = true;
    }
    if (!more && !views_[rank].left) views_[rank].lost = true;
    if (!more || views_[rank].left) {
      const std::lock_guard lock(mutex_);
      return channel.Close();
    }
    if (!heard) return;
    Order answer;
    answer.record = views_[0].record;
    channel.Send(&answer, sizeof(answer));
  }

  void Act(const WatchVerdict& verdict, double now) {
    const bool lost = verdict.kind == WatchVerdict::Kind::kLost;
    if (lost) std::this_thread::sleep_for(std::chrono::duration<double>(kLossSettleSeconds));
    WatchdogSays(absl::StrCat(Describe(verdict, views_), "; the job ends with exit code ", kExitWatchdog,
                              lost ? " or that rank's" : ""));
    if (!lost) End(verdict.ranks);
    lost_ = verdict.ranks;
    loss_time_ = now;
  }

  [[noreturn]] void End(const std::vector<int>& ranks) {
    Order order{.kind = Order::kEnd};
    for (const int rank : ranks) {
      if (order.culprits == order.culprit.size()) break;
      order.culprit[order.culprits++] = views_[rank].identity;
    }
    Tell(order);
    EndByWatchdog({order.culprit.data(), order.culprits});
  }

  void Tell(const Order& order) {
    const std::lock_guard lock(mutex_);
    for (Channel& channel : channels_) {
      if (channel.open()) channel.Send(&order, sizeof(order));
    }
  }

  WatchLimits limits_;
  std::vector<Channel> channels_;
  std::vector<RankView> views_;
  double next_judgement_ = 0;
  double loss_time_ = 0;
  std::vector<int> lost_;
  SlowRanks slow_ranks_;
  std::mutex mutex_;  // of what the main thread may touch: found_slow_, the channels' ends
  std::vector<SlowRank> found_slow_;
  WatchThread thread_;
};

}  // namespace

std::unique_ptr<Watchdog> MakeMonitor(const WatchLimits& limits, std::vector<Channel> channels,
                                      const std::vector<ProcessIdentity>& identities) {
  return std::make_unique<Monitor>(limits, std::move(channels), identities);
}

}  // namespace tanren
