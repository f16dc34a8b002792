#include "parallel/watchdog/slow_ranks.h"

#include <algorithm>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int64_t kWindowSteps = 5;
constexpr double kWindowSeconds = 5;
constexpr int kSlowWindows = 2;
constexpr double kRepeatSeconds = 600;

// The lower middle: of two ranks the faster one.
double Median(std::vector<double> values) {
  const size_t middle = (values.size() - 1) / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  return values[middle];
}

}  // namespace

std::vector<SlowRank> SlowRanks::Update(std::span<const RankView> ranks, double now) {
  std::vector<Mark> marks;
  for (const RankView& view : ranks) marks.push_back({view.record.timed_steps, view.record.compute_seconds});
  if (window_begin_ < 0) {
    window_begin_ = now;
    begin_ = marks;
    history_.resize(ranks.size());
    return {};
  }
  if (now - window_begin_ < kWindowSeconds) return {};
  std::vector<double> means;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const int64_t steps = marks[rank].steps - begin_[rank].steps;
    if (steps < kWindowSteps) return {};
    means.push_back((marks[rank].seconds - begin_[rank].seconds) / static_cast<double>(steps));
  }
  window_begin_ = now;
  begin_ = marks;

  const double median = Median(means);
  std::vector<SlowRank> slow;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    History& history = history_[rank];
    if (means[rank] <= factor_ * median) {
      history = {};
      continue;
    }
    ++history.slow_windows;
    if (history.slow_windows < kSlowWindows) continue;
    if (history.reported && now - history.report_time < kRepeatSeconds) continue;
    history.reported = true;
    history.report_time = now;
    SlowRank report;
    report.rank = static_cast<int>(rank);
    report.ratio = median > 0 ? means[rank] / median : 0;
    report.text =
        absl::StrFormat("%s is slow: %.4f s of its own work a step, %.2f times the %.4f s of the median rank",
                        Who(report.rank, ranks), means[rank], report.ratio, median);
    slow.push_back(std::move(report));
  }
  return slow;
}

}  // namespace tanren
