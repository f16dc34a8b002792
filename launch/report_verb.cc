#include "launch/report_verb.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/report/run_figures.h"
#include "core/report/summary.h"
#include "nlohmann/json.hpp"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

std::optional<double> NumberIn(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number()) return std::nullopt;
  return member->get<double>();
}

absl::Status AddEvaluation(const std::string& path, StageSummary* stage) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("--evaluation: cannot read ", path));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_object()) stage->accuracy = NumberIn(object, "accuracy");
  if (!stage->accuracy.has_value()) {
    return InvalidInput("--evaluation: %s has no number \"accuracy\": name a file of `tanren eval --summary`",
                        path);
  }
  stage->majority = NumberIn(object, "majority");
  stage->best_of_n = NumberIn(object, "best_of_n");
  const auto by_difficulty = object.find("by_difficulty");
  if (by_difficulty != object.end() && by_difficulty->is_object()) {
    stage->accuracy_harder = NumberIn(*by_difficulty, "harder");
  }
  return absl::OkStatus();
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
  stage.base_loss = figures.base_loss;
  stage.kl = figures.reference_kl;
  stage.pair_accuracy = figures.pair_accuracy;
  stage.seconds = options.seconds < 0 ? NAN : options.seconds;
  if (!options.evaluation.empty()) {
    TANREN_RETURN_IF_ERROR(AddEvaluation(options.evaluation, &stage));
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
