#include "CLI/CLI.hpp"
#include "launch/command_line.h"
#include "launch/runs_verb.h"
#include "launch/submit_verb.h"

namespace tanren {
namespace {

void AddSubmit(CLI::App& app, int* exit_code) {
  auto* verb =
      app.add_subcommand("submit", "Run the stages of a pipeline: as jobs of a SLURM cluster, or here");
  auto options = std::make_shared<SubmitOptions>();
  verb->add_option("pipeline", options->pipeline, "YAML file of the pipeline")->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the file");
  verb->add_flag("--print", options->print, "Show the scripts; write, submit and run nothing");
  verb->add_flag("--local", options->local, "Run the stages here, one after the other, with `tanren launch`");
  // One name each: what follows may be an override.
  verb->add_option("--redo", options->redo, "A stage that begins again, with all after it; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--keep", options->keep, "A stage whose other settings are accepted; may be repeated")
      ->allow_extra_args(false);
  verb->callback([options, exit_code] { *exit_code = Submit(*options); });
}

void AddRuns(CLI::App& app, int* exit_code) {
  auto* runs = app.add_subcommand("runs", "Look at runs");
  runs->require_subcommand(1);
  auto* ls = runs->add_subcommand("ls", "How far runs are: step, state, owner or job, last loss");
  auto options = std::make_shared<RunsLsOptions>();
  ls->add_option("directories", options->directories, "Run directories, or such that hold some; none: runs");
  ls->add_flag("--json", options->json, "One JSON list");
  ls->callback([options, exit_code] { *exit_code = RunsLs(*options); });
}

}  // namespace

void AddPipelineVerbs(CLI::App& app, int* exit_code) {
  AddSubmit(app, exit_code);
  AddRuns(app, exit_code);
}

}  // namespace tanren
