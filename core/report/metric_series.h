// Curves of a run in bounded memory, however long it was.
#ifndef TANREN_CORE_REPORT_METRIC_SERIES_H_
#define TANREN_CORE_REPORT_METRIC_SERIES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

// One figure over the steps. Neighbouring values share a bucket that keeps its first, lowest, highest and
// last one, so that no spike is lost; when there are too many buckets, each two become one. Up to kMaxBuckets
// values are kept as they are.
class MetricSeries {
 public:
  static constexpr size_t kMaxBuckets = 400;
  static constexpr size_t kMaxNotFinite = 100;

  struct Point {
    int64_t step = 0;
    double value = 0;
    int64_t index = 0;  // of the value among the finite ones
  };

  // A value that is not finite is no point: it is counted, and its step kept.
  void Add(int64_t step, double value);

  // The points that are kept, in the order in which they were added.
  std::vector<Point> Points() const;

  int64_t count() const { return count_; }  // of finite values
  // Of all finite values; meaningful when there is one.
  double minimum() const { return minimum_; }
  double maximum() const { return maximum_; }
  double last() const { return last_; }
  int64_t not_finite() const { return not_finite_; }
  const std::vector<int64_t>& not_finite_steps() const { return not_finite_steps_; }  // the first ones

 private:
  struct Bucket {
    Point first, low, high, last;
  };
  static void Merge(const Bucket& from, Bucket* into);
  void HalveBuckets();

  std::vector<Bucket> buckets_;
  int64_t per_bucket_ = 1, in_last_bucket_ = 0;
  int64_t count_ = 0, not_finite_ = 0;
  double minimum_ = 0, maximum_ = 0, last_ = 0;
  std::vector<int64_t> not_finite_steps_;
};

struct RunMetrics {
  static constexpr size_t kMaxNames = 300;

  struct Named {
    std::string name;
    MetricSeries series;
  };
  std::vector<Named> figures;  // in the order in which they first occur
  int64_t lines = 0;
  int64_t damaged_lines = 0;
  int64_t first_step = 0, last_step = 0;
  bool too_many_names = false;  // those beyond kMaxNames are left out
  // Time in steps, estimated: of steps that have no line, the time of the next one that has.
  double seconds = 0;

  // Null where there is none of that name.
  const MetricSeries* Find(const std::string& name) const;
};

// NotFound when RUN/metrics.jsonl cannot be opened. A file without a sound line gives no figures.
absl::StatusOr<RunMetrics> ReadRunMetrics(const std::string& run_directory);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_METRIC_SERIES_H_
