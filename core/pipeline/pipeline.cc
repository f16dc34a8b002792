#include "core/pipeline/pipeline.h"

#include <algorithm>

#include "core/config/checked.h"
#include "core/config/loader.h"
#include "core/pipeline/pipeline_rules.h"

namespace tanren {
absl::StatusOr<config::PipelineConfig> LoadPipeline(const std::string& path,
                                                    std::span<const std::string> overrides) {
  return config::LoadChecked<config::PipelineConfig>(
      path, [&](config::Loader* loader) { loader->ReadFile(path, overrides); }, CheckPipelineRules);
}

absl::StatusOr<config::PipelineConfig> LoadPipelineText(const std::string& text, const std::string& name,
                                                        std::span<const std::string> overrides) {
  return config::LoadChecked<config::PipelineConfig>(
      name, [&](config::Loader* loader) { loader->ReadText(text, name, overrides); }, CheckPipelineRules);
}

StageKind KindOf(const config::StageConfig& stage) {
  if (!stage.config().empty()) return StageKind::kTrain;
  if (!stage.eval().empty()) return StageKind::kEval;
  return stage.command_size() > 0 ? StageKind::kCommand : StageKind::kRun;
}

const char* NameOf(StageKind kind) {
  switch (kind) {
    case StageKind::kTrain:
      return "train";
    case StageKind::kEval:
      return "eval";
    case StageKind::kCommand:
      return "command";
    case StageKind::kRun:
      return "run";
  }
  return "";
}

std::vector<std::string> NamedDependencies(const config::PipelineConfig& pipeline, int stage) {
  const config::StageConfig& own = pipeline.stages(stage);
  std::vector<std::string> named(own.after().begin(), own.after().end());
  for (const std::string& input : own.inputs()) named.push_back(InputOf(input).stage);
  if (named.empty() && stage > 0) named.push_back(pipeline.stages(stage - 1).name());
  std::vector<std::string> ordered;
  for (const config::StageConfig& other : pipeline.stages()) {
    if (std::ranges::count(named, other.name()) > 0) ordered.push_back(other.name());
  }
  return ordered;
}

StageInput InputOf(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return {};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

config::SlurmConfig SlurmOf(const config::PipelineConfig& pipeline, const config::StageConfig& stage) {
  config::SlurmConfig slurm = pipeline.slurm();
  const config::SlurmConfig& own = stage.slurm();
  if (own.options_size() > 0) slurm.clear_options();
  if (own.environment_size() > 0) slurm.clear_environment();
  if (own.prologue_size() > 0) slurm.clear_prologue();
  if (own.container().options_size() > 0) slurm.mutable_container()->clear_options();
  slurm.MergeFrom(own);
  return slurm;
}

int64_t RanksOf(const config::PipelineConfig& pipeline, const config::StageConfig& stage) {
  if (KindOf(stage) == StageKind::kRun) return 1;
  return stage.ranks() > 0 ? stage.ranks() : pipeline.ranks();
}

}  // namespace tanren
