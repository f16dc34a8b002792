// metrics.jsonl: the figures of a run, one flat JSON object per line, for programs to read.
//
//   {"step":10,"loss":4.25,"grad_norm":1.5,"lr":0.0006,"tokens_per_second":12345.5}
//
// Numbers read back as exactly the double that was written. JSON has no NaN and no infinity: they are written
// as the strings "nan", "inf" and "-inf". Figures of a validation come on a line of their own, named
// validation_...; a step may thus have two lines.
#ifndef TANREN_CORE_REPORT_METRICS_LOG_H_
#define TANREN_CORE_REPORT_METRICS_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/json_lines.h"

namespace tanren {

// The figures of one step, in the order in which they were added.
class MetricsRecord {
 public:
  explicit MetricsRecord(int64_t step) : step_(step) {}

  // A name is given once, and is not "step".
  MetricsRecord& Add(std::string_view name, double value);

  int64_t step() const { return step_; }
  const std::vector<std::pair<std::string, double>>& figures() const { return figures_; }
  std::string ToJson() const;

 private:
  int64_t step_;
  std::vector<std::pair<std::string, double>> figures_;
};

// Rank 0 of a run writes it, under the run's lock.
class MetricsLog {
 public:
  // Opens RUN/metrics.jsonl. A run that goes on after step `resumed_step` writes the later steps again, so
  // lines of later steps, and a line that a crash left half written, are removed first. 0: a run that starts.
  static absl::StatusOr<MetricsLog> Open(const std::string& run_directory, int64_t resumed_step);

  // On return the line is with the operating system. After an error the file is as it was, and the next call
  // may succeed.
  absl::Status Write(const MetricsRecord& record);

  int64_t dropped_lines() const { return file_.dropped_lines(); }

 private:
  explicit MetricsLog(JsonLinesFile file) : file_(std::move(file)) {}

  JsonLinesFile file_;
};

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_METRICS_LOG_H_
