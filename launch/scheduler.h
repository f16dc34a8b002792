// SLURM's commands.
#ifndef TANREN_LAUNCH_SCHEDULER_H_
#define TANREN_LAUNCH_SCHEDULER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

// Whether a program of that name is in PATH.
bool IsInPath(const std::string& name);

// The words of `sbatch` for a script whose job waits for the jobs `after` to end well.
std::vector<std::string> SbatchCommand(const std::string& script, const std::vector<std::string>& after);

// Submits, and returns the job's id. NotFound without a sbatch; Unavailable with what sbatch said.
absl::StatusOr<std::string> SubmitJob(const std::string& script, const std::vector<std::string>& after);

// "PENDING", "RUNNING", ..; "" for a job that is not in the queue, or where there is no scheduler.
std::string JobState(const std::string& job);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SCHEDULER_H_
