// samples.jsonl: what the model wrote during training.
//
//   {"step":100,"prompt":"Q: 2+3\n","completion":"#### 5","tokens":[13,4,260]}
#ifndef TANREN_CORE_REPORT_SAMPLES_LOG_H_
#define TANREN_CORE_REPORT_SAMPLES_LOG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/json_lines.h"

namespace tanren {

struct Sample {
  int64_t step = 0;
  std::string prompt;
  std::string completion;       // bytes that are not UTF-8 are written as U+FFFD; `tokens` is exact
  std::vector<int32_t> tokens;  // of the completion
};

// Rank 0 of a run writes it, under the run's lock. The rule on resume is that of MetricsLog.
class SamplesLog {
 public:
  static absl::StatusOr<SamplesLog> Open(const std::string& run_directory, int64_t resumed_step);

  absl::Status Write(const Sample& sample);

  int64_t dropped_lines() const { return file_.dropped_lines(); }

 private:
  explicit SamplesLog(JsonLinesFile file) : file_(std::move(file)) {}

  JsonLinesFile file_;
};

// One line for the console: untrusted text is escaped and cut.
std::string FormatSample(const Sample& sample);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_SAMPLES_LOG_H_
