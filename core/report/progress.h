// How far a long piece of work is: a bar on a terminal, plain lines now and then in a log file.
//
//   tokenize   42.0% |#####.......| 1.05 GiB / 2.50 GiB  35.1 MiB/s  eta 0:00:43
#ifndef TANREN_CORE_REPORT_PROGRESS_H_
#define TANREN_CORE_REPORT_PROGRESS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "core/report/console.h"

namespace tanren {

struct ProgressOptions {
  enum class Unit { kItems, kBytes };

  std::string label;  // trusted text, "tokenize"
  int64_t total = 0;  // 0: unknown; then there is no share and no ETA
  Unit unit = Unit::kItems;
  std::string item = "";  // "steps", "documents"; shown behind counts
  double bar_interval_seconds = 0.1;
  double line_interval_seconds = 10;    // short work prints nothing but its last line
  std::function<double()> now_seconds;  // a monotonic clock; empty: the system's
};

// Thread-safe. Advance costs an atomic addition while nothing is due to be shown.
class Progress {
 public:
  // `console` outlives the progress.
  Progress(Console* console, ProgressOptions options);
  // Takes the bar away; without Finish nothing else is said, since the work ended early.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(int64_t amount) { MoveTo(done_.fetch_add(amount, std::memory_order_relaxed) + amount); }
  void Set(int64_t done) {
    done_.store(done, std::memory_order_relaxed);
    MoveTo(done);
  }

  // The work is complete: one plain line with the amount done, the time and the mean rate.
  void Finish();

 private:
  void MoveTo(int64_t done);
  void Show(int64_t done, double now);
  std::string Amount(double amount) const;
  std::string Line(int64_t done, double now) const;

  Console* console_;
  ProgressOptions options_;
  double started_ = 0;
  std::atomic<int64_t> done_{0};
  std::atomic<double> next_due_;
  std::mutex mutex_;
  // The rate is that of the last quarter minute or so, so that a slow start is forgotten.
  double rate_ = 0, rate_time_ = 0;
  int64_t rate_done_ = 0;
  bool finished_ = false;
};

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_PROGRESS_H_
