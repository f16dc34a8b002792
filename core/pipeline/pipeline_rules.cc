#include "core/pipeline/pipeline_rules.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/schema.h"
#include "core/config/text.h"
#include "core/pipeline/pipeline.h"
#include "core/pipeline/shell.h"

namespace tanren {
namespace {

using config::ErrorReport;
using config::Printable;

constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

bool Consists(std::string_view text, std::string_view more) {
  return std::ranges::all_of(text, [&](char c) {
    return kPlain.find(c) != std::string_view::npos || more.find(c) != std::string_view::npos;
  });
}

bool HasControl(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
}

void CheckName(const std::string& path, const std::string& name, ErrorReport* report) {
  if (name.empty()) return;  // reported as required
  if (name.size() > 64 || name.front() == '-' || !Consists(name, "-_")) {
    report->AddRule(
        {path}, absl::StrCat(
                    Printable(name),
                    ": a name has 1 to 64 letters, digits, hyphens and underscores, and no hyphen in front"));
  }
}

// Home stands in lines of bash and in YAML as {home}, unquoted.
void CheckHome(const std::string& home, ErrorReport* report) {
  if (home.empty()) return;
  if (home.front() == '-' || !Consists(home, "/._-+@=,")) {
    report->AddRule({"home"}, absl::StrCat(Printable(home),
                                           ": only letters, digits and / . _ - + @ = , may stand in it"));
  }
}

void CheckKind(const std::string& path, const config::StageConfig& stage, ErrorReport* report) {
  const int kinds =
      !stage.config().empty() + !stage.eval().empty() + (stage.command_size() > 0) + (stage.run_size() > 0);
  if (kinds != 1) {
    report->AddRule({path},
                    absl::StrCat("is ", kinds, " kinds of work; give one of config, eval, command and run"));
    return;
  }
  const StageKind kind = KindOf(stage);
  const bool has_keys = kind == StageKind::kTrain || kind == StageKind::kEval;
  if (!has_keys && stage.inputs_size() > 0) {
    report->AddRule({path + ".inputs"},
                    "has no effect here: only config and eval have keys; name the stages in after, "
                    "and their directories as {home}/NAME");
  }
  if (!has_keys && stage.overrides_size() > 0) {
    report->AddRule({path + ".overrides"}, "has no effect here: only config and eval have keys");
  }
  if (kind == StageKind::kRun && stage.ranks() > 1) {
    report->AddRule({path + ".ranks"},
                    "lines of bash run once; a verb on several ranks is a stage with `command`");
  }
  if (kind == StageKind::kCommand && (stage.command(0) == "tanren" || stage.command(0) == "launch")) {
    report->AddRule({path + ".command"}, "begins with the verb; the ranks are started for it");
  }
}

// Whether stage `from` waits for stage `to`, by what is named, however far back.
bool WaitsFor(const config::PipelineConfig& pipeline, const std::map<std::string, int>& places, int from,
              int to, std::vector<bool>* seen) {
  if (from == to) return true;
  if ((*seen)[from]) return false;
  (*seen)[from] = true;
  std::vector<std::string> named(pipeline.stages(from).after().begin(), pipeline.stages(from).after().end());
  for (const std::string& input : pipeline.stages(from).inputs()) named.push_back(InputOf(input).stage);
  return std::ranges::any_of(named, [&](const std::string& name) {
    const auto place = places.find(name);
    return place != places.end() && WaitsFor(pipeline, places, place->second, to, seen);
  });
}

// The stages that a stage names stand before it.
void CheckDependency(const std::string& path, const config::PipelineConfig& pipeline,
                     const std::map<std::string, int>& places, int own, const std::string& name,
                     ErrorReport* report) {
  const auto place = places.find(name);
  if (place == places.end()) {
    std::vector<std::string> names;
    for (const auto& [other, index] : places) names.push_back(other);
    report->AddRule({path},
                    absl::StrCat("there is no stage ", Printable(name), config::SuggestChoice(names, name)));
  } else if (place->second == own) {
    report->AddRule({path}, absl::StrCat("stage ", name, " cannot come after itself"));
  } else if (place->second > own) {
    std::vector<bool> seen(pipeline.stages_size());
    const bool cycle = WaitsFor(pipeline, places, place->second, own, &seen);
    report->AddRule({path}, cycle
                                ? absl::StrCat("stages ", pipeline.stages(own).name(), " and ", name,
                                               " wait for each other; one of them must not")
                                : absl::StrCat("stage ", name, " comes later; move it in front of this one"));
  }
}

void CheckOrder(const std::string& path, const config::PipelineConfig& pipeline,
                const std::map<std::string, int>& places, int own, ErrorReport* report) {
  const config::StageConfig& stage = pipeline.stages(own);
  for (int i = 0; i < stage.after_size(); ++i) {
    CheckDependency(absl::StrCat(path, ".after.", i), pipeline, places, own, stage.after(i), report);
  }
  for (int i = 0; i < stage.inputs_size(); ++i) {
    const std::string place = absl::StrCat(path, ".inputs.", i);
    const StageInput input = InputOf(stage.inputs(i));
    if (input.key.empty() || input.stage.empty()) {
      report->AddRule({place}, absl::StrCat(Printable(stage.inputs(i)),
                                            ": expected KEY=STAGE, for example init.from=sft"));
    } else {
      CheckDependency(place, pipeline, places, own, input.stage, report);
    }
  }
}

// What is written into "#SBATCH --key=value" lines is one word that no parser cuts.
void CheckWord(const std::string& path, const std::string& value, ErrorReport* report) {
  if (!value.empty() && (value.front() == '-' || !Consists(value, "._-:,=/@+%[]*|&()"))) {
    report->AddRule({path}, absl::StrCat(Printable(value),
                                         ": a word of letters, digits and . _ - : , = / @ + % is expected"));
  }
}

void CheckSlurmLines(const std::string& path, const config::SlurmConfig& slurm, ErrorReport* report) {
  for (int i = 0; i < slurm.options_size(); ++i) {
    const std::string& line = slurm.options(i);
    if (line.empty() || line.front() != '-' || HasControl(line)) {
      report->AddRule(
          {absl::StrCat(path, ".options.", i)},
          absl::StrCat(Printable(line), ": expected one option of sbatch, for example --exclusive"));
    }
  }
  for (int i = 0; i < slurm.environment_size(); ++i) {
    const std::string name = InputOf(slurm.environment(i)).key;
    const bool named = !name.empty() && Consists(name, "_") && (name.front() < '0' || name.front() > '9');
    if (!named || slurm.environment(i).find('\0') != std::string::npos) {
      report->AddRule({absl::StrCat(path, ".environment.", i)},
                      absl::StrCat(Printable(slurm.environment(i)), ": expected NAME=value"));
    }
  }
}

// Keys as they stand in one section.
void CheckSlurm(const std::string& path, const config::SlurmConfig& slurm, ErrorReport* report) {
  CheckWord(path + ".partition", slurm.partition(), report);
  CheckWord(path + ".account", slurm.account(), report);
  CheckWord(path + ".qos", slurm.qos(), report);
  CheckWord(path + ".memory", slurm.memory(), report);
  CheckWord(path + ".mpi", slurm.mpi(), report);
  if (slurm.time().find_first_not_of("0123456789:-") != std::string::npos) {
    report->AddRule({path + ".time"},
                    absl::StrCat(Printable(slurm.time()), ": expected minutes, H:MM:SS, or D-HH:MM:SS"));
  }
  CheckSlurmLines(path, slurm, report);
}

// Keys of a stage together with the pipeline's.
void CheckMerged(const std::string& path, const config::PipelineConfig& pipeline,
                 const config::StageConfig& stage, ErrorReport* report) {
  const config::SlurmConfig slurm = SlurmOf(pipeline, stage);
  const int64_t ranks = RanksOf(pipeline, stage);
  const std::string own = path + ".slurm";
  if (!slurm.container().image().empty() && slurm.launcher() == config::SlurmConfig::mpirun) {
    report->AddRule({own + ".container", "slurm.container"},
                    absl::StrCat("stage ", Printable(stage.name()), ": a container needs launcher srun"));
  }
  if (slurm.mpi().empty() && slurm.launcher() == config::SlurmConfig::srun) {
    report->AddRule({own + ".mpi", "slurm.mpi"},
                    "launcher srun needs a way to connect ranks, for example pmix");
  }
  if (ranks > 1 && slurm.tasks_per_node() > 0 && slurm.nodes() > 0 &&
      slurm.nodes() * slurm.tasks_per_node() != ranks) {
    report->AddRule({own + ".tasks_per_node", "slurm.tasks_per_node", own + ".nodes", "slurm.nodes"},
                    absl::StrCat("stage ", Printable(stage.name()), ": ", slurm.nodes(), " nodes of ",
                                 slurm.tasks_per_node(), " ranks are not its ", ranks, " ranks"));
  }
}

}  // namespace

void CheckPipelineRules(const config::PipelineConfig& pipeline, ErrorReport* report) {
  CheckName("name", pipeline.name(), report);
  CheckHome(pipeline.home(), report);
  CheckSlurm("slurm", pipeline.slurm(), report);
  if (pipeline.stages_size() == 0) report->AddRule({"stages"}, "has no stage");
  std::map<std::string, int> places;
  for (int i = 0; i < pipeline.stages_size(); ++i) {
    const std::string& name = pipeline.stages(i).name();
    const std::string path = absl::StrCat("stages.", i, ".name");
    CheckName(path, name, report);
    if (!name.empty() && !places.emplace(name, i).second) {
      report->AddRule({path}, absl::StrCat(name, " is the name, and the directory, of an earlier stage too"));
    }
  }
  for (int i = 0; i < pipeline.stages_size(); ++i) {
    const config::StageConfig& stage = pipeline.stages(i);
    const std::string path = absl::StrCat("stages.", i);
    CheckKind(path, stage, report);
    CheckOrder(path, pipeline, places, i, report);
    CheckSlurm(path + ".slurm", stage.slurm(), report);
    CheckMerged(path, pipeline, stage, report);
  }
}

}  // namespace tanren
