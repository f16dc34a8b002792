#include "core/report/metric_series.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "core/base/status.h"
#include "core/report/metrics_reader.h"

namespace tanren {

void MetricSeries::Merge(const Bucket& from, Bucket* into) {
  if (from.low.value < into->low.value) into->low = from.low;
  if (from.high.value > into->high.value) into->high = from.high;
  into->last = from.last;
}

void MetricSeries::HalveBuckets() {
  size_t kept = 0;
  for (size_t i = 0; i < buckets_.size(); i += 2) {
    buckets_[kept] = buckets_[i];
    if (i + 1 < buckets_.size()) Merge(buckets_[i + 1], &buckets_[kept]);
    ++kept;
  }
  buckets_.resize(kept);
  per_bucket_ *= 2;
}

void MetricSeries::Add(int64_t step, double value) {
  if (!std::isfinite(value)) {
    ++not_finite_;
    if (not_finite_steps_.size() < kMaxNotFinite) not_finite_steps_.push_back(step);
    return;
  }
  minimum_ = count_ == 0 ? value : std::min(minimum_, value);
  maximum_ = count_ == 0 ? value : std::max(maximum_, value);
  last_ = value;
  const Point point{step, value, count_++};
  const Bucket bucket{point, point, point, point};
  if (!buckets_.empty() && in_last_bucket_ < per_bucket_) {
    Merge(bucket, &buckets_.back());
    ++in_last_bucket_;
    return;
  }
  // All buckets are full here, so merging two and two leaves full ones, but for the last of an odd number.
  if (buckets_.size() == kMaxBuckets) HalveBuckets();
  buckets_.push_back(bucket);
  in_last_bucket_ = 1;
}

std::vector<MetricSeries::Point> MetricSeries::Points() const {
  std::vector<Point> points;
  for (const Bucket& bucket : buckets_) {
    Point of_bucket[] = {bucket.first, bucket.low, bucket.high, bucket.last};
    std::ranges::sort(of_bucket, {}, &Point::index);
    for (const Point& point : of_bucket) {
      if (points.empty() || points.back().index != point.index) points.push_back(point);
    }
  }
  return points;
}

const MetricSeries* RunMetrics::Find(const std::string& name) const {
  const auto found = std::ranges::find(figures, name, &Named::name);
  return found == figures.end() ? nullptr : &found->series;
}

absl::StatusOr<RunMetrics> ReadRunMetrics(const std::string& run_directory) {
  RunMetrics out;
  absl::flat_hash_map<std::string, size_t> places;
  int64_t timed_step = 0;
  const absl::StatusOr<MetricsCounts> counts = ReadMetrics(run_directory, [&](const MetricsLine& line) {
    if (out.lines++ == 0) out.first_step = out.last_step = line.step;
    out.first_step = std::min(out.first_step, line.step);
    out.last_step = std::max(out.last_step, line.step);
    for (const auto& [name, value] : line.figures) {
      auto place = places.find(View(name));
      if (place == places.end()) {
        if (out.figures.size() == RunMetrics::kMaxNames) {
          out.too_many_names = true;
          continue;
        }
        place = places.emplace(std::string(name), out.figures.size()).first;
        out.figures.push_back({std::string(name), {}});
      }
      out.figures[place->second].series.Add(line.step, value);
      if (name == "step_seconds" && std::isfinite(value) && line.step > timed_step) {
        out.seconds += value * static_cast<double>(line.step - timed_step);
        timed_step = line.step;
      }
    }
    return true;
  });
  TANREN_RETURN_IF_ERROR(counts.status());
  out.damaged_lines = counts->damaged;
  return out;
}

}  // namespace tanren
