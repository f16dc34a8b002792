#include "core/report/run_figures.h"

#include <cmath>
#include <fstream>

#include "core/base/status.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

// A finite number.
std::optional<double> NumberOf(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number()) return std::nullopt;
  return member->get<double>();
}

void Take(const nlohmann::json& object, const char* key, std::optional<double>* out) {
  if (object.contains(key)) *out = NumberOf(object, key);
}

}  // namespace

absl::StatusOr<RunFigures> ReadRunFigures(const std::string& run_directory, int64_t last_step) {
  const std::string path = run_directory + "/metrics.jsonl";
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(path + ": cannot be read: name the directory of a run");
  RunFigures figures;
  bool any = false;
  std::string line;
  while (std::getline(file, line)) {
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) continue;
    const auto step = object.find("step");
    if (step == object.end() || !step->is_number_integer()) continue;
    if (last_step >= 0 && step->get<int64_t>() > last_step) break;
    any = true;
    figures.step = step->get<int64_t>();
    figures.tokens = std::llround(NumberOf(object, "tokens").value_or(static_cast<double>(figures.tokens)));
    Take(object, "loss", &figures.loss);
    Take(object, "validation_loss", &figures.validation_loss);
    Take(object, "validation_base_loss", &figures.base_loss);
    Take(object, "reference_kl", &figures.reference_kl);
    if (object.contains("validation_margin")) Take(object, "validation_accuracy", &figures.pair_accuracy);
    Take(object, "tokens_per_second", &figures.tokens_per_second);
  }
  if (!any) return InvalidInput("%s: has no line of a step: the run has not logged anything yet", path);
  return figures;
}

}  // namespace tanren
