#include "core/report/progress.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/clock.h"
#include "core/report/units.h"

namespace tanren {
namespace {

constexpr int kBarCharacters = 12;
constexpr double kRateMemorySeconds = 15;

}  // namespace

Progress::Progress(Console* console, ProgressOptions options)
    : console_(console), options_(std::move(options)) {
  if (!options_.now_seconds) options_.now_seconds = SteadySeconds;
  started_ = rate_time_ = options_.now_seconds();
  next_due_ =
      started_ + (console_->is_terminal() ? options_.bar_interval_seconds : options_.line_interval_seconds);
}

Progress::~Progress() {
  if (!finished_) console_->ClearBar();
}

void Progress::MoveTo(int64_t done) {
  const double now = options_.now_seconds();
  if (now < next_due_.load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  // Another thread is showing it, or has just done so.
  if (!lock.owns_lock() || finished_ || now < next_due_.load(std::memory_order_relaxed)) return;
  Show(done, now);
}

void Progress::Show(int64_t done, double now) {
  const double elapsed = now - rate_time_;
  if (elapsed > 0) {
    const double recent = static_cast<double>(done - rate_done_) / elapsed;
    const double weight = rate_time_ == started_ ? 1 : 1 - std::exp(-elapsed / kRateMemorySeconds);
    rate_ += weight * (recent - rate_);
    rate_time_ = now;
    rate_done_ = done;
  }
  if (console_->is_terminal()) {
    console_->DrawBar(Line(done, now));
    next_due_ = now + options_.bar_interval_seconds;
  } else {
    console_->Print(Line(done, now));
    next_due_ = now + options_.line_interval_seconds;
  }
}

std::string Progress::Amount(double amount) const {
  return options_.unit == ProgressOptions::Unit::kBytes ? FormatBytes(amount) : FormatCount(amount);
}

std::string Progress::Line(int64_t done, double now) const {
  std::string out = options_.label;
  if (options_.total > 0) {
    const double share =
        std::clamp(static_cast<double>(done) / static_cast<double>(options_.total), 0.0, 1.0);
    // Rounded down: 100% is said when it is.
    absl::StrAppendFormat(&out, "  %5.1f%%", std::floor(1000 * share) / 10);
    if (console_->is_terminal()) {
      const int filled = static_cast<int>(kBarCharacters * share);
      absl::StrAppend(&out, " |", std::string(filled, '#'), std::string(kBarCharacters - filled, '.'), "|");
    }
    absl::StrAppend(&out, "  ", Amount(done), " / ", Amount(options_.total));
  } else {
    absl::StrAppend(&out, "  ", Amount(done));
  }
  if (!options_.item.empty()) absl::StrAppend(&out, " ", options_.item);
  absl::StrAppend(&out, "  ", Amount(rate_), "/s  ");
  if (options_.total <= 0) return absl::StrCat(out, FormatDuration(now - started_));
  const double left = static_cast<double>(std::max<int64_t>(0, options_.total - done));
  return absl::StrCat(out, "eta ", FormatDuration(rate_ > 0 ? left / rate_ : NAN));
}

void Progress::Finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  console_->ClearBar();
  const double seconds = options_.now_seconds() - started_;
  const int64_t done = done_.load();
  std::string out = absl::StrCat(options_.label, "  done: ", Amount(done));
  if (!options_.item.empty()) absl::StrAppend(&out, " ", options_.item);
  absl::StrAppend(&out, " in ", FormatDuration(seconds));
  if (seconds > 0) absl::StrAppend(&out, ", ", Amount(done / seconds), "/s");
  console_->Print(out);
}

}  // namespace tanren
