#include "core/report/metrics_reader.h"

#include <limits>
#include <memory>
#include <optional>

#include "core/base/status.h"
#include "core/corpus/input_stream.h"
#include "simdjson.h"

namespace tanren {
namespace {

constexpr int64_t kMaxLineBytes = 1 << 20;

std::optional<double> NumberOf(const simdjson::dom::element& value) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (value.is_number()) return value.get_double().value();
  if (value.is_null()) return kNan;
  std::string_view text;
  if (value.get_string().get(text) != simdjson::SUCCESS) return std::nullopt;
  if (text == "nan") return kNan;
  if (text == "inf") return kInfinity;
  if (text == "-inf") return -kInfinity;
  return std::nullopt;
}

bool Parse(simdjson::dom::parser* parser, std::string_view text, MetricsLine* line) {
  simdjson::dom::object object;
  if (parser->parse(text.data(), text.size()).get_object().get(object) != simdjson::SUCCESS) return false;
  if (object["step"].get_int64().get(line->step) != simdjson::SUCCESS) return false;
  line->figures.clear();
  for (const auto& [name, value] : object) {
    if (name == "step") continue;
    if (const std::optional<double> number = NumberOf(value)) line->figures.emplace_back(name, *number);
  }
  return true;
}

}  // namespace

absl::StatusOr<MetricsCounts> ReadMetrics(const std::string& run_directory,
                                          absl::FunctionRef<bool(const MetricsLine&)> visit) {
  const std::string path = run_directory + "/metrics.jsonl";
  absl::StatusOr<std::unique_ptr<InputStream>> stream = InputStream::Open(path);
  if (!stream.ok()) return absl::NotFoundError(path + ": cannot be read: name the directory of a run");
  LineReader reader(*std::move(stream), kMaxLineBytes);
  LineReader::Line text;
  simdjson::dom::parser parser(kMaxLineBytes + simdjson::SIMDJSON_PADDING);
  MetricsLine line;
  MetricsCounts counts;
  for (;;) {
    TANREN_ASSIGN_OR_RETURN(const bool any, reader.Next(&text));
    if (!any) return counts;
    if (!text.too_long && text.text.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    if (text.too_long || !Parse(&parser, text.text, &line)) {
      ++counts.damaged;
      continue;
    }
    ++counts.lines;
    if (!visit(line)) return counts;
  }
}

}  // namespace tanren
