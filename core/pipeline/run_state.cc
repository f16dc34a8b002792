#include "core/pipeline/run_state.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/checkpoint/run_directory.h"
#include "core/config/config.h"
#include "core/config/small_file.h"
#include "core/config/text.h"
#include "core/report/run_figures.h"

namespace tanren {
namespace {

constexpr size_t kMaxTextBytes = 1 << 20;
constexpr int kLevels = 3;
constexpr size_t kMaxRuns = 10'000;

std::string ThisHost() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return host;
}

// A process of another user exists too.
bool Lives(int64_t process) {
  return process > 0 && (kill(static_cast<pid_t>(process), 0) == 0 || errno == EPERM);
}

// The newest committed step; -1: none.
int64_t NewestCommit(const std::string& directory) {
  const absl::StatusOr<Directory> run = Directory::Open(directory);
  if (!run.ok()) return -1;
  const absl::StatusOr<std::vector<std::string>> steps = ListSteps(*run);
  if (!steps.ok()) return -1;
  for (const std::string& step : *steps) {
    if (LooksCommitted(*run, step)) return ParseStepName(step);
  }
  return -1;
}

// stage and train.steps of a training run.
void ReadResolved(RunState* state) {
  std::string text;
  const std::string path = state->directory + "/resolved.yaml";
  if (!config::ReadSmallFile(path, kMaxTextBytes, &text).empty()) return;
  const absl::StatusOr<config::Config> config = config::LoadSavedConfig(text, path);
  if (!config.ok()) return;
  state->stage = config->stage();
  state->steps = config->train().steps();
}

double AgeSeconds(const std::string& directory) {
  time_t newest = 0;
  for (const char* name : {"stage.json", "job.id", "job.log", "metrics.jsonl", "resolved.yaml"}) {
    struct stat info;
    if (stat((directory + "/" + name).c_str(), &info) == 0) newest = std::max(newest, info.st_mtime);
  }
  return newest == 0 ? -1 : std::max(0.0, std::difftime(time(nullptr), newest));
}

// "host H, process N, since ..": whoever holds, or left, the run's lock.
void JudgeByLock(RunState* state) {
  std::string owner;
  config::ReadSmallFile(state->directory + "/run.lock", 4096, &owner);
  while (!owner.empty() && owner.back() == '\n') owner.pop_back();
  if (!owner.empty()) {
    char host[256] = "";
    long long process = 0;
    std::sscanf(owner.c_str(), "host %255[^,], process %lld", host, &process);
    const bool elsewhere = ThisHost() != host;
    state->state = elsewhere || Lives(process) ? "running" : "interrupted";
    state->detail =
        absl::StrCat(state->state == "running" ? "" : "stale lock: ", config::Printable(owner, 120),
                     elsewhere ? ", not seen from here" : "");
  } else if (state->step >= 0) {
    const bool finished = state->steps > 0 && state->step >= state->steps;
    state->state = finished ? "finished" : "saved";
  }
}

void JudgeRunning(const StageRecord& record, const std::string& queue, RunState* state) {
  const std::string owner = absl::StrCat(record.job.empty() ? "" : absl::StrCat("job ", record.job, ", "),
                                         "host ", config::Printable(record.host), ", process ",
                                         record.process, ", since ", config::Printable(record.time));
  const bool here = record.host == ThisHost();
  if (queue == "PENDING") {
    state->state = "queued";
  } else if (!queue.empty() || (here && Lives(record.process)) || (!here && record.job.empty())) {
    state->state = "running";
  } else {
    state->state = "interrupted";
  }
  state->detail = absl::StrCat(owner, state->state == "interrupted" ? ", which is gone" : "",
                               !here && record.job.empty() ? ", not seen from here" : "");
}

void JudgeByRecord(const StageRecord& record, const std::string& queue, RunState* state) {
  if (record.state == "running") return JudgeRunning(record, queue, state);
  state->state = record.state;
  if (record.state == "failed") {
    state->detail = absl::StrCat("exit code ", record.exit_code, ": ", LastErrorLine(state->directory));
  } else if (record.state != "finished") {
    if (!queue.empty()) state->state = "queued";
    state->detail = absl::StrCat(record.job.empty() ? "" : absl::StrCat("job ", record.job, ", "),
                                 "continued ", record.restarts, " times");
  }
}

// The first line of `now` that `was` does not have at the same place.
std::string FirstDifference(const std::string& was, const std::string& now) {
  const std::vector<std::string> old_lines = absl::StrSplit(was, '\n');
  const std::vector<std::string> new_lines = absl::StrSplit(now, '\n');
  for (size_t i = 0; i < std::max(old_lines.size(), new_lines.size()); ++i) {
    const std::string before = i < old_lines.size() ? old_lines[i] : "";
    const std::string after = i < new_lines.size() ? new_lines[i] : "";
    if (before == after) continue;
    return absl::StrCat("was \"", config::Printable(before), "\", now \"", config::Printable(after), "\"");
  }
  return "";
}

absl::Status OtherSettings(const PlannedStage& stage, const StageRecord& record) {
  std::string was;
  config::ReadSmallFile(stage.directory + "/stage.yaml", kMaxTextBytes, &was);
  const bool known = Sha256Hex(was) == record.hash;
  return absl::FailedPreconditionError(absl::StrCat(
      "stage ", stage.name, ": ", stage.directory,
      record.state == "finished" ? " was finished" : " was begun", " with other settings",
      known ? absl::StrCat(" (", FirstDifference(was, stage.text), ")") : "", "; --redo ", stage.name,
      " sets it aside and begins again, --keep ", stage.name, " goes on from what is there"));
}

bool IsRun(const std::filesystem::path& path) {
  std::error_code error;
  for (const char* name : {"stage.json", "stage.yaml", "job.id", "resolved.yaml", "run.lock"}) {
    if (std::filesystem::is_regular_file(path / name, error)) return true;
  }
  return NewestCommit(path.string()) >= 0;
}

void Gather(const std::filesystem::path& path, int levels, std::vector<std::string>* runs) {
  if (runs->size() >= kMaxRuns) return;
  if (IsRun(path)) return runs->push_back(path.string());
  if (levels == 0) return;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored) && !entry->is_symlink(ignored)) Gather(entry->path(), levels - 1, runs);
  }
}

RunState LookAt(const std::string& directory, const AskScheduler& ask) {
  RunState state;
  state.directory = directory;
  state.step = NewestCommit(directory);
  ReadResolved(&state);
  state.age_seconds = AgeSeconds(directory);
  if (const auto figures = ReadRunFigures(directory); figures.ok() && figures->loss.has_value()) {
    state.metric = absl::StrFormat("loss %.4g at step %d", *figures->loss, figures->step);
  }
  const std::optional<StageRecord> record = ReadStageRecord(directory);
  const std::string job = ReadJobId(directory);
  if (!job.empty() && (!record.has_value() || record->job != job)) {
    const std::string queue = ask(job);
    if (!queue.empty()) {
      state.state = queue == "RUNNING" ? "running" : "queued";
      state.detail = absl::StrCat("job ", job, " ", config::Printable(queue));
      return state;
    }
  }
  if (record.has_value()) {
    JudgeByRecord(*record, record->job.empty() ? "" : ask(record->job), &state);
  } else {
    JudgeByLock(&state);
    if (state.state == "new" && !job.empty()) {
      state.state = "interrupted";
      state.detail = absl::StrCat("job ", job, " is not in the queue, and left no record");
    }
  }
  return state;
}

}  // namespace

RunState ReadRunState(const std::string& directory, const AskScheduler& ask) {
  RunState state = LookAt(directory, ask);
  // Between reading what a process wrote and finding it gone, it may have written how it ended.
  if (state.state == "interrupted") state = LookAt(directory, ask);
  return state;
}

absl::StatusOr<Progress> ProgressOf(const PlannedStage& stage) {
  const std::optional<StageRecord> record = ReadStageRecord(stage.directory);
  const int64_t step = NewestCommit(stage.directory);
  if (!record.has_value()) {
    if (step < 0) return Progress::kNothing;
    return absl::FailedPreconditionError(absl::StrCat(
        "stage ", stage.name, ": ", stage.directory, " holds a run that no pipeline began; --redo ",
        stage.name, " sets it aside, --keep ", stage.name, " goes on from it"));
  }
  if (record->hash != stage.hash) {
    // A failure that was mended, for example: there is nothing yet that other settings could spoil.
    if (record->state != "finished" && step < 0) return Progress::kNothing;
    return OtherSettings(stage, *record);
  }
  if (record->state != "finished") return Progress::kBegun;
  if (stage.kind == StageKind::kTrain && step < stage.steps) {
    return absl::FailedPreconditionError(
        absl::StrCat("stage ", stage.name, ": ", stage.directory,
                     " was finished, but its last step is not there any more; --redo ", stage.name,
                     " makes it anew, --keep ", stage.name, " goes on from what is there"));
  }
  return Progress::kFinished;
}

absl::StatusOr<std::vector<std::string>> FindRuns(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrCat(config::Printable(path), ": there is no such directory"));
  }
  std::vector<std::string> runs;
  const std::string trimmed = path.substr(0, std::max<size_t>(path.find_last_not_of('/') + 1, 1));
  Gather(trimmed, kLevels, &runs);
  std::ranges::sort(runs);
  return runs;
}

}  // namespace tanren
