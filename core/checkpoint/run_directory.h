// The directory of a run: its steps, its lock, its leftovers.
//
//   run.lock                        one writer at a time
//   LATEST                          advisory: the name of the newest step; nothing reads it to decide
//   step-00001000/                  a checkpoint
//   step-00001010.tmp-<uuid>/       a save or removal that did not end; never loaded, swept at start
//   step-00001005.damaged-<uuid>/   a damaged checkpoint that stood where a good one was to be saved
#ifndef TANREN_CORE_CHECKPOINT_RUN_DIRECTORY_H_
#define TANREN_CORE_CHECKPOINT_RUN_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/file_system.h"
#include "core/comm/comm.h"

namespace tanren {

// "step-00001000"
std::string StepName(int64_t step);
// The step of a name that StepName gives, else -1.
int64_t ParseStepName(std::string_view name);
// 32 random hexadecimal digits.
std::string RandomSuffix();

// Names of the step directories, newest first, whether valid or not; nothing that is swept or set aside.
absl::StatusOr<std::vector<std::string>> ListSteps(const Directory& run);
// Whether a step set aside as damaged lies here.
absl::StatusOr<bool> HasDamagedSteps(const Directory& run);
// Whether COMMIT is there and is the SHA-256 of the manifest: the cheap test for "a commit".
bool LooksCommitted(const Directory& run, const std::string& step_name);
// `path` as it is when it names a step or holds none, else the path of the newest commit of the run at
// `path`. NotFound when there is nothing, or the run has steps but no commit. Local: on several ranks, let
// one choose.
absl::StatusOr<std::string> FindStep(const std::string& path);

// The right to write into a run directory, held until destruction or the end of the process, however it ends.
class RunLock {
 public:
  // Creates the directory where it is missing. A second holder, in this process or another, is refused at
  // once (FailedPrecondition) with the owner's record: host, process, start time, and `owner`.
  static absl::StatusOr<std::unique_ptr<RunLock>> Acquire(const std::string& run_dir,
                                                          const std::string& owner);
  // The same for a job: rank 0 holds the lock (other ranks receive null), all ranks receive its refusal.
  static absl::StatusOr<std::unique_ptr<RunLock>> AcquireForJob(Comm& world, const std::string& run_dir,
                                                                const std::string& owner);
  ~RunLock();

  const Directory& run() const { return run_; }

 private:
  RunLock(Directory run, Descriptor file) : run_(std::move(run)), file_(std::move(file)) {}

  Directory run_;
  Descriptor file_;
};

// Removes what interrupted saves and removals left behind. Only the holder of the lock may: without it the
// leftover may be another job's save in progress. Returns the names removed.
absl::StatusOr<std::vector<std::string>> SweepLeftovers(const RunLock& lock);

struct Retention {
  int keep_last = 2;       // never below two commits
  int64_t keep_every = 0;  // steps divisible by it stay for ever; 0: none
};

// Removes commits that the retention does not keep, oldest first: each is renamed to a name that is never
// loaded, then removed. Directories that are not valid commits are neither counted nor removed. Returns the
// names removed.
absl::StatusOr<std::vector<std::string>> ApplyRetention(const Directory& run, const Retention& retention,
                                                        SaveFaults* faults);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_RUN_DIRECTORY_H_
