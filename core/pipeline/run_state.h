// How far a run is, from what lies in its directory: the state is on disk, not in a process.
#ifndef TANREN_CORE_PIPELINE_RUN_STATE_H_
#define TANREN_CORE_PIPELINE_RUN_STATE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/pipeline/plan.h"
#include "core/pipeline/stage_record.h"

namespace tanren {

// The scheduler's word for a job: "PENDING", "RUNNING", .. or "" where it knows none, or there is none.
using AskScheduler = std::function<std::string(const std::string& job)>;

struct RunState {
  std::string directory;
  std::string stage;  // pretrain, sft, .. of a training run; eval, command, run of other work; else ""
  int64_t step = -1;  // of the newest commit; -1: none
  int64_t steps = 0;  // to do in all; 0: unknown, or not a training run
  // new: nothing is begun. queued: a job waits. running. saved: it wants to go on. stopped: to be begun
  // again. interrupted: it ended without a word. failed. finished.
  std::string state = "new";
  std::string detail;       // owner, job, exit code with the last error line
  std::string metric;       // "loss 1.25 at step 40"; ""
  double age_seconds = -1;  // since the last change; -1: unknown
};

// Reads one run directory. Damaged files count as missing.
RunState ReadRunState(const std::string& directory, const AskScheduler& ask);

enum class Progress { kNothing, kBegun, kFinished };
// How far a stage of a plan is. Finished: its record says so for this very stage and, of a training run, the
// last step is committed. FailedPrecondition where the directory holds the beginning, or the result, of
// something else, with the first line that differs; work that left no result and no commit is no beginning.
absl::StatusOr<Progress> ProgressOf(const PlannedStage& stage);

// Run directories under `path`: itself, or those inside, three levels down at most. Sorted. NotFound where
// there is no such directory.
absl::StatusOr<std::vector<std::string>> FindRuns(const std::string& path);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_RUN_STATE_H_
