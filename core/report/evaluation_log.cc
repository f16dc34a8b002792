#include "core/report/evaluation_log.h"

#include <initializer_list>
#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/config/small_file.h"
#include "core/corpus/input_stream.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxSummaryBytes = 16 << 20;
constexpr int64_t kMaxLineBytes = 4 << 20;
constexpr size_t kMaxRows = 500;

std::string TextIn(const Json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end()) return "";
  if (member->is_string()) return member->get<std::string>();
  if (member->is_number() || member->is_boolean()) return member->dump();
  return "";
}

std::optional<double> NumberIn(const Json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number()) return std::nullopt;
  return member->get<double>();
}

// "a, b" of the texts that are not empty.
std::string Joined(std::initializer_list<std::string> texts) {
  std::string out;
  for (const std::string& text : texts) {
    if (!text.empty()) absl::StrAppend(&out, out.empty() ? "" : ", ", text);
  }
  return out;
}

// The numbers of an object as a row; nothing where it has none.
void AddRow(const std::string& label, const Json& object, EvaluationLog* log) {
  if (!object.is_object() || log->rows.size() >= kMaxRows) return;
  FigureRow row{label, {}};
  for (const auto& [name, value] : object.items()) {
    if (value.is_number()) row.figures.emplace_back(name, value.get<double>());
  }
  if (!row.figures.empty()) log->rows.push_back(std::move(row));
}

// The members of object[key], each as a row.
void AddRows(const std::string& label, const Json& object, const char* key, EvaluationLog* log) {
  const auto members = object.find(key);
  if (members == object.end() || !members->is_object()) return;
  for (const auto& [name, figures] : members->items()) AddRow(Joined({label, name}), figures, log);
}

void AddTest(const std::string& name, const Json& test, EvaluationLog* log) {
  if (!test.is_object()) return;
  if (test.contains("figures")) AddRow(name, test["figures"], log);
  const auto strategies = test.find("strategies");
  if (strategies == test.end() || !strategies->is_object()) return;
  for (const auto& [strategy, result] : strategies->items()) {
    if (!result.is_object()) continue;
    const std::string label = Joined({name, strategy});
    if (result.contains("figures")) AddRow(label, result["figures"], log);
    AddRows(label, result, "by_difficulty", log);
    AddRows(label, result, "by_kind", log);
  }
}

void AddGates(const Json& document, EvaluationLog* log) {
  const auto gates = document.find("gates");
  if (gates == document.end() || !gates->is_array()) return;
  for (const Json& gate : *gates) {
    if (!gate.is_object() || log->gates.size() >= kMaxRows) continue;
    GateVerdict verdict{TextIn(gate, "test"),     TextIn(gate, "strategy"),
                        TextIn(gate, "figure"),   Joined({TextIn(gate, "difficulty"), TextIn(gate, "kind")}),
                        NumberIn(gate, "value"),  NumberIn(gate, "minimum"),
                        NumberIn(gate, "maximum")};
    const auto passed = gate.find("passed");
    verdict.passed = passed != gate.end() && passed->is_boolean() && passed->get<bool>();
    log->gates.push_back(std::move(verdict));
  }
}

void AddVerdict(const Json& line, EvaluationLog* log) {
  const auto correct = line.find("correct");
  if (correct == line.end() || !correct->is_boolean()) return;
  ++log->checked;
  if (correct->get<bool>()) return;
  if (log->wrong++ >= static_cast<int64_t>(EvaluationLog::kMaxWrong)) return;
  log->first_wrong.push_back({Joined({TextIn(line, "test"), TextIn(line, "strategy"),
                                      TextIn(line, "difficulty"), TextIn(line, "kind")}),
                              TextIn(line, "prompt"), TextIn(line, "completion"), TextIn(line, "extracted"),
                              TextIn(line, "answer")});
}

}  // namespace

bool AddEvaluationSummary(const std::string& path, EvaluationLog* log) {
  std::string text;
  if (!config::ReadSmallFile(path, kMaxSummaryBytes, &text).empty()) return false;
  const Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return false;
  const auto tests = document.find("tests");
  if (tests != document.end() && tests->is_object()) {
    for (const auto& [name, test] : tests->items()) AddTest(name, test, log);
    AddGates(document, log);
  } else if (NumberIn(document, "cases").has_value()) {
    AddRow("all", document, log);
    AddRows("", document, "figures_by_difficulty", log);
  } else {
    return false;
  }
  log->checkpoint = TextIn(document, "checkpoint");
  return true;
}

bool AddAnswers(const std::string& path, EvaluationLog* log) {
  absl::StatusOr<std::unique_ptr<InputStream>> stream = InputStream::Open(path);
  if (!stream.ok()) return false;
  LineReader reader(*std::move(stream), kMaxLineBytes);
  LineReader::Line line;
  for (;;) {
    const absl::StatusOr<bool> any = reader.Next(&line);
    if (!any.ok() || !*any) {
      log->damaged_lines += any.ok() ? 0 : 1;  // a compressed file that ends in the middle
      return true;
    }
    if (!line.too_long && line.text.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    const Json object = line.too_long ? Json() : Json::parse(line.text, nullptr, /*allow_exceptions=*/false);
    if (object.is_object()) {
      AddVerdict(object, log);
    } else {
      ++log->damaged_lines;
    }
  }
}

}  // namespace tanren
