// How the verbs that answer draw their tokens.
#ifndef TANREN_LAUNCH_SAMPLING_OPTIONS_H_
#define TANREN_LAUNCH_SAMPLING_OPTIONS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/engine/engine.h"

namespace tanren {

struct SamplingOptions {
  int64_t max_tokens = 128;
  double temperature = 0.8;  // 0: greedy
  int64_t top_k = 0;         // 0: all
  double top_p = 1;
  double repetition_penalty = 1;  // 1: off
  int64_t no_repeat_ngram = 0;    // 0: off
  uint64_t seed = 1;
};

// InvalidArgument names the option, with its value.
absl::Status CheckSampling(const SamplingOptions& options);

// Of the sample with this number: each has random numbers of its own.
kernels::SamplingParams SamplingOf(const SamplingOptions& options, uint64_t sample);
RepetitionOptions RepetitionOf(const SamplingOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SAMPLING_OPTIONS_H_
