// tanren generate: text from a checkpoint.
#ifndef TANREN_LAUNCH_GENERATE_VERB_H_
#define TANREN_LAUNCH_GENERATE_VERB_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

struct GenerateOptions {
  std::string checkpoint;              // a step directory or a run directory
  std::vector<std::string> overrides;  // key=value on the checkpoint's config
  // Users' messages in the chat template of the checkpoint; after stage pretrain texts to go on from.
  std::vector<std::string> prompts;
  bool raw = false;  // texts to go on from after every stage
  int64_t max_tokens = 128;
  double temperature = 0.8;  // 0: greedy
  int64_t top_k = 0;         // 0: all
  double top_p = 1;
  double repetition_penalty = 1;  // 1: off
  int64_t no_repeat_ngram = 0;    // 0: off
  uint64_t seed = 1;
  int64_t n = 1;      // answers per prompt
  bool json = false;  // one JSON object per answer, with tokens and log-probabilities
};

// Alone or as one rank of a job; rank 0 prints. Exit code 0 or 2.
int Generate(const GenerateOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_GENERATE_VERB_H_
