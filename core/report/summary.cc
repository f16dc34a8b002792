#include "core/report/summary.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/config/text.h"
#include "core/report/append_file.h"
#include "core/report/units.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxFileBytes = 16 << 20;

Json Number(const std::optional<double>& value) {
  return value.has_value() && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

// A member that may be missing or null; `*sound` becomes false when it is something else than a number.
std::optional<double> OptionalNumber(const Json& object, const char* key, bool* sound) {
  const auto member = object.find(key);
  if (member == object.end() || member->is_null()) return std::nullopt;
  if (!member->is_number()) {
    *sound = false;
    return std::nullopt;
  }
  return member->get<double>();
}

// The figures that a stage may lack, by their names in the file, in its order.
struct Figure {
  const char* key;
  std::optional<double> StageSummary::*value;
};
constexpr Figure kFigures[] = {
    {"validation_loss", &StageSummary::validation_loss},
    {"base_validation_loss", &StageSummary::base_loss},
    {"kl", &StageSummary::kl},
    {"accuracy", &StageSummary::accuracy},
    {"accuracy_harder", &StageSummary::accuracy_harder},
    {"majority", &StageSummary::majority},
    {"best_of_n", &StageSummary::best_of_n},
    {"pair_accuracy", &StageSummary::pair_accuracy},
};

std::optional<StageSummary> StageOf(const Json& object) {
  if (!object.is_object()) return std::nullopt;
  const auto name = object.find("name"), steps = object.find("steps"), tokens = object.find("tokens");
  if (name == object.end() || !name->is_string()) return std::nullopt;
  if (steps == object.end() || !steps->is_number_integer()) return std::nullopt;
  if (tokens == object.end() || !tokens->is_number_integer()) return std::nullopt;
  StageSummary stage;
  bool sound = true;
  stage.name = name->get<std::string>();
  stage.steps = steps->get<int64_t>();
  stage.tokens = tokens->get<int64_t>();
  for (const Figure& figure : kFigures) stage.*figure.value = OptionalNumber(object, figure.key, &sound);
  stage.seconds = OptionalNumber(object, "seconds", &sound).value_or(NAN);
  if (!sound) return std::nullopt;
  return stage;
}

std::string Shown(const std::optional<double>& value) {
  return value.has_value() && std::isfinite(*value) ? absl::StrFormat("%.4f", *value) : "-";
}

}  // namespace

StageSummary SummaryOfRun(const std::string& name, const RunFigures& figures) {
  StageSummary stage;
  stage.name = name;
  stage.steps = figures.step;
  stage.tokens = figures.tokens;
  stage.validation_loss = figures.validation_loss;
  stage.base_loss = figures.base_loss;
  stage.kl = figures.reference_kl;
  stage.pair_accuracy = figures.pair_accuracy;
  stage.seconds = NAN;
  return stage;
}

absl::StatusOr<std::vector<StageSummary>> ReadSummary(const std::string& path) {
  if (!std::filesystem::exists(path)) return absl::NotFoundError(path + ": no such file");
  const std::filesystem::path file(path);
  TANREN_ASSIGN_OR_RETURN(const Directory directory,
                          Directory::Open(file.has_parent_path() ? file.parent_path().string() : "."));
  TANREN_ASSIGN_OR_RETURN(const std::string text,
                          ReadSmallFile(directory, file.filename().string(), kMaxFileBytes));
  const Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto list = document.is_object() ? document.find("stages") : document.end();
  if (!document.is_object() || list == document.end() || !list->is_array()) {
    return InvalidInput(
        "%s: not a summary (an object with a list \"stages\"): remove it or name another file", path);
  }
  std::vector<StageSummary> stages;
  for (const Json& object : *list) {
    std::optional<StageSummary> stage = StageOf(object);
    if (!stage.has_value()) {
      return InvalidInput("%s: stages[%d] needs name, steps, tokens and numbers or null in the rest", path,
                          stages.size());
    }
    stages.push_back(*std::move(stage));
  }
  return stages;
}

absl::Status WriteSummary(const std::string& path, const std::vector<StageSummary>& stages) {
  Json list = Json::array();
  for (const StageSummary& stage : stages) {
    Json row = {{"name", stage.name}, {"steps", stage.steps}, {"tokens", stage.tokens}};
    for (const Figure& figure : kFigures) row[figure.key] = Number(stage.*figure.value);
    row["seconds"] = Number(stage.seconds);
    list.push_back(std::move(row));
  }
  Json document;
  document["stages"] = std::move(list);
  return ReplaceSmallFile(path, document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

absl::Status UpdateSummary(const std::string& path, const StageSummary& stage) {
  std::vector<StageSummary> stages;
  absl::StatusOr<std::vector<StageSummary>> former = ReadSummary(path);
  if (former.ok()) {
    stages = *std::move(former);
  } else if (!absl::IsNotFound(former.status())) {
    return former.status();
  }
  const auto same =
      std::find_if(stages.begin(), stages.end(), [&](const auto& s) { return s.name == stage.name; });
  if (same == stages.end()) {
    stages.push_back(stage);
  } else {
    *same = stage;
  }
  return WriteSummary(path, stages);
}

std::string FormatSummary(const std::vector<StageSummary>& stages) {
  const auto share = [](const std::optional<double>& value) {
    return value.has_value() && std::isfinite(*value) ? absl::StrFormat("%.1f%%", 100 * *value)
                                                      : std::string("-");
  };
  // A column of figures that no stage has is left out.
  struct Column {
    const char* title;
    std::optional<double> StageSummary::*value;
    bool is_share;
  };
  std::vector<Column> columns = {{"validation_loss", &StageSummary::validation_loss, false},
                                 {"base_loss", &StageSummary::base_loss, false},
                                 {"    kl", &StageSummary::kl, false},
                                 {"accuracy", &StageSummary::accuracy, true},
                                 {"harder", &StageSummary::accuracy_harder, true},
                                 {"majority", &StageSummary::majority, true},
                                 {"best_by_rm", &StageSummary::best_of_n, true},
                                 {" pairs", &StageSummary::pair_accuracy, true}};
  std::erase_if(columns, [&](const Column& column) {
    return column.value != &StageSummary::accuracy && column.value != &StageSummary::validation_loss &&
           std::none_of(stages.begin(), stages.end(),
                        [&](const StageSummary& stage) { return (stage.*column.value).has_value(); });
  });
  int width = 5;
  for (const StageSummary& stage : stages) {
    width = std::max(width, static_cast<int>(config::Printable(stage.name, 40).size()));
  }
  std::string out = absl::StrFormat("%-*s %7s %8s", width, "stage", "steps", "tokens");
  for (const Column& column : columns) absl::StrAppend(&out, "  ", column.title);
  absl::StrAppendFormat(&out, " %8s\n", "time");
  for (const StageSummary& stage : stages) {
    absl::StrAppendFormat(&out, "%-*s %7d %8s", width, config::Printable(stage.name, 40), stage.steps,
                          FormatCount(stage.tokens));
    for (const Column& column : columns) {
      const std::string value = column.is_share ? share(stage.*column.value) : Shown(stage.*column.value);
      absl::StrAppendFormat(&out, "  %*s", static_cast<int>(std::string_view(column.title).size()), value);
    }
    absl::StrAppendFormat(&out, " %8s\n", FormatDuration(stage.seconds));
  }
  return out;
}

}  // namespace tanren
