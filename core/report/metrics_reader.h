// Reads metrics.jsonl (metrics_log.h), fast and in bounded memory.
#ifndef TANREN_CORE_REPORT_METRICS_READER_H_
#define TANREN_CORE_REPORT_METRICS_READER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace tanren {

struct MetricsLine {
  int64_t step = 0;
  // In the file's order, without "step"; "nan", "inf" and "-inf" are the numbers that they stand for, null is
  // NaN, and what is no number is left out. The names are valid until the visit returns.
  std::vector<std::pair<std::string_view, double>> figures;
};

struct MetricsCounts {
  int64_t lines = 0;    // sound ones that were visited
  int64_t damaged = 0;  // passed over: no JSON object with an integer "step", or longer than 1 MiB
};

// Calls visit(line) for each sound line of RUN/metrics.jsonl, in the file's order, until it returns false.
// NotFound when the file cannot be opened.
absl::StatusOr<MetricsCounts> ReadMetrics(const std::string& run_directory,
                                          absl::FunctionRef<bool(const MetricsLine&)> visit);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_METRICS_READER_H_
