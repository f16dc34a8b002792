// tanren runs ls: how far runs are.
#ifndef TANREN_LAUNCH_RUNS_VERB_H_
#define TANREN_LAUNCH_RUNS_VERB_H_

#include <string>
#include <vector>

namespace tanren {

struct RunsLsOptions {
  std::vector<std::string> directories;  // run directories, or such that hold some; empty: runs
  bool json = false;
};

// A line for each run: stage, step of steps, state, the last loss, age, and what there is to say.
int RunsLs(const RunsLsOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_RUNS_VERB_H_
