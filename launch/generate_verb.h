// tanren generate: text from a checkpoint.
#ifndef TANREN_LAUNCH_GENERATE_VERB_H_
#define TANREN_LAUNCH_GENERATE_VERB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launch/sampling_options.h"

namespace tanren {

struct GenerateOptions {
  std::string checkpoint;              // a step directory or a run directory
  std::vector<std::string> overrides;  // key=value on the checkpoint's config
  // Users' messages in the chat template of the checkpoint; after stage pretrain texts to go on from.
  std::vector<std::string> prompts;
  bool raw = false;  // texts to go on from after every stage
  SamplingOptions sampling;
  int64_t n = 1;      // answers per prompt
  bool json = false;  // one JSON object per answer, with tokens and log-probabilities
};

// Alone or as one rank of a job; rank 0 prints. Exit code 0 or 2.
int Generate(const GenerateOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_GENERATE_VERB_H_
