// What a stage's script leaves in the stage's directory.
//
//   stage.yaml   what the stage is run with (PlannedStage::text)
//   stage.json   how far it is: written by the script, replaced whole
//   stage.lock   held by flock while the script, or anything it started, runs
//   job.sh       the script itself
//   job.id       of the newest submission: the scheduler's job
//   job.log      output of all attempts, one after the other
#ifndef TANREN_CORE_PIPELINE_STAGE_RECORD_H_
#define TANREN_CORE_PIPELINE_STAGE_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>

namespace tanren {

struct StageRecord {
  // running, saved (wants to go on), stopped (to be begun again), interrupted (by the scheduler), finished,
  // failed
  std::string state;
  int exit_code = 0;
  std::string hash;  // of what it was run with
  std::string job;   // the scheduler's, or empty
  std::string host;
  int64_t process = 0;
  int64_t restarts = 0;
  std::string time;  // UTC, of the last change
};

// Nothing where there is no record, or none that can be read: it is then as if the stage had not begun.
std::optional<StageRecord> ReadStageRecord(const std::string& directory);

// The job of job.id: "" where there is none.
std::string ReadJobId(const std::string& directory);

// The last line of job.log that speaks of an error, or else its last line; escaped and cut. "" without a log.
std::string LastErrorLine(const std::string& directory);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_STAGE_RECORD_H_
