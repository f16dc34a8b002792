#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/report/build_info.h"
#include "launch/command_line.h"
#include "stages/stages.h"

namespace {

constexpr int kWrongInput = 2;

int Run(int argc, char** argv) {
  CLI::App app("tanren: trains decoder language models, from random weights to reasoning, on CPUs and GPUs.");
  app.set_version_flag("--version", "tanren " + tanren::ThisBuild().version);
  app.require_subcommand(1);
  const std::vector<std::string> command_line(argv, argv + argc);
  int exit_code = 0;
  tanren::AddTrainVerbs(app, command_line, &exit_code);
  tanren::AddModelVerbs(app, &exit_code);
  tanren::AddReportVerb(app, &exit_code);
  tanren::AddAnnotateVerb(app, &exit_code);
  tanren::AddBenchVerb(app, &exit_code);
  tanren::AddDataVerbs(app, &exit_code);
  tanren::AddCheckpointVerbs(app, &exit_code);
  tanren::AddConfigVerbs(app, &exit_code);
  tanren::AddPluginVerbs(app, &exit_code);
  tanren::AddPipelineVerbs(app, &exit_code);
  tanren::RegisterStages();
  app.failure_message(CLI::FailureMessage::simple);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongInput;
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    // Nothing of ours throws this far: a library did, on something that was not foreseen.
    std::fprintf(stderr, "tanren: unexpected: %s\n", error.what());
    return 1;
  }
}
