// The script of a stage: a batch job, or what `tanren submit --local` runs.
#ifndef TANREN_CORE_PIPELINE_BATCH_SCRIPT_H_
#define TANREN_CORE_PIPELINE_BATCH_SCRIPT_H_

#include <string>

#include "core/pipeline/plan.h"

namespace tanren {

struct ScriptOptions {
  std::string pipeline;           // its name
  bool local = false;             // without a scheduler: no #SBATCH lines, ranks by `tanren launch`
  std::string program;            // tanren; slurm.program goes before it
  std::string working_directory;  // absolute: what the config's paths are relative to
};

// Bash. It ends with 0 when the stage has finished, now or earlier; 75 when it was asked to stop (SIGUSR1,
// TERM, INT) and wants to go on; else with the code of what failed, saying so in its last line. Under SLURM a
// stage that wants to go on is requeued, as the same job, so that the jobs that depend on it go on waiting.
// It writes what stage_record.h describes.
std::string StageScript(const PlannedStage& stage, const ScriptOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_BATCH_SCRIPT_H_
