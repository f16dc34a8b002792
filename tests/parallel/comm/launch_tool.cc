// The launch verb as a program of its own, for tests: launch_tool RANKS PROGRAM ARGUMENTS...
#include <cstdlib>

#include "launch/launch_verb.h"

int main(int argc, char** argv) {
  tanren::LaunchOptions options;
  options.ranks = argc > 1 ? std::atoi(argv[1]) : 0;
  options.program = argc > 2 ? argv[2] : "";
  options.arguments.assign(argv + (argc < 3 ? argc : 3), argv + argc);
  options.all_output = std::getenv("LAUNCH_TOOL_ALL_OUTPUT") != nullptr;
  options.verbose = std::getenv("LAUNCH_TOOL_VERBOSE") != nullptr;
  if (const char* mpirun = std::getenv("LAUNCH_TOOL_MPIRUN")) options.mpirun = mpirun;
  return tanren::Launch(options);
}
