#include "launch/submit_verb.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/config/config.h"
#include "core/config/schema.h"
#include "core/config/small_file.h"
#include "core/config/text.h"
#include "core/pipeline/batch_script.h"
#include "core/pipeline/plan.h"
#include "core/pipeline/run_state.h"
#include "core/pipeline/shell.h"
#include "core/report/append_file.h"
#include "launch/scheduler.h"
#include "launch/submit_local.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

constexpr size_t kMaxTextBytes = 1 << 20;

std::string ScriptPath(const PlannedStage& stage) { return stage.directory + "/job.sh"; }

std::string ThisProgram() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

struct Task {
  const PlannedStage* stage = nullptr;
  Progress progress = Progress::kNothing;
  std::string script;
  std::string job;  // waits or runs already; empty: none
};

// What is to be done, in order: nothing has been written yet.
struct Agenda {
  PipelinePlan plan;
  std::vector<Task> tasks;         // one for each stage
  std::vector<std::string> aside;  // stages whose directories are set aside
};

absl::Status CheckNames(const PipelinePlan& plan, const char* option, const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const PlannedStage& stage : plan.stages) known.push_back(stage.name);
  for (const std::string& name : names) {
    if (std::ranges::count(known, name) > 0) continue;
    return InvalidInput("%s: there is no stage %s%s", option, config::Printable(name),
                        config::SuggestChoice(known, name));
  }
  return absl::OkStatus();
}

// The job that works, or will work, on a stage. One that was submitted with other settings is refused.
absl::StatusOr<std::string> LiveJob(const PlannedStage& stage) {
  const std::string job = ReadJobId(stage.directory);
  const std::string state = job.empty() ? "" : JobState(job);
  if (state.empty()) return "";
  std::string text;
  config::ReadSmallFile(stage.directory + "/stage.yaml", kMaxTextBytes, &text);
  if (text == stage.text) return job;
  return absl::FailedPreconditionError(absl::StrCat("stage ", stage.name, ": job ", job, " is ", state,
                                                    " with other settings; scancel ", job, " first"));
}

// Directories that --redo sets aside: the named stages, and what came of them.
std::vector<std::string> SetAside(const PipelinePlan& plan, const std::vector<std::string>& redo) {
  std::vector<std::string> names;
  for (const PlannedStage& stage : plan.stages) {
    const bool behind = std::ranges::any_of(
        stage.ancestors, [&](const std::string& before) { return std::ranges::count(redo, before) > 0; });
    if (!behind && std::ranges::count(redo, stage.name) == 0) continue;
    std::error_code error;
    if (std::filesystem::exists(stage.directory, error)) names.push_back(stage.name);
  }
  return names;
}

// Errors of all stages at once.
absl::StatusOr<Agenda> MakeAgenda(const SubmitOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const config::PipelineConfig pipeline,
                          LoadPipeline(options.pipeline, options.overrides));
  Agenda agenda;
  TANREN_ASSIGN_OR_RETURN(agenda.plan, PlanPipeline(pipeline));
  TANREN_RETURN_IF_ERROR(CheckNames(agenda.plan, "--redo", options.redo));
  TANREN_RETURN_IF_ERROR(CheckNames(agenda.plan, "--keep", options.keep));
  agenda.aside = SetAside(agenda.plan, options.redo);
  ScriptOptions script;
  script.pipeline = agenda.plan.name;
  script.local = options.local;
  script.program = ThisProgram();
  script.working_directory = std::filesystem::current_path().string();
  std::vector<std::string> errors;
  for (const PlannedStage& stage : agenda.plan.stages) {
    Task task{&stage, Progress::kNothing, StageScript(stage, script), ""};
    const bool kept = std::ranges::count(options.keep, stage.name) > 0;
    const bool anew = std::ranges::count(agenda.aside, stage.name) > 0;
    const RunState now = ReadRunState(stage.directory, JobState);
    absl::StatusOr<std::string> job = LiveJob(stage);
    const bool at_work = now.state == "running" || now.state == "queued";
    if (at_work && job.ok() && (anew || kept || options.local || job->empty())) {
      errors.push_back(absl::StrCat("stage ", stage.name, " is ", now.state, " (", now.detail,
                                    "); end that first, or, if it is gone, remove ", stage.directory,
                                    "/stage.json"));
    } else if (!anew && !kept) {
      absl::StatusOr<Progress> progress = ProgressOf(stage);
      if (!progress.ok()) errors.emplace_back(progress.status().message());
      if (progress.ok() && !job.ok()) errors.emplace_back(job.status().message());
      task.progress = progress.value_or(Progress::kNothing);
      task.job = job.value_or("");
    }
    agenda.tasks.push_back(std::move(task));
  }
  if (!errors.empty()) return absl::FailedPreconditionError(absl::StrJoin(errors, "\n"));
  return agenda;
}

absl::Status MoveAside(const PlannedStage& stage) {
  for (int number = 1; number < 10'000; ++number) {
    const std::string target = absl::StrCat(stage.directory, ".old-", number);
    std::error_code error;
    if (std::filesystem::exists(target, error)) continue;
    std::filesystem::rename(stage.directory, target, error);
    if (error)
      return absl::InternalError(absl::StrCat("cannot rename ", stage.directory, ": ", error.message()));
    std::printf("%s: set aside as %s\n", stage.name.c_str(), target.c_str());
    return absl::OkStatus();
  }
  return InvalidInput("%s: too many old directories beside it; remove some", stage.directory);
}

// What lies in the directory counts as this stage's: finished where it was, else to be gone on with.
absl::Status Adopt(Task* task) {
  const PlannedStage& stage = *task->stage;
  const std::optional<StageRecord> record = ReadStageRecord(stage.directory);
  const int64_t step = ReadRunState(stage.directory, [](const std::string&) { return ""; }).step;
  const bool finished = stage.kind == StageKind::kTrain ? step >= stage.steps
                                                        : record.has_value() && record->state == "finished";
  task->progress = finished ? Progress::kFinished : Progress::kBegun;
  return ReplaceSmallFile(
      stage.directory + "/stage.json",
      absl::StrFormat("{\"state\":\"%s\",\"exit_code\":%d,\"hash\":\"%s\"}\n",
                      finished ? "finished" : "saved", finished ? 0 : kExitRequeue, stage.hash));
}

absl::Status Prepare(const SubmitOptions& options, Agenda* agenda) {
  for (Task& task : agenda->tasks) {
    const PlannedStage& stage = *task.stage;
    if (std::ranges::count(agenda->aside, stage.name) > 0) TANREN_RETURN_IF_ERROR(MoveAside(stage));
    std::error_code error;
    std::filesystem::create_directories(stage.directory, error);
    if (error) return InvalidInput("home: cannot make %s: %s", stage.directory, error.message());
    if (std::ranges::count(options.keep, stage.name) > 0) TANREN_RETURN_IF_ERROR(Adopt(&task));
    if (task.progress == Progress::kFinished || !task.job.empty()) continue;
    TANREN_RETURN_IF_ERROR(ReplaceSmallFile(stage.directory + "/stage.yaml", stage.text));
    TANREN_RETURN_IF_ERROR(ReplaceSmallFile(ScriptPath(stage), task.script));
  }
  return absl::OkStatus();
}

// Jobs that a stage waits for; a stage that is not submitted yet stands for itself.
std::vector<std::string> JobsBefore(const Agenda& agenda, const Task& task, bool named) {
  std::vector<std::string> jobs;
  for (const Task& other : agenda.tasks) {
    if (std::ranges::count(task.stage->after, other.stage->name) == 0 ||
        other.progress == Progress::kFinished)
      continue;
    jobs.push_back(other.job.empty() && named ? absl::StrCat("<job of ", other.stage->name, ">") : other.job);
  }
  return jobs;
}

void Print(const SubmitOptions& options, const Agenda& agenda) {
  for (const Task& task : agenda.tasks) {
    const std::string path = ScriptPath(*task.stage);
    if (task.progress == Progress::kFinished) {
      std::printf("# ---- %s: finished already\n\n", task.stage->name.c_str());
      continue;
    }
    if (!task.job.empty()) {
      std::printf("# ---- %s: job %s\n\n", task.stage->name.c_str(), task.job.c_str());
      continue;
    }
    const std::string how = options.local ? absl::StrCat("bash ", path)
                                          : ShellJoin(SbatchCommand(path, JobsBefore(agenda, task, true)));
    std::printf("# ---- %s: %s\n%s\n", task.stage->name.c_str(), how.c_str(), task.script.c_str());
  }
}

absl::Status SubmitAll(Agenda* agenda) {
  for (Task& task : agenda->tasks) {
    const PlannedStage& stage = *task.stage;
    if (task.progress == Progress::kFinished) {
      std::printf("%s: finished already\n", stage.name.c_str());
      continue;
    }
    if (!task.job.empty()) {
      std::printf("%s: job %s, already submitted\n", stage.name.c_str(), task.job.c_str());
      continue;
    }
    const std::vector<std::string> before = JobsBefore(*agenda, task, false);
    absl::StatusOr<std::string> job = SubmitJob(ScriptPath(stage), before);
    TANREN_RETURN_IF_ERROR(At(absl::StrCat("stage ", stage.name), job.status()));
    task.job = *job;
    TANREN_RETURN_IF_ERROR(ReplaceSmallFile(stage.directory + "/job.id", *job + "\n"));
    std::printf("%s: job %s%s, %s/job.log\n", stage.name.c_str(), job->c_str(),
                before.empty() ? "" : absl::StrCat(" after ", absl::StrJoin(before, ", ")).c_str(),
                stage.directory.c_str());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> RunAll(const Agenda& agenda) {
  const StopRequests requests;
  for (const Task& task : agenda.tasks) {
    const PlannedStage& stage = *task.stage;
    if (task.progress == Progress::kFinished) {
      std::printf("tanren stage %s: finished already\n", stage.name.c_str());
      continue;
    }
    const bool stopped_before = StopRequests::count() > 0;
    int code = kExitRequeue;
    if (!stopped_before) {
      TANREN_ASSIGN_OR_RETURN(code, RunScript(ScriptPath(stage), stage.directory + "/job.log", requests));
    }
    if (code == 0) continue;
    std::fprintf(stderr, "tanren submit: stopped %s stage %s, exit code %d%s\n",
                 stopped_before ? "before" : "in", stage.name.c_str(), code,
                 code == kExitRequeue ? ": run it again to go on" : "");
    return code;
  }
  return kExitDone;
}

absl::StatusOr<int> Run(const SubmitOptions& options) {
  TANREN_ASSIGN_OR_RETURN(Agenda agenda, MakeAgenda(options));
  if (options.print) {
    Print(options, agenda);
    return kExitDone;
  }
  TANREN_RETURN_IF_ERROR(Prepare(options, &agenda));
  if (options.local) return RunAll(agenda);
  TANREN_RETURN_IF_ERROR(SubmitAll(&agenda));
  std::printf("see: tanren runs ls %s\n", agenda.plan.home.c_str());
  return kExitDone;
}

}  // namespace

int Submit(const SubmitOptions& options) {
  const absl::StatusOr<int> code = Run(options);
  std::fflush(stdout);
  return code.ok() ? *code : StatusExit(code.status());
}

int PipelineSchema() {
  std::fputs(config::JsonSchema(config::PipelineConfig::descriptor(), "Tanren pipeline").c_str(), stdout);
  return kExitDone;
}

int PipelineTable() {
  std::fputs(config::MarkdownTable(config::PipelineConfig::descriptor()).c_str(), stdout);
  return kExitDone;
}

}  // namespace tanren
