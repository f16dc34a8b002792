#include "core/pipeline/plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/config/config.h"
#include "core/config/text.h"
#include "core/evaluation/suite.h"
#include "core/pipeline/paths_read.h"
#include "core/pipeline/shell.h"
#include "core/plugin/load.h"
#include "google/protobuf/text_format.h"

namespace tanren {
namespace {

// Builds one stage after the other; errors of all of them are gathered.
class Planner {
 public:
  explicit Planner(const config::PipelineConfig& pipeline) : pipeline_(pipeline) {
    plan_.name = pipeline.name();
    plan_.home = pipeline.home();
    while (plan_.home.size() > 1 && plan_.home.back() == '/') plan_.home.pop_back();
  }

  absl::StatusOr<PipelinePlan> Run() {
    for (int i = 0; i < pipeline_.stages_size(); ++i) Add(i);
    if (!errors_.empty()) return absl::InvalidArgumentError(absl::StrJoin(errors_, "\n"));
    return std::move(plan_);
  }

 private:
  void Add(int index);
  // `text` becomes what decides the result; paths that are read go to `paths`.
  absl::Status AddTraining(const config::StageConfig& config, PlannedStage* stage,
                           std::vector<NamedPath>* paths);
  absl::Status AddSuite(const config::StageConfig& config, PlannedStage* stage,
                        std::vector<NamedPath>* paths);
  void AddWords(const config::StageConfig& config, PlannedStage* stage, std::vector<NamedPath>* paths);
  std::vector<std::string> OverridesOf(const config::StageConfig& config, const std::string& own_key,
                                       const std::string& own_directory);
  void CheckPaths(const PlannedStage& stage, const std::vector<NamedPath>& paths);
  std::string Head(const PlannedStage& stage) const;
  void Fail(const std::string& stage, std::string_view problem);

  std::string InHome(const std::string& text) const {
    return absl::StrReplaceAll(text, {{"{home}", plan_.home}});
  }
  const PlannedStage* Find(const std::string& name) const {
    const auto found = std::ranges::find(plan_.stages, name, &PlannedStage::name);
    return found == plan_.stages.end() ? nullptr : &*found;
  }

  const config::PipelineConfig& pipeline_;
  PipelinePlan plan_;
  std::vector<std::string> errors_;
};

void Planner::Fail(const std::string& stage, std::string_view problem) {
  for (const auto line : absl::StrSplit(View(problem), '\n'))
    errors_.push_back(absl::StrCat("stage ", stage, ": ", line));
}

std::vector<std::string> Planner::OverridesOf(const config::StageConfig& config, const std::string& own_key,
                                              const std::string& own_directory) {
  std::vector<std::string> overrides;
  if (KindOf(config) == StageKind::kTrain) {
    for (const std::string& text : pipeline_.overrides()) overrides.push_back(InHome(text));
  }
  for (const std::string& text : config.overrides()) overrides.push_back(InHome(text));
  for (const std::string& text : overrides) {
    if (InputOf(text).key == own_key) {
      Fail(config.name(), absl::StrCat("override ", config::Printable(text), ": ", own_key,
                                       " is the stage's directory, ", own_directory));
    }
  }
  for (const std::string& text : config.inputs()) {
    const StageInput input = InputOf(text);
    overrides.push_back(absl::StrCat(input.key, "=", YamlQuote(absl::StrCat(plan_.home, "/", input.stage))));
  }
  overrides.push_back(absl::StrCat(own_key, "=", YamlQuote(own_directory)));
  return overrides;
}

absl::Status Planner::AddTraining(const config::StageConfig& config, PlannedStage* stage,
                                  std::vector<NamedPath>* paths) {
  const std::string file = InHome(config.config());
  const std::vector<std::string> overrides = OverridesOf(config, "run_directory", stage->directory);
  stage->arguments = {"train", file};
  stage->arguments.insert(stage->arguments.end(), overrides.begin(), overrides.end());
  TANREN_ASSIGN_OR_RETURN(const config::Config loaded, LoadConfigWithPlugins(file, overrides));
  const config::Config resolved = config::Resolve(loaded);
  stage->steps = resolved.train().steps();
  *paths = PathsIn(loaded);
  stage->text += config::ToYaml(resolved, true);
  return absl::OkStatus();
}

absl::Status Planner::AddSuite(const config::StageConfig& config, PlannedStage* stage,
                               std::vector<NamedPath>* paths) {
  const std::string file = InHome(config.eval());
  const std::vector<std::string> overrides = OverridesOf(config, "out", stage->directory);
  stage->arguments = {"eval", file};
  stage->arguments.insert(stage->arguments.end(), overrides.begin(), overrides.end());
  TANREN_ASSIGN_OR_RETURN(const config::SuiteConfig suite, LoadSuite(file, overrides));
  *paths = PathsIn(suite);
  std::string text;
  TANREN_CHECK(google::protobuf::TextFormat::PrintToString(suite, &text));
  stage->text += text;
  return absl::OkStatus();
}

void Planner::AddWords(const config::StageConfig& config, PlannedStage* stage,
                       std::vector<NamedPath>* paths) {
  for (const std::string& word : config.command()) stage->arguments.push_back(InHome(word));
  for (const std::string& line : config.run()) stage->lines.push_back(InHome(line));
  for (const std::string& word : stage->arguments) {
    paths->push_back({"command", word});
    absl::StrAppend(&stage->text, ShellQuote(word), "\n");
  }
  for (const std::string& line : stage->lines) {
    paths->push_back({"run", line});
    absl::StrAppend(&stage->text, line, "\n");
  }
}

// Every mention of another stage's directory must be of one that is done by then. Words and lines may mention
// several.
void Planner::CheckPaths(const PlannedStage& stage, const std::vector<NamedPath>& paths) {
  const std::string prefix = plan_.home + "/";
  for (const NamedPath& named : paths) {
    for (size_t at = named.path.find(prefix); at != std::string::npos; at = named.path.find(prefix, at + 1)) {
      const size_t begin = at + prefix.size();
      const size_t end = named.path.find_first_of("/ \t\n'\"`;|&<>(){}[],=$", begin);
      const std::string other = named.path.substr(begin, end == std::string::npos ? end : end - begin);
      const bool is_stage =
          std::ranges::any_of(pipeline_.stages(), [&](const auto& s) { return s.name() == other; });
      if (!is_stage || other == stage.name || std::ranges::count(stage.ancestors, other) > 0) continue;
      Fail(stage.name, absl::StrCat(named.key, " reads ", prefix, other, ", but stage ", other,
                                    " is not among the stages before it; name it in after or inputs"));
    }
  }
}

// The stages whose results this one builds on. A gate has none: what is behind it counts.
std::string Planner::Head(const PlannedStage& stage) const {
  std::string head = absl::StrCat("# What stage ", stage.name, " of pipeline ", plan_.name,
                                  " is run with.\n# kind ", NameOf(stage.kind), "\n");
  std::vector<std::string> pending = stage.after, done;
  while (!pending.empty()) {
    const PlannedStage* other = Find(pending.back());
    pending.pop_back();
    if (other == nullptr || std::ranges::count(done, other->name) > 0) continue;
    done.push_back(other->name);
    if (other->kind == StageKind::kEval)
      pending.insert(pending.end(), other->after.begin(), other->after.end());
  }
  for (const PlannedStage& other : plan_.stages) {
    if (other.kind == StageKind::kEval || std::ranges::count(done, other.name) == 0) continue;
    absl::StrAppend(&head, "# after ", other.name, " ", other.hash, "\n");
  }
  return head;
}

void Planner::Add(int index) {
  const config::StageConfig& config = pipeline_.stages(index);
  PlannedStage stage;
  stage.name = config.name();
  stage.kind = KindOf(config);
  stage.directory = absl::StrCat(plan_.home, "/", config.name());
  stage.after = NamedDependencies(pipeline_, index);
  stage.ranks = RanksOf(pipeline_, config);
  stage.slurm = SlurmOf(pipeline_, config);
  for (const PlannedStage& other : plan_.stages) {
    const bool before = std::ranges::any_of(stage.after, [&](const std::string& name) {
      return name == other.name || std::ranges::count(Find(name)->ancestors, other.name) > 0;
    });
    if (before) stage.ancestors.push_back(other.name);
  }
  stage.text = Head(stage);
  std::vector<NamedPath> paths;
  absl::Status status;
  if (stage.kind == StageKind::kTrain) {
    status = AddTraining(config, &stage, &paths);
  } else if (stage.kind == StageKind::kEval) {
    status = AddSuite(config, &stage, &paths);
  } else {
    AddWords(config, &stage, &paths);
  }
  if (!status.ok()) Fail(stage.name, View(status.message()));
  CheckPaths(stage, paths);
  stage.hash = Sha256Hex(stage.text);
  plan_.stages.push_back(std::move(stage));
}

}  // namespace

absl::StatusOr<PipelinePlan> PlanPipeline(const config::PipelineConfig& pipeline) {
  return Planner(pipeline).Run();
}

}  // namespace tanren
