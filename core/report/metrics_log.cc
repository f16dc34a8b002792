#include "core/report/metrics_log.h"

#include <cmath>

#include "core/base/status.h"
#include "core/config/text.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

// A JSON string; bytes that are not UTF-8 become U+FFFD.
std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string JsonNumber(double value) {
  if (std::isnan(value)) return "\"nan\"";
  if (std::isinf(value)) return value > 0 ? "\"inf\"" : "\"-inf\"";
  return config::FormatNumber(value);
}

}  // namespace

MetricsRecord& MetricsRecord::Add(std::string_view name, double value) {
  TANREN_CHECK_MSG(name != "step", "\"step\" is the record's own");
  for (const auto& [known, unused] : figures_) {
    TANREN_CHECK_MSG(known != name, "figure \"", known, "\" was added twice at step ", step_);
  }
  figures_.emplace_back(name, value);
  return *this;
}

std::string MetricsRecord::ToJson() const {
  std::string out = absl::StrCat("{\"step\":", step_);
  for (const auto& [name, value] : figures_) absl::StrAppend(&out, ",", Quoted(name), ":", JsonNumber(value));
  return out + "}";
}

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& run_directory, int64_t resumed_step) {
  TANREN_ASSIGN_OR_RETURN(JsonLinesFile file,
                          JsonLinesFile::Open(run_directory + "/metrics.jsonl", resumed_step));
  return MetricsLog(std::move(file));
}

absl::Status MetricsLog::Write(const MetricsRecord& record) { return file_.Append(record.ToJson()); }

}  // namespace tanren
