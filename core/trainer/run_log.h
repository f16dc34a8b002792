// What a run tells: console lines, metrics.jsonl, TensorBoard events, samples.jsonl, env.json, logs.
//
// Rank 0 writes; on other ranks every call does nothing but keep that rank's own log.
#ifndef TANREN_CORE_TRAINER_RUN_LOG_H_
#define TANREN_CORE_TRAINER_RUN_LOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/activity/activity.h"
#include "core/trainer/fault_judge.h"
#include "core/trainer/stage.h"

namespace tanren {

struct StepRecord {
  int64_t step = 0;   // steps done, this one included
  int64_t steps = 0;  // to do in all
  double learning_rate = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  double flops_per_second = 0;  // model flops of the step, all ranks
  double total_tokens = 0;
  double total_seconds = 0;
  double save_wait_seconds = 0;      // that the run waited for saves since the last record
  std::vector<SlowRank> slow_ranks;  // reported since the last record
  FaultCounts faults;                // so far
  StageStep result;
};

class RunLog {
 public:
  struct Options {
    std::string run_directory;
    int rank = 0;
    int ranks = 1;
    int threads = 1;                   // compute threads of a rank
    int64_t steps = 0;                 // to do in all
    double peak_flops_per_second = 0;  // of all ranks, measured; 0: unknown, no utilisation is shown
    int64_t resumed_step = 0;          // records of later steps are removed: those steps will be done again
    bool tensorboard = true;
    int metrics_port = 0;         // 0: figures are not served
    double stall_seconds = 1800;  // of /health
    std::string stage;
    std::vector<std::string> command_line;
  };
  static absl::StatusOr<std::unique_ptr<RunLog>> Open(const Options& options);
  virtual ~RunLog() = default;

  // The run has gone back to `step`: records of later steps are removed, for they will be done again.
  virtual absl::Status Rewind(int64_t step) = 0;
  virtual void Step(const StepRecord& record) = 0;
  virtual void Validation(int64_t step, const std::vector<Metric>& metrics) = 0;
  virtual void Sample(int64_t step, const std::string& prompt, const std::string& completion,
                      const std::vector<int32_t>& tokens) = 0;
  virtual void Info(const std::string& text) = 0;
  virtual void Warning(const std::string& text) = 0;
};

// Largest resident set of this process so far, bytes.
int64_t PeakResidentBytes();

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_RUN_LOG_H_
