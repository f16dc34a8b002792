// What each stage of a pipeline does: its command, its directory, and what it is run with.
#ifndef TANREN_CORE_PIPELINE_PLAN_H_
#define TANREN_CORE_PIPELINE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/pipeline/pipeline.h"

namespace tanren {

struct PlannedStage {
  std::string name;
  StageKind kind = StageKind::kTrain;
  std::string directory;               // HOME/NAME
  std::vector<std::string> after;      // stages that must have finished
  std::vector<std::string> ancestors;  // all before it, however far back, in the pipeline's order
  int64_t ranks = 1;
  std::vector<std::string> arguments;  // of tanren, the verb first; empty for kRun
  std::vector<std::string> lines;      // of bash, for kRun
  config::SlurmConfig slurm;
  int64_t steps = 0;  // of a training run
  // Everything that decides the stage's result, as text, and its SHA-256. The hashes of the stages before it
  // are part of it, so a change of one shows in all that come of it. Gates are no part of it, nor are ranks
  // and the scheduler's settings.
  std::string text;
  std::string hash;
};

struct PipelinePlan {
  std::string name;
  std::string home;
  std::vector<PlannedStage> stages;
};

// Reads every config and suite that the stages name, with their overrides, as `tanren train` and `tanren
// eval` would (plugins are loaded). InvalidArgument with all that is wrong, "stage NAME: " before each line;
// so is a stage that reads the directory of one that does not come before it.
absl::StatusOr<PipelinePlan> PlanPipeline(const config::PipelineConfig& pipeline);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_PLAN_H_
