#include "CLI/CLI.hpp"
#include "launch/command_line.h"
#include "launch/doctor_verb.h"
#include "launch/launch_verb.h"
#include "launch/train_verb.h"

namespace tanren {
namespace {

void AddTrain(CLI::App& app, const std::vector<std::string>& command_line, int* exit_code) {
  auto* verb =
      app.add_subcommand("train", "Train a model; alone, or as a rank under mpirun, srun or `tanren launch`");
  auto options = std::make_shared<TrainOptions>();
  options->command_line = command_line;
  verb->add_option("config", options->config, "YAML file of the run")->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the file");
  verb->add_option("--resume", options->resume,
                   "auto: the newest commit of the run directory; none: a fresh start; or a step directory")
      ->capture_default_str();
  verb->add_flag("--dry-run", options->dry_run,
                 "Check everything and print the plan; train nothing, write nothing");
  verb->callback([options, exit_code] { *exit_code = Train(*options); });
}

void AddLaunch(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand(
      "launch", "Start the ranks of a job on this machine: tanren launch -n 2 train CONFIG");
  auto options = std::make_shared<LaunchOptions>();
  verb->add_option("-n,--ranks", options->ranks, "Number of ranks")->required();
  verb->add_flag("!--no-bind", options->bind, "Do not bind ranks to cores");
  verb->add_option("--threads", options->threads,
                   "OpenMP threads per rank; 0: the rank's share of the cores");
  verb->add_flag("-v,--verbose", options->verbose, "Print the plan and the command");
  verb->add_flag("--all-output", options->all_output, "Standard output of all ranks, not of rank 0 only");
  verb->add_option("--mpirun", options->mpirun, "mpirun to use");
  verb->prefix_command();
  verb->callback([options, verb, exit_code] {
    options->arguments = verb->remaining();
    *exit_code = Launch(*options);
  });
}

void AddEstimate(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("estimate", "Print a run's memory plan per rank, without allocating it");
  auto options = std::make_shared<EstimateOptions>();
  verb->add_option("config", options->config, "YAML file of the run")->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the file");
  verb->add_option("--world-size", options->world_size, "Ranks of the job")->capture_default_str();
  verb->callback([options, exit_code] { *exit_code = Estimate(*options); });
}

void AddDoctor(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("doctor", "Say what this machine offers and what would be in the way");
  auto options = std::make_shared<DoctorOptions>();
  verb->add_option("--directory", options->directory, "Where the write speed is measured")
      ->capture_default_str();
  verb->callback([options, exit_code] { *exit_code = Doctor(*options); });
}

}  // namespace

void AddTrainVerbs(CLI::App& app, const std::vector<std::string>& command_line, int* exit_code) {
  AddTrain(app, command_line, exit_code);
  AddLaunch(app, exit_code);
  AddEstimate(app, exit_code);
  AddDoctor(app, exit_code);
}

}  // namespace tanren
