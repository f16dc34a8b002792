#include "stages/common/step_loading.h"

#include <algorithm>
#include <functional>

#include "core/base/status.h"
#include "core/proto/config.pb.h"

namespace tanren {

StepPlanner::Options PlannerOptions(const config::Config& config) {
  StepPlanner::Options options;
  options.micro_batch_tokens = config.batch().micro_batch_tokens();
  options.micro_batches = config.batch().micro_batches();
  options.drop_oversize = config.batch().oversize() == config::BatchConfig::drop;
  return options;
}

absl::StatusOr<std::vector<MicroBatch>> LoadDealt(Source& source, const StepPlan& plan, int64_t capacity,
                                                  const Mesh& mesh) {
  const DealtRange mine =
      DealMicroBatches(static_cast<int64_t>(plan.micro_batches.size()), mesh.data->rank(), mesh.data->size());
  std::vector<MicroBatch> batches(mine.end - mine.begin);
  absl::Status local;
  for (int64_t m = mine.begin; m < mine.end && local.ok(); ++m) {
    local = LoadMicroBatch(source, plan.micro_batches[m], capacity, &batches[m - mine.begin]);
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*mesh.world, "load step", local));
  return batches;
}

double PlannedTokens(const StepPlan& plan) {
  double tokens = 0;
  for (const auto& micro_batch : plan.micro_batches) {
    for (const UnitRef& unit : micro_batch) tokens += static_cast<double>(unit.tokens);
  }
  return tokens;
}

absl::StatusOr<MeasuredLoss> MeasureLoss(
    Engine& engine, const std::string& model, Source& source, const StepPlanner::Options& planner_options,
    const Loss& loss, int64_t limit, const std::function<absl::Status(std::vector<MicroBatch>*)>& prepare) {
  // A few micro-batches at a time, in order, whatever the number of ranks.
  StepPlanner::Options options = planner_options;
  options.units = 0;
  options.micro_batches = std::max<int64_t>(engine.mesh().data->size(), 8);
  StepPlanner planner(&source, options);
  MeasuredLoss measured;
  measured.metrics.assign(loss.metrics().size(), 0);
  int64_t done = 0;
  while (limit == 0 || done < limit) {
    absl::StatusOr<StepPlan> plan = planner.Next();
    if (absl::IsOutOfRange(plan.status())) break;
    TANREN_RETURN_IF_ERROR(plan.status());
    if (limit > 0 && static_cast<int64_t>(plan->micro_batches.size()) > limit - done) {
      plan->micro_batches.resize(limit - done);
    }
    done += static_cast<int64_t>(plan->micro_batches.size());
    TANREN_ASSIGN_OR_RETURN(std::vector<MicroBatch> batches,
                            LoadDealt(source, *plan, options.micro_batch_tokens, engine.mesh()));
    if (prepare) TANREN_RETURN_IF_ERROR(prepare(&batches));
    TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Evaluate(model, batches, loss));
    const double weight =
        loss.coupling() == Coupling::kToken ? result.normalizers.trained_weight : result.normalizers.units;
    measured.loss += result.loss * weight;
    for (size_t m = 0; m < result.metrics.size(); ++m) measured.metrics[m] += result.metrics[m] * weight;
    measured.normalizer += weight;
  }
  if (measured.normalizer > 0) {
    measured.loss /= measured.normalizer;
    for (double& metric : measured.metrics) metric /= measured.normalizer;
  }
  return measured;
}

double MetricOf(const Loss& loss, const std::vector<double>& metrics, const std::string& name) {
  const auto found = std::find(loss.metrics().begin(), loss.metrics().end(), name);
  TANREN_CHECK_MSG(found != loss.metrics().end(), "the loss has no metric ", name);
  return metrics[found - loss.metrics().begin()];
}

}  // namespace tanren
