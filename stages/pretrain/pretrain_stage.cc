#include "stages/pretrain/pretrain_stage.h"

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

absl::Status PretrainStage::Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh&) {
  if (config.data().train().empty()) {
    return InvalidInput(
        "data.train: stage pretrain needs at least one corpus made by `tanren data tokenize`");
  }
  TANREN_RETURN_IF_ERROR(RefuseGuards(config, /*measures_forgetting=*/false));
  TANREN_ASSIGN_OR_RETURN(train_, OpenTrainDocuments(config, tokenizer));
  planner_options_ = PlannerOptions(config);
  planner_ = std::make_unique<StepPlanner>(train_.get(), planner_options_);
  loss_ = NextTokenLoss(NextTokenFunctor<false>{config.pretrain().z_loss()});
  return validation_.Open(config, tokenizer);
}

absl::StatusOr<StageStep> PretrainStage::Step(Engine& engine, int64_t, double learning_rate) {
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  TANREN_ASSIGN_OR_RETURN(const std::vector<MicroBatch> batches,
                          LoadDealt(*train_, plan, planner_options_.micro_batch_tokens, engine.mesh()));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("policy", batches, loss_, learning_rate));
  StageStep out;
  out.loss = result.loss;
  out.gradient_norm = result.gradient_norm;
  out.skipped = result.skipped;
  out.tokens = PlannedTokens(plan);
  if (result.metrics[0] != result.loss) out.metrics.push_back({"cross_entropy", result.metrics[0]});
  if (plan.oversize_units > 0)
    out.metrics.push_back({"oversize_units", static_cast<double>(plan.oversize_units)});
  return out;
}

absl::StatusOr<StageValidation> PretrainStage::Validate(Engine& engine) {
  StageValidation validation;
  TANREN_ASSIGN_OR_RETURN(validation.metrics, validation_.Measure(engine, "policy", ""));
  return validation;
}

std::map<std::string, std::string> PretrainStage::SaveState() const {
  return {{"train", planner_->SaveState()}};
}

absl::Status PretrainStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto found = state.find("train");
  if (found == state.end()) return InvalidInput("the checkpoint has no data cursor of stage pretrain");
  return planner_->RestoreState(found->second);
}

void RegisterPretrainStage() {
  RegisterStage("pretrain", [] { return std::make_unique<PretrainStage>(); });
}

}  // namespace tanren
