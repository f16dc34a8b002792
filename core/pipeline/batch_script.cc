#include "core/pipeline/batch_script.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/pipeline/shell.h"

namespace tanren {
namespace {

using config::SlurmConfig;

// The same for every stage; the variables are set above it.
constexpr char kBody[] = R"BASH(
signals=0
pid=

say() { printf 'tanren stage %s: %s\n' "$stage" "$*"; }

# record STATE EXIT_CODE: what the next submission and `tanren runs ls` read.
record() {
  printf '{"state":"%s","exit_code":%d,"hash":"%s","job":"%s","host":"%s","process":%d,"restarts":%d,"time":"%s"}\n' \
    "$1" "$2" "$hash" "$job" "$HOSTNAME" "$$" "$restarts" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$directory/stage.json.new" &&
    mv -f -- "$directory/stage.json.new" "$directory/stage.json"
}

# A training run saves when it is asked to; other work is ended, and begun again later.
stop() {
  signals=$((signals + 1))
  [ -n "$pid" ] || return 0
  if [ "$saves" = yes ]; then
    kill -USR1 "$pid" 2>/dev/null
  else
    kill -TERM -- "-$pid" 2>/dev/null
    { sleep 5; kill -KILL -- "-$pid"; } 2>/dev/null 9>&- &
  fi
}

# Ends the work at once.
# shellcheck disable=SC2317 # a trap calls it
abandon() {
  if [ -n "$pid" ]; then kill -KILL -- "-$pid" 2>/dev/null; fi
  record failed 130
  say "ended at once, by request"
  exit 130
}

# Waits for the work through any number of signals; its exit code is left in `code`.
wait_for_work() {
  local before last
  code=0
  while :; do
    before=$signals
    wait "$pid"
    last=$?
    # 127: it had ended when the signal came, and its code is known.
    if [ "$last" -eq 127 ] && [ "$code" -gt 128 ]; then return; fi
    code=$last
    if [ "$code" -le 128 ] || [ "$signals" -eq "$before" ]; then return; fi
  done
}

job_state() { squeue -h -j "$job" -o %T 2>/dev/null || echo unknown; }

# The same job goes on, so that those that depend on it wait for its end. A job that the scheduler is ending
# (cancelled, preempted, out of time) is left to it.
go_on_later() {
  local state
  if [ -z "$job" ]; then
    say "stopped; run it again to go on"
    exit 75
  fi
  if [ "$restarts" -ge "$max_continuations" ]; then
    say "stopped; it went on $restarts times already: raise slurm.max_continuations ($max_continuations), or submit again"
    exit 75
  fi
  state=$(job_state)
  if [ "$state" != RUNNING ]; then
    say "stopped; job $job is $state, and left to the scheduler"
    exit 75
  fi
  say "stopped; goes on as job $job, continuation $((restarts + 1)) of at most $max_continuations"
  if ! scontrol requeue "$job"; then
    say "job $job cannot be requeued: submit again"
    exit 75
  fi
  exec 9>&-
  trap - USR1 TERM INT HUP
  sleep 300 # the scheduler ends this script before that
  exit 75
}

trap stop USR1 TERM INT HUP
trap abandon USR2
# Whoever reads the output may be gone: what became of the work must be recorded all the same. A handler, not
# '', so that the work does not inherit it.
trap : PIPE
mkdir -p -- "$directory" || exit 1
exec 9>>"$directory/stage.lock" || exit 1
if ! flock -w "$lock_seconds" 9; then
  say "another process works in $directory: see stage.json there"
  exit 1
fi
if grep -qs '^{"state":"finished".*"hash":"'"$hash"'"' "$directory/stage.json"; then
  say "finished already"
  exit 0
fi
say "begins${job:+ as job $job} on $HOSTNAME, $(date -u +%Y-%m-%dT%H:%M:%SZ)"
record running 0 || exit 1
if [ -n "$done_file" ]; then
  rm -f -- "$done_file" || exit 1
  export TANREN_DONE=$done_file
fi
set -m
if [ "$signals" -eq 0 ]; then
  start </dev/null &
  pid=$!
  # A signal may have come when there was nobody yet to hear it.
  if [ "$signals" -gt 0 ]; then stop; fi
  wait_for_work
else
  code=75
fi
# 138: ended by USR1 before it could handle it, so nothing was begun.
if [ "$signals" -gt 0 ] && [ "$code" -ne 0 ]; then
  if [ "$saves" = no ] || [ "$code" -eq 138 ]; then code=75; fi
fi
# A launcher may end with 0 where a node has failed, and the work has not ended.
if [ "$code" -eq 0 ] && [ -n "$done_file" ] && [ ! -e "$done_file" ]; then
  record interrupted 1
  say "its launcher ended with 0 before the work had: a node failed, or the step was cancelled; goes on if the job runs again"
  exit 1
fi
case $code in
  0)
    record finished 0
    say "finished"
    exit 0
    ;;
  75)
    if [ "$saves" = yes ]; then record saved 75; else record stopped 75; fi
    go_on_later
    ;;
  3) reason="a gate was missed" ;;
  2) reason="wrong input" ;;
  *) reason="see above" ;;
esac
# Killed because the whole job is ended or requeued, before anything could be saved.
if [ "$code" -gt 128 ] && [ -n "$job" ] && [ "$(job_state)" != RUNNING ]; then
  record interrupted "$code"
  say "ended by the scheduler before it could save; goes on from the newest commit if the job runs again"
  exit "$code"
fi
record failed "$code"
say "failed with exit code $code: $reason; no later stage runs"
exit "$code"
)BASH";

bool Saves(const PlannedStage& stage) { return stage.kind == StageKind::kTrain; }

// An argument of a #SBATCH line: sbatch splits at spaces, and knows quotes and backslashes.
std::string SbatchQuote(const std::string& text) {
  if (ShellQuote(text) == text) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

// "%j" and the like would be filled in.
std::string LogName(const std::string& path) {
  std::string name;
  for (const char c : path) name += c == '%' ? "%%" : std::string(1, c);
  return name;
}

std::string SbatchLines(const PlannedStage& stage, const ScriptOptions& options) {
  const SlurmConfig& slurm = stage.slurm;
  std::string lines;
  const auto add = [&](const std::string& line) { absl::StrAppend(&lines, "#SBATCH ", line, "\n"); };
  const auto word = [&](const char* key, const std::string& value) {
    if (!value.empty()) add(absl::StrCat(key, "=", SbatchQuote(value)));
  };
  const auto number = [&](const char* key, int64_t value) {
    if (value > 0) add(absl::StrCat(key, "=", value));
  };
  const std::filesystem::path home = std::filesystem::path(options.working_directory) / stage.directory;
  word("--job-name", absl::StrCat(options.pipeline, ".", stage.name));
  word("--chdir", options.working_directory);
  word("--output", LogName((home.lexically_normal() / "job.log").string()));
  add("--open-mode=append");
  add("--requeue");
  // Only a training run can be told of the coming end.
  if (Saves(stage)) add(absl::StrCat("--signal=B:USR1@", slurm.signal_seconds()));
  word("--partition", slurm.partition());
  word("--account", slurm.account());
  word("--qos", slurm.qos());
  number("--nodes", std::min(slurm.nodes(), stage.ranks));
  number("--ntasks", stage.ranks);
  number("--ntasks-per-node", std::min(slurm.tasks_per_node(), stage.ranks));
  number("--cpus-per-task", slurm.cpus_per_task());
  number("--gpus-per-node", stage.kind == StageKind::kRun ? 0 : slurm.gpus_per_node());
  word("--mem", slurm.memory());
  word("--time", slurm.time());
  for (const std::string& line : slurm.options()) add(line);
  return lines;
}

bool UsesSrun(const PlannedStage& stage, const ScriptOptions& options) {
  return !options.local && stage.kind != StageKind::kRun && stage.slurm.launcher() == SlurmConfig::srun;
}

// Behind "srun --ntasks=N".
std::vector<std::string> SrunWords(const PlannedStage& stage, const std::string& program) {
  const SlurmConfig& slurm = stage.slurm;
  // Ranks that save end with 75 one shortly after the other. Killing the rest at the first of them, which
  // sites may have as default, would make the step's exit code that of the kill; --wait gives them time, and
  // still ends a step of which a rank has died.
  std::vector<std::string> words = {absl::StrCat("--mpi=", slurm.mpi()), "--kill-on-bad-exit=0", "--wait=30"};
  // Since SLURM 22.05 a step does not take this over from its job.
  if (slurm.cpus_per_task() > 0) words.push_back(absl::StrCat("--cpus-per-task=", slurm.cpus_per_task()));
  const config::ContainerConfig& container = slurm.container();
  const bool pyxis = container.runtime() == config::ContainerConfig::pyxis;
  if (!container.image().empty()) {
    if (pyxis) {
      words.push_back(absl::StrCat("--container-image=", container.image()));
    } else {
      words.insert(words.end(), {"apptainer", "exec"});
    }
    words.insert(words.end(), container.options().begin(), container.options().end());
    if (!pyxis) words.push_back(container.image());
  }
  words.push_back(program);
  return words;
}

// One line: the process that is waited for.
std::string WorkCommand(const PlannedStage& stage, const ScriptOptions& options, const std::string& program) {
  if (stage.kind == StageKind::kRun) {
    std::string lines;
    for (const std::string& line : stage.lines) absl::StrAppend(&lines, lines.empty() ? "" : "\n", line);
    return absl::StrCat("exec bash -euo pipefail -c ", ShellQuote(lines));
  }
  std::string start;
  std::vector<std::string> words;
  if (UsesSrun(stage, options)) {
    start = "srun --ntasks=\"$ranks\"";
    words = SrunWords(stage, program);
  } else {
    start = absl::StrCat(ShellQuote(program), " launch -n \"$ranks\"");
  }
  words.insert(words.end(), stage.arguments.begin(), stage.arguments.end());
  return absl::StrCat("exec ", start, " ", ShellJoin(words));
}

// As many as the scheduler grants: a job that was requeued may have been given other nodes. SLURM_NTASKS
// stays that of the submission; SLURM_TASKS_PER_NODE is that of the nodes, "2(x3),1".
std::string RanksVariable(const PlannedStage& stage, const ScriptOptions& options) {
  if (stage.kind == StageKind::kRun) return "";
  if (options.local) return absl::StrCat("\nranks=", stage.ranks);
  return absl::StrCat("\nranks=$(tr , '\\n' <<<\"${SLURM_TASKS_PER_NODE:-", stage.ranks,
                      "}\" |\n  awk -F'[(x)]+' '{sum += $1 * (NF > 1 ? $2 : 1)} END {print sum}')");
}

std::string Variables(const PlannedStage& stage, const ScriptOptions& options) {
  const SlurmConfig& slurm = stage.slurm;
  return absl::StrCat(
      "stage=", ShellQuote(stage.name), "\ndirectory=", ShellQuote(stage.directory), "\nhash=", stage.hash,
      RanksVariable(stage, options), "\ndone_file=", UsesSrun(stage, options) ? "$directory/stage.done" : "",
      "\nsaves=", Saves(stage) ? "yes" : "no", "\nmax_continuations=", slurm.max_continuations(),
      // A node that went down may hold the lock for a while.
      "\nlock_seconds=", options.local ? 10 : 120,
      options.local ? "\njob=\nrestarts=0\n"
                    : "\njob=${SLURM_JOB_ID:-}\nrestarts=${SLURM_RESTART_COUNT:-0}\n");
}

std::string Exports(const PlannedStage& stage, const ScriptOptions& options, const std::string& program) {
  const SlurmConfig& slurm = stage.slurm;
  std::string text;
  if (UsesSrun(stage, options)) {
    text += "export TANREN_STDOUT=rank0\n";
    if (slurm.cpus_per_task() > 0)
      absl::StrAppend(&text, "export OMP_NUM_THREADS=", slurm.cpus_per_task(), "\n");
  }
  const std::string folder = std::filesystem::path(program).parent_path().string();
  if (stage.kind == StageKind::kRun && !folder.empty()) {
    absl::StrAppend(&text, "export PATH=", ShellQuote(folder), ":\"$PATH\"\n");
  }
  for (const std::string& entry : slurm.environment()) {
    const StageInput named = InputOf(entry);
    absl::StrAppend(&text, "export ", named.key, "=", ShellQuote(named.stage), "\n");
  }
  return text;
}

}  // namespace

std::string StageScript(const PlannedStage& stage, const ScriptOptions& options) {
  const std::string program =
      options.local || stage.slurm.program().empty() ? options.program : stage.slurm.program();
  std::string script = absl::StrCat("#!/bin/bash\n# Stage ", stage.name, " of pipeline ", options.pipeline,
                                    ", written by `tanren submit`: see docs/pipelines.md.\n");
  if (!options.local) script += SbatchLines(stage, options);
  absl::StrAppend(&script, "\ncd -- ", ShellQuote(options.working_directory), " || exit 1\n");
  if (!options.local) {
    for (const std::string& line : stage.slurm.prologue()) absl::StrAppend(&script, line, "\n");
  }
  absl::StrAppend(&script, Exports(stage, options, program), "\n", Variables(stage, options),
                  "\nstart() {\n  ", WorkCommand(stage, options, program), "\n}\n", kBody);
  return script;
}

}  // namespace tanren
