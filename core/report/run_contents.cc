#include "core/report/run_contents.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/checkpoint/run_directory.h"
#include "core/config/small_file.h"
#include "core/report/run_texts.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxFileBytes = 16 << 20;
constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr size_t kMaxEntries = 300;  // of the environment, and of checkpoints
constexpr int kMaxDepth = 4;

// Strings as they are, numbers and booleans as JSON, a list as its words.
std::string ValueText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.is_object() ? "{}" : value.dump();
  std::string out;
  for (const Json& element : value) {
    if (element.is_structured()) continue;
    absl::StrAppend(&out, out.empty() ? "" : " ", ValueText(element));
  }
  return out;
}

std::string TextIn(const Json& object, const char* key) {
  const auto member = object.find(key);
  return member == object.end() || member->is_null() ? "" : ValueText(*member);
}

void Flatten(const Json& object, const std::string& prefix, int depth,
             std::vector<std::pair<std::string, std::string>>* out) {
  for (const auto& [key, value] : object.items()) {
    if (out->size() >= kMaxEntries) return;
    if (value.is_object() && depth < kMaxDepth) {
      Flatten(value, absl::StrCat(prefix, key, "."), depth + 1, out);
    } else {
      out->emplace_back(absl::StrCat(prefix, key), ValueText(value));
    }
  }
}

RunStart StartOf(const Json& object) {
  RunStart start;
  start.time = TextIn(object, "start_time");
  if (const auto step = object.find("resumed_step"); step != object.end() && step->is_number_integer()) {
    start.resumed_step = step->get<int64_t>();
  }
  start.ranks = TextIn(object, "ranks");
  start.threads = TextIn(object, "threads");
  if (const auto machine = object.find("machine"); machine != object.end() && machine->is_object()) {
    start.host = TextIn(*machine, "hostname");
  }
  if (const auto build = object.find("build"); build != object.end() && build->is_object()) {
    start.build = absl::StrCat(TextIn(*build, "version"), " ", TextIn(*build, "build_id").substr(0, 12));
  }
  return start;
}

void ReadEnvironment(RunContents* out) {
  std::string text;
  const std::string path = out->directory + "/env.json";
  if (!config::ReadSmallFile(path, kMaxFileBytes, &text).empty()) return;
  Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    out->notes.push_back("env.json: damaged, so starts and environment are missing here");
    return;
  }
  if (const auto earlier = document.find("earlier"); earlier != document.end()) {
    if (earlier->is_array()) {
      for (const Json& start : *earlier) {
        if (start.is_object()) out->starts.push_back(StartOf(start));
      }
    }
    document.erase("earlier");
  }
  out->starts.push_back(StartOf(document));
  Flatten(document, "", 1, &out->environment);
}

int64_t BytesIn(const std::string& directory) {
  int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    const uintmax_t size = entry->is_regular_file(ignored) ? entry->file_size(ignored) : 0;
    if (!ignored) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

void ReadCheckpoints(RunContents* out) {
  const absl::StatusOr<Directory> run = Directory::Open(out->directory);
  if (!run.ok()) return;
  const absl::StatusOr<std::vector<std::string>> steps = ListSteps(*run);
  if (!steps.ok()) return;
  for (const std::string& step : *steps) {  // newest first
    if (out->checkpoints.size() == kMaxEntries) break;
    out->checkpoints.push_back({ParseStepName(step), LooksCommitted(*run, step), BytesIn(run->PathOf(step))});
  }
  std::ranges::reverse(out->checkpoints);
}

void ReadMetricsOf(RunContents* out) {
  absl::StatusOr<RunMetrics> metrics = ReadRunMetrics(out->directory);
  if (!metrics.ok()) {
    if (!absl::IsNotFound(metrics.status())) {
      out->notes.emplace_back(metrics.status().message().data(), metrics.status().message().size());
    }
    return;
  }
  out->metrics = *std::move(metrics);
  out->has_metrics = out->metrics.lines > 0;
  if (out->metrics.damaged_lines > 0) {
    out->notes.push_back(
        absl::StrCat("metrics.jsonl: damaged lines passed over: ", out->metrics.damaged_lines));
  }
  if (out->metrics.too_many_names) {
    out->notes.push_back(
        absl::StrCat("metrics.jsonl: of its figures only the first ", RunMetrics::kMaxNames, " are shown"));
  }
}

void Keep(EvaluationLog log, const std::string& name, RunContents* out) {
  if (log.empty()) return;
  log.name = name;
  if (log.damaged_lines > 0) {
    out->notes.push_back(absl::StrCat(name, ": damaged lines passed over: ", log.damaged_lines));
  }
  out->evaluations.push_back(std::move(log));
}

// NAME.json and NAME.answers.jsonl, as `tanren eval --summary --out` are told to write them.
void ReadShortForm(const std::string& stem, const std::string& name, RunContents* out) {
  EvaluationLog log;
  AddEvaluationSummary(stem + ".json", &log);
  AddAnswers(stem + ".answers.jsonl", &log);
  Keep(std::move(log), name, out);
}

void ReadEvaluations(RunContents* out) {
  if (!out->is_training()) Keep(ReadSuiteResult(out->directory), "summary.json, samples.jsonl", out);
  std::vector<std::string> stems;
  constexpr std::string_view kSuffix = ".answers.jsonl";
  std::error_code error;
  for (std::filesystem::directory_iterator entry(out->directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(kSuffix)) stems.push_back(name.substr(0, name.size() - kSuffix.size()));
  }
  std::ranges::sort(stems);
  for (const std::string& stem : stems) {
    ReadShortForm(absl::StrCat(out->directory, "/", stem), absl::StrCat(stem, ".answers.jsonl"), out);
  }
  const std::filesystem::path own =
      std::filesystem::absolute(out->directory + "/.", error).lexically_normal();
  const std::filesystem::path folder = own.parent_path();  // `own` ends in a slash
  if (!error)
    ReadShortForm(folder.string(), absl::StrCat("../", folder.filename().string(), ".answers.jsonl"), out);
}

}  // namespace

EvaluationLog ReadSuiteResult(const std::string& directory) {
  EvaluationLog log;
  AddEvaluationSummary(directory + "/summary.json", &log);
  AddAnswers(directory + "/samples.jsonl", &log);
  log.name = std::filesystem::path(directory).filename().string();
  return log;
}

RunContents ReadRunContents(const std::string& directory) {
  RunContents out;
  out.directory = directory;
  ReadMetricsOf(&out);
  ReadEnvironment(&out);
  config::ReadSmallFile(directory + "/resolved.yaml", kMaxConfigBytes, &out.config);
  if (out.config.empty()) config::ReadSmallFile(directory + "/stage.yaml", kMaxConfigBytes, &out.stage_text);
  if (out.is_training()) ReadSamples(&out);
  ReadWarnings(&out);
  ReadCheckpoints(&out);
  ReadEvaluations(&out);
  return out;
}

}  // namespace tanren
