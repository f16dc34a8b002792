// From a source's plan to the micro-batches of this rank, and loss on held-out units.
#ifndef TANREN_STAGES_COMMON_STEP_LOADING_H_
#define TANREN_STAGES_COMMON_STEP_LOADING_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/data/source.h"
#include "core/engine/engine.h"

namespace tanren {

namespace config {
class Config;
}

// What batch.* says of a step.
StepPlanner::Options PlannerOptions(const config::Config& config);

// This rank's micro-batches of a planned step. Collective.
absl::StatusOr<std::vector<MicroBatch>> LoadDealt(Source& source, const StepPlan& plan, int64_t capacity,
                                                  const Mesh& mesh);

// Tokens of all units of the step, over all ranks.
double PlannedTokens(const StepPlan& plan);

// Sums of a loss over all units of a finite source, which is at its beginning; each step's sums are weighted
// by its normaliser, so that the quotient is the mean over everything.
struct MeasuredLoss {
  double loss = 0;
  std::vector<double> metrics;
  double normalizer = 0;  // what was divided by: trained weight, or units
};
// `prepare`, where given, fills columns of this rank's micro-batches before they are measured. `limit`
// micro-batches at most, 0: all. Collective.
absl::StatusOr<MeasuredLoss> MeasureLoss(
    Engine& engine, const std::string& model, Source& source, const StepPlanner::Options& options,
    const Loss& loss, int64_t limit,
    const std::function<absl::Status(std::vector<MicroBatch>*)>& prepare = {});

// Of a loss's metrics the one of this name, which it must have.
double MetricOf(const Loss& loss, const std::vector<double>& metrics, const std::string& name);

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_STEP_LOADING_H_
