// tanren estimate: what a run or a pipeline needs, on paper.
#ifndef TANREN_LAUNCH_ESTIMATE_VERB_H_
#define TANREN_LAUNCH_ESTIMATE_VERB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/estimate/price.h"

namespace tanren {

// Rates of one H200 with NVLink and a 400 Gbit/s port, and failures as Grattafiori et al. 2024 (Llama 3,
// section 3.3.4) had them: 419 unexpected ones in 54 days on 16,384 cards.
Machine H200();

struct EstimateOptions {
  std::string config;  // of a run, or a pipeline
  std::vector<std::string> overrides;
  int64_t world_size = 0;  // ranks; 0: 1 for a run, what it says for a pipeline
  int64_t vocabulary = 0;  // tokens, of tokenizers that are yet to be made; 0: that is an error
  AnswerLengths lengths;   // of stage rl
  Machine machine = H200();
  bool machine_stated = false;  // some of it by the user
  std::string json;             // a file for the figures; empty: none
};

// Prints the memory plan of the fullest rank, without allocating it, and what the run costs on the stated
// machine. Exit code 0; 2: wrong input, or the plan is larger than parallel.memory_limit_bytes.
int Estimate(const EstimateOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_ESTIMATE_VERB_H_
