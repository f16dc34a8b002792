#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "core/report/build_info.h"
#include "launch/command_line.h"
#include "parallel/runtime/launch_check.h"
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

// A launcher may end with 0 where a node failed and the ranks have not. So whoever must know, the script of a
// pipeline's stage, names a file in TANREN_DONE, which is there once rank 0 has ended with 0 itself.
bool ConfirmEnd() {
  const char* path = std::getenv("TANREN_DONE");
  if (path == nullptr || tanren::LaunchEnvironment::Read().rank != 0) return true;
  std::FILE* file = std::fopen(path, "w");
  if (file != nullptr && std::fclose(file) == 0) return true;
  std::fprintf(stderr, "error: TANREN_DONE: %s: %s\n", path, std::strerror(errno));
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int code = Run(argc, argv);
    return code == 0 && !ConfirmEnd() ? 1 : code;
  } catch (const std::exception& error) {
    // Nothing of ours throws this far: a library did, on something that was not foreseen.
    std::fprintf(stderr, "tanren: unexpected: %s\n", error.what());
    return 1;
  }
}
