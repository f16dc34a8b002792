// What a run has reached, read from the files that it left.
#ifndef TANREN_CORE_REPORT_RUN_FIGURES_H_
#define TANREN_CORE_REPORT_RUN_FIGURES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace tanren {

struct RunFigures {
  int64_t step = 0;    // the last one logged
  int64_t tokens = 0;  // trained on up to that step
  std::optional<double> loss;
  std::optional<double> validation_loss;  // the newest
  std::optional<double> base_loss;        // the newest on pre-training data, in stages after pre-training
  std::optional<double> reference_kl;     // the newest of an answer, of stages with a reference
  std::optional<double> pair_accuracy;    // the newest on held-out pairs, of stages that learn from them
  std::optional<double> tokens_per_second;
};

// The figures of RUN/metrics.jsonl up to and including step `last_step` (-1: all). Damaged lines are passed
// over. NotFound when the file is not there, InvalidArgument when it has no line of a step.
absl::StatusOr<RunFigures> ReadRunFigures(const std::string& run_directory, int64_t last_step = -1);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_RUN_FIGURES_H_
