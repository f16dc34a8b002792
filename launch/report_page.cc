#include "launch/report_page.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/pipeline/run_state.h"
#include "core/pipeline/stage_record.h"
#include "core/report/run_figures.h"
#include "launch/scheduler.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

namespace fs = std::filesystem;

std::optional<double> NumberIn(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end() || !member->is_number()) return std::nullopt;
  return member->get<double>();
}

// "a/b/" and "a/b" as "a/b"; "." as it is.
std::string WithoutSlash(const std::string& path) {
  return path.substr(0, std::max<size_t>(path.find_last_not_of('/') + 1, 1));
}

std::string NameIn(const std::string& run, const std::string& home) {
  if (run != home) return fs::path(run).lexically_relative(home).string();
  std::error_code error;
  const fs::path whole = fs::absolute(run, error).lexically_normal();
  return error || whole.filename().empty() ? run : whole.filename().string();
}

bool IsSameWork(const StageSummary& a, const StageSummary& b) {
  return a.steps == b.steps && a.tokens == b.tokens;
}

// The row of that name; or that of the same work under another name, where that can be no other run's.
const StageSummary* FindRow(const std::vector<StageSummary>& rows, const std::vector<StageSummary>& own,
                            const StageSummary& run) {
  for (const StageSummary& row : rows) {
    if (row.name == run.name) return &row;
  }
  const auto is_same = [&](const StageSummary& other) { return IsSameWork(other, run); };
  if (std::ranges::count_if(own, is_same) != 1) return nullptr;
  for (const StageSummary& row : rows) {
    const bool is_of_a_run = std::ranges::find(own, row.name, &StageSummary::name) != own.end();
    if (!is_of_a_run && is_same(row)) return &row;
  }
  return nullptr;
}

// What the run's own files say of it.
StageSummary OwnRow(const RunContents& run) {
  const absl::StatusOr<RunFigures> figures = ReadRunFigures(run.directory);
  StageSummary row = SummaryOfRun(run.name, figures.ok() ? *figures : RunFigures());
  if (figures.ok()) AddEvaluation(run.directory + ".json", &row).IgnoreError();
  return row;
}

void SetRows(const std::vector<StageSummary>& rows, std::vector<RunContents>* runs) {
  std::vector<StageSummary> own;
  for (const RunContents& run : *runs) own.push_back(OwnRow(run));
  for (size_t i = 0; i < own.size(); ++i) {
    const StageSummary* row = (*runs)[i].has_metrics ? FindRow(rows, own, own[i]) : nullptr;
    (*runs)[i].summary = row != nullptr ? *row : own[i];
  }
}

std::string FirstTime(const RunContents& run) {
  if (!run.starts.empty()) return run.starts.front().time;
  const std::optional<StageRecord> record = ReadStageRecord(run.directory);
  return record.has_value() ? record->time : "~";  // not begun: behind every date
}

// Suites that were measured into a directory of the home's own.
std::vector<EvaluationLog> SuitesIn(const std::string& home, const std::vector<std::string>& runs) {
  std::vector<std::string> directories;
  std::error_code error;
  for (fs::directory_iterator entry(home, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    const std::string path = absl::StrCat(home, "/", entry->path().filename().string());
    if (entry->is_directory(ignored) && std::ranges::find(runs, path) == runs.end())
      directories.push_back(path);
  }
  std::ranges::sort(directories);
  std::vector<EvaluationLog> suites;
  for (const std::string& directory : directories) {
    if (!fs::is_regular_file(directory + "/summary.json", error)) continue;
    if (EvaluationLog log = ReadSuiteResult(directory); !log.empty()) suites.push_back(std::move(log));
  }
  return suites;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> RunsOf(const std::string& directory) {
  const std::string path = WithoutSlash(directory);
  std::error_code error;
  if (fs::is_regular_file(path + "/metrics.jsonl", error)) return std::vector<std::string>{path};
  TANREN_ASSIGN_OR_RETURN(std::vector<std::string> runs, FindRuns(path));
  if (runs.empty()) {
    return absl::NotFoundError(absl::StrCat(
        path,
        "/metrics.jsonl: cannot be read, and no directory below is a run: name the directory of a "
        "run, or of the stages of a pipeline"));
  }
  return runs;
}

ReportPage GatherReport(const std::string& directory, const std::vector<std::string>& runs) {
  const std::string home = WithoutSlash(directory);
  ReportPage page;
  page.title = home;
  for (const std::string& run : runs) {
    RunContents contents = ReadRunContents(run);
    contents.name = NameIn(run, home);
    const RunState state = ReadRunState(run, JobState);
    contents.kind = state.stage;
    contents.state = state.state;
    contents.detail = state.detail;
    page.runs.push_back(std::move(contents));
  }
  const bool is_home = runs.size() > 1 || runs[0] != home;
  const absl::StatusOr<std::vector<StageSummary>> rows =
      ReadSummary(absl::StrCat(home, is_home ? "" : "/..", "/summary.json"));
  SetRows(rows.ok() ? *rows : std::vector<StageSummary>(), &page.runs);
  std::ranges::stable_sort(page.runs, {}, FirstTime);
  if (is_home) page.evaluations = SuitesIn(home, runs);
  return page;
}

absl::Status AddEvaluation(const std::string& path, StageSummary* stage) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("--evaluation: cannot read ", path));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const std::optional<double> accuracy =
      object.is_object() ? NumberIn(object, "accuracy") : std::optional<double>();
  if (!accuracy.has_value()) {
    return InvalidInput("--evaluation: %s has no number \"accuracy\": name a file of `tanren eval --summary`",
                        path);
  }
  stage->accuracy = accuracy;
  stage->majority = NumberIn(object, "majority");
  if (const std::optional<double> kl = NumberIn(object, "kl"); kl.has_value()) stage->kl = kl;
  stage->best_of_n = NumberIn(object, "best_of_n");
  const auto by_difficulty = object.find("by_difficulty");
  if (by_difficulty != object.end() && by_difficulty->is_object()) {
    stage->accuracy_harder = NumberIn(*by_difficulty, "harder");
  }
  return absl::OkStatus();
}

}  // namespace tanren
