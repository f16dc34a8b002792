// The figures of a run over HTTP, for those who watch many runs: what metrics.jsonl gets, as Prometheus
// scrapes it (text format 0.0.4), and whether the process gets on.
//
//   GET /metrics   tanren_loss 0.8431 ..., the newest value of every figure that a line of metrics.jsonl had
//   GET /health    200 and {"status":"ok",...}, or 503 and "stalled" when nothing has been done for a time
//
// It listens on the loopback interface only: who wants the figures elsewhere forwards the port. Requests are
// served by threads of their own, which take no signals and no part in the computation.
#ifndef TANREN_CORE_REPORT_METRICS_SERVER_H_
#define TANREN_CORE_REPORT_METRICS_SERVER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/report/metrics_log.h"

namespace tanren {

class MetricsServer {
 public:
  struct Options {
    int port = 0;                 // 0: any that is free
    double stall_seconds = 1800;  // without progress (core/activity), after which /health says so
    std::vector<std::pair<std::string, std::string>> labels;  // of tanren_run_info: stage, run_directory, ...
  };
  // An error names the port when it can't be had.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const Options& options);
  virtual ~MetricsServer() = default;  // ends the threads

  virtual int port() const = 0;
  // From the thread that runs the job; returns at once.
  virtual void Update(const MetricsRecord& record) = 0;
};

// The page of /metrics: exposed for its test. `figures` by name.
std::string PrometheusText(const std::vector<std::pair<std::string, double>>& figures,
                           const std::vector<std::pair<std::string, std::string>>& labels);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_METRICS_SERVER_H_
