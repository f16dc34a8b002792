#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "launch/command_line.h"
#include "launch/doctor_verb.h"
#include "launch/estimate_verb.h"
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
  verb->add_option(
          "--world-size", options->world_size,
          "With --dry-run: what a job of so many ranks needs and costs, as `tanren estimate` says it")
      ->check(CLI::Range(1, 1 << 24));
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

// A rate in other units than the machine's own.
void AddRate(CLI::App* verb, const std::string& name, double unit, double* value, bool* stated,
             const std::string& help, double least, double most) {
  verb->add_option_function<double>(
          name,
          [=](const double& given) {
            *value = given * unit;
            *stated = true;
          },
          absl::StrFormat("%s (default %g)", help, *value / unit))
      ->check(CLI::Validator(
          [=](const std::string& text) {
            double given = 0;
            const bool sound = absl::SimpleAtod(text, &given) && given >= least && given <= most;
            return sound ? std::string()
                         : absl::StrFormat("%s is not a number from %g to %g", text, least, most);
          },
          ""));
}

void AddEstimate(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand(
      "estimate",
      "Memory of a rank, traffic, time, checkpoints and failures of a run or a pipeline, on paper");
  auto options = std::make_shared<EstimateOptions>();
  verb->add_option("config", options->config, "YAML file of the run, or of a pipeline")->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the file");
  verb->add_option("--world-size", options->world_size,
                   "Ranks of the job; default: 1, and of a pipeline what it says")
      ->check(CLI::Range(1, 1 << 24));
  verb->add_option("--vocabulary", options->vocabulary,
                   "Tokens of a tokenizer that a pipeline has yet to make");
  verb->add_option("--prompt-tokens", options->lengths.prompt_tokens,
                   "Of stage rl: a prompt's tokens, on average; default: rollout.max_tokens");
  verb->add_option("--answer-tokens", options->lengths.answer_tokens, "The same of an answer");
  Machine& machine = options->machine;
  bool* stated = &options->machine_stated;
  const auto rate = [&](const char* name, double unit, double* value, const char* help) {
    AddRate(verb, name, unit, value, stated, help, 1e-6, 1e12);
  };
  const auto may_be_zero = [&](const char* name, double unit, double* value, const char* help) {
    AddRate(verb, name, unit, value, stated, help, 0, 1e12);
  };
  rate("--tflops", 1e12, &machine.flops_per_second, "Matrix products of a rank, TFLOP/s");
  AddRate(verb, "--utilization", 1, &machine.utilization, stated, "Share of them that is reached", 1e-6, 1);
  rate("--memory-gbs", 1e9, &machine.memory_bytes_per_second, "Memory of a rank, GB/s");
  rate("--link-gbs", 1e9, &machine.node_link_bytes_per_second, "Between ranks of a node, each way, GB/s");
  rate("--network-gbs", 1e9, &machine.network_bytes_per_second, "Of a rank to other nodes, each way, GB/s");
  may_be_zero("--hop-us", 1e-6, &machine.hop_seconds, "A message of no size, microseconds");
  rate("--storage-gbs", 1e9, &machine.storage_bytes_per_second, "Checkpoints of the whole job, GB/s");
  may_be_zero("--failures", 1.0 / 1000, &machine.failures_per_rank_day,
              "Failures of a thousand ranks in a day");
  may_be_zero("--restart-minutes", 60, &machine.restart_seconds, "From a failure to the next step");
  verb->add_option("--ranks-per-node", machine.ranks_per_node, "Ranks of a node")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--json", options->json, "Also write the figures to this file");
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
