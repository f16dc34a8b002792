// Log-probabilities and values of models that do not learn in this step, as columns of the batch that does.
#ifndef TANREN_STAGES_COMMON_SCORING_H_
#define TANREN_STAGES_COMMON_SCORING_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/engine/engine.h"

namespace tanren {

// Fills the token column `column` at the trained positions of each micro-batch (0 elsewhere) with the
// log-probability that `model` gives their targets at `temperature`. The packing is the one that is trained,
// so that a policy that has not moved has a log-ratio of exactly 0. Ranks of one tensor group call it
// together.
absl::Status AddLogProbabilities(Engine& engine, const std::string& model, const std::string& column,
                                 float temperature, std::vector<MicroBatch>* batches);

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_SCORING_H_
