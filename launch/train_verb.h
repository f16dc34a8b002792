// tanren train.
#ifndef TANREN_LAUNCH_TRAIN_VERB_H_
#define TANREN_LAUNCH_TRAIN_VERB_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string resume = "auto";  // auto, none, or a step directory
  bool dry_run = false;         // check everything and print the plan; train nothing, write nothing
  int64_t world_size = 0;  // with dry_run: price a job of so many ranks, as `tanren estimate`; 0: this one
  std::vector<std::string> command_line;  // for env.json
};

// Runs as one rank of a job, or alone. Exit code 0: done; 2: wrong input; 75: saved and wants to be run
// again.
int Train(const TrainOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_TRAIN_VERB_H_
