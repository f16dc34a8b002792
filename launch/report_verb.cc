#include "launch/report_verb.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "core/base/status.h"
#include "core/report/run_figures.h"
#include "core/report/summary.h"
#include "nlohmann/json.hpp"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

absl::StatusOr<double> AccuracyOf(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("--evaluation: cannot read ", path));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("accuracy") || !object["accuracy"].is_number()) {
    return InvalidInput("--evaluation: %s has no number \"accuracy\": name a file of `tanren eval --summary`",
                        path);
  }
  return object["accuracy"].get<double>();
}

absl::StatusOr<StageSummary> StageOf(const ReportOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const RunFigures figures, ReadRunFigures(options.run, options.to_step));
  StageSummary stage;
  stage.name = options.stage.empty()
                   ? std::filesystem::path(options.run + "/").parent_path().filename().string()
                   : options.stage;
  stage.steps = figures.step;
  stage.tokens = figures.tokens;
  if (options.from_step > 0) {
    TANREN_ASSIGN_OR_RETURN(const RunFigures before, ReadRunFigures(options.run, options.from_step));
    stage.steps -= before.step;
    stage.tokens -= before.tokens;
  }
  stage.validation_loss = figures.validation_loss;
  stage.seconds = options.seconds < 0 ? NAN : options.seconds;
  if (!options.evaluation.empty()) {
    TANREN_ASSIGN_OR_RETURN(stage.accuracy, AccuracyOf(options.evaluation));
  }
  return stage;
}

absl::Status RunReport(const ReportOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const StageSummary stage, StageOf(options));
  std::vector<StageSummary> rows = {stage};
  if (!options.summary.empty()) {
    TANREN_RETURN_IF_ERROR(UpdateSummary(options.summary, stage));
    TANREN_ASSIGN_OR_RETURN(rows, ReadSummary(options.summary));
  }
  std::fputs(FormatSummary(rows).c_str(), stdout);
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace

int Report(const ReportOptions& options) { return StatusExit(RunReport(options)); }

}  // namespace tanren
