#include "launch/runs_verb.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "core/base/status.h"
#include "core/config/text.h"
#include "core/pipeline/run_state.h"
#include "launch/scheduler.h"
#include "nlohmann/json.hpp"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

std::string AgeText(double seconds) {
  if (seconds < 0) return "-";
  if (seconds < 120) return absl::StrFormat("%.0f s", seconds);
  if (seconds < 7200) return absl::StrFormat("%.0f min", seconds / 60);
  if (seconds < 48 * 3600) return absl::StrFormat("%.0f h", seconds / 3600);
  return absl::StrFormat("%.0f d", seconds / 86400);
}

std::string StepText(const RunState& run) {
  if (run.step < 0 && run.steps == 0) return "-";
  const std::string step = run.step < 0 ? "-" : absl::StrCat(run.step);
  return run.steps > 0 ? absl::StrCat(step, "/", run.steps) : step;
}

void PrintTable(const std::vector<RunState>& runs) {
  std::vector<std::vector<std::string>> rows = {{"run", "stage", "step", "state", "metric", "age", ""}};
  for (const RunState& run : runs) {
    rows.push_back({config::Printable(run.directory), run.stage.empty() ? "-" : run.stage, StepText(run),
                    run.state, run.metric.empty() ? "-" : run.metric, AgeText(run.age_seconds), run.detail});
  }
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i],
                      std::string(i + 1 < row.size() ? widths[i] - row[i].size() + 2 : 0, ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

void PrintJson(const std::vector<RunState>& runs) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const RunState& run : runs) {
    nlohmann::ordered_json object;
    object["run"] = run.directory;
    object["stage"] = run.stage;
    object["state"] = run.state;
    object["step"] = run.step;
    object["steps"] = run.steps;
    object["metric"] = run.metric;
    object["age_seconds"] = run.age_seconds;
    object["detail"] = run.detail;
    list.push_back(std::move(object));
  }
  std::printf("%s\n", list.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

absl::Status List(const RunsLsOptions& options) {
  std::vector<std::string> directories = options.directories;
  if (directories.empty()) directories.emplace_back("runs");
  std::map<std::string, std::string> known;  // jobs that were asked for
  const AskScheduler ask = [&](const std::string& job) {
    const auto [found, is_new] = known.emplace(job, "");
    if (is_new) found->second = JobState(job);
    return found->second;
  };
  std::vector<RunState> runs;
  for (const std::string& directory : directories) {
    TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> found, FindRuns(directory));
    for (const std::string& run : found) runs.push_back(ReadRunState(run, ask));
  }
  if (options.json) {
    PrintJson(runs);
  } else if (runs.empty()) {
    std::printf("no runs\n");
  } else {
    PrintTable(runs);
  }
  return absl::OkStatus();
}

}  // namespace

int RunsLs(const RunsLsOptions& options) {
  const absl::Status status = List(options);
  std::fflush(stdout);
  return StatusExit(status);
}

}  // namespace tanren
