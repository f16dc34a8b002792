#include "core/report/run_figures.h"

#include <cmath>

#include "core/base/status.h"
#include "core/report/metrics_reader.h"

namespace tanren {
namespace {

// The figures of one line, the newest winning; one that is not finite makes a former one unknown.
void Take(const MetricsLine& line, RunFigures* figures) {
  figures->step = line.step;
  bool of_pairs = false;
  std::optional<double> accuracy;
  for (const auto& [name, number] : line.figures) {
    const std::optional<double> value = std::isfinite(number) ? std::optional(number) : std::nullopt;
    if (name == "tokens" && value.has_value()) figures->tokens = std::llround(number);
    if (name == "loss") figures->loss = value;
    if (name == "validation_loss") figures->validation_loss = value;
    if (name == "validation_base_loss") figures->base_loss = value;
    if (name == "reference_kl") figures->reference_kl = value;
    if (name == "tokens_per_second") figures->tokens_per_second = value;
    if (name == "validation_accuracy") accuracy = value;
    of_pairs = of_pairs || name == "validation_margin";
  }
  if (of_pairs) figures->pair_accuracy = accuracy;
}

}  // namespace

absl::StatusOr<RunFigures> ReadRunFigures(const std::string& run_directory, int64_t last_step) {
  RunFigures figures;
  bool any = false;
  TANREN_RETURN_IF_ERROR(ReadMetrics(run_directory, [&](const MetricsLine& line) {
                           if (last_step >= 0 && line.step > last_step) return false;
                           any = true;
                           Take(line, &figures);
                           return true;
                         }).status());
  if (!any) {
    return InvalidInput("%s/metrics.jsonl: has no line of a step: the run has not logged anything yet",
                        run_directory);
  }
  return figures;
}

}  // namespace tanren
