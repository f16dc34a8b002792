// A pipeline: its YAML, and the rules between its keys.
#ifndef TANREN_CORE_PIPELINE_PIPELINE_H_
#define TANREN_CORE_PIPELINE_PIPELINE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/proto/pipeline.pb.h"

namespace tanren {

// Reads a pipeline as config::LoadConfig reads a run: the same YAML, includes, overrides, strictness and form
// of errors (InvalidArgument, one line for each thing that is wrong, with its place). What the stages' own
// files hold is not looked at; see PlanPipeline.
absl::StatusOr<config::PipelineConfig> LoadPipeline(const std::string& path,
                                                    std::span<const std::string> overrides = {});
absl::StatusOr<config::PipelineConfig> LoadPipelineText(const std::string& text, const std::string& name,
                                                        std::span<const std::string> overrides = {});

enum class StageKind { kTrain, kEval, kCommand, kRun };
// Of a stage that passed the rules.
StageKind KindOf(const config::StageConfig& stage);
const char* NameOf(StageKind kind);  // "train", "eval", "command", "run"

// The names of the stages that `stage` names: after, inputs, or the stage before it where it names none.
// Each once, in the order of the pipeline.
std::vector<std::string> NamedDependencies(const config::PipelineConfig& pipeline, int stage);

// "KEY=STAGE" cut at its first "="; empty strings where there is none.
struct StageInput {
  std::string key;
  std::string stage;
};
StageInput InputOf(const std::string& text);

// The pipeline's slurm with the keys of the stage in place of its own; lists are replaced as a whole.
config::SlurmConfig SlurmOf(const config::PipelineConfig& pipeline, const config::StageConfig& stage);

// The stage's ranks, or the pipeline's; 1 for stages that run lines of bash.
int64_t RanksOf(const config::PipelineConfig& pipeline, const config::StageConfig& stage);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_PIPELINE_H_
