#include "launch/sampling_options.h"

#include <cmath>

#include "core/base/status.h"

namespace tanren {
namespace {

// The bounds of the same keys in a config.
constexpr double kMaxRepetitionPenalty = 100;
constexpr int64_t kMaxRepeatNgram = 1024;

}  // namespace

absl::Status CheckSampling(const SamplingOptions& options) {
  if (options.max_tokens < 1) return InvalidInput("--max-tokens: %d is below 1", options.max_tokens);
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    return InvalidInput("--temperature: %g is not a number of at least 0", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1))
    return InvalidInput("--top-p: %g is outside (0, 1]", options.top_p);
  if (options.top_k < 0) return InvalidInput("--top-k: %d is below 0", options.top_k);
  if (!(options.repetition_penalty >= 1 && options.repetition_penalty <= kMaxRepetitionPenalty)) {
    return InvalidInput("--repetition-penalty: %g is outside [1, %g]; 1 is off", options.repetition_penalty,
                        kMaxRepetitionPenalty);
  }
  if (options.no_repeat_ngram < 0 || options.no_repeat_ngram > kMaxRepeatNgram) {
    return InvalidInput("--no-repeat-ngram: %d is outside [0, %d]; 0 is off", options.no_repeat_ngram,
                        kMaxRepeatNgram);
  }
  return absl::OkStatus();
}

kernels::SamplingParams SamplingOf(const SamplingOptions& options, uint64_t sample) {
  kernels::SamplingParams sampling;
  sampling.temperature = static_cast<float>(options.temperature);
  sampling.top_k = static_cast<int32_t>(options.top_k);
  sampling.top_p = static_cast<float>(options.top_p);
  sampling.seed = options.seed;
  sampling.stream_id = sample;
  return sampling;
}

RepetitionOptions RepetitionOf(const SamplingOptions& options) {
  RepetitionOptions repetition;
  repetition.penalty = static_cast<float>(options.repetition_penalty);
  repetition.no_repeat_ngram = static_cast<int32_t>(options.no_repeat_ngram);
  return repetition;
}

}  // namespace tanren
