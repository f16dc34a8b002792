#include "unlikelihood_stage.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include "core/base/status.h"
#include "core/plugin/plugin.h"
#include "stages/common/checkpoint_model.h"
#include "stages/common/example_units.h"
#include "stages/common/scoring.h"
#include "stages/common/step_loading.h"
#include "stages/sft/sft_stage.h"
#include "unlikelihood.pb.h"

namespace tanren::lab {
namespace {

// An error leaves the record out; they are counted by reason.
absl::Status MakeLabelledUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                              Unit* unit) {
  if (example.format != ExampleFormat::kLabelled) {
    return InvalidInput("a record of format %s has no label", NameOf(example.format));
  }
  TANREN_RETURN_IF_ERROR(MakeSftUnit(config, chat, example, unit));  // the answer's tokens, and "weight"
  unit->columns.Get("bad", unit->tokens(), example.label ? 0.0f : 1.0f);
  return absl::OkStatus();
}

}  // namespace

absl::Status UnlikelihoodStage::Declare(const config::Config& config, const Tokenizer& tokenizer,
                                        EngineOptions* engine) {
  spare_expected_ = config.GetExtension(unlikelihood).spare_expected();
  if (!spare_expected_) return absl::OkStatus();
  const bool own = !config.init().reference().empty();
  const std::string& path = own ? config.init().reference() : config.init().from();
  if (path.empty()) {
    return InvalidInput(
        "init.from: unlikelihood.spare_expected needs a checkpoint as its reference; name one, or set it to "
        "false");
  }
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source,
                          DescribeCheckpoint(own ? "init.reference" : "init.from", path, tokenizer));
  ModelOptions reference = engine->models[0];
  SetFrozen(source, "reference", &reference);
  engine->models.push_back(std::move(reference));
  return absl::OkStatus();
}

absl::Status UnlikelihoodStage::Open(const config::Config& config, const Tokenizer& tokenizer,
                                     const Mesh& mesh) {
  if (config.data().examples().empty()) {
    return InvalidInput("data.examples: stage unlikelihood needs at least one file of labelled answers");
  }
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(config, tokenizer));
  const MakeUnit make = [&](const Example& example, Unit* unit) {
    return MakeLabelledUnit(config, chat, example, unit);
  };
  std::vector<UnitReport> reports;
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> sets, ReadUnits(config, /*validation=*/false, make, &reports));
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> held_out,
                          ReadUnits(config, /*validation=*/true, make, &reports));
  if (mesh.world->rank() == 0) {
    for (const UnitReport& report : reports) std::printf("%s\n", report.ToString().c_str());
  }
  UnitSource::Options options;
  options.shuffle = config.data().shuffle();
  options.seed = static_cast<uint64_t>(config.seed());
  examples_ = std::make_unique<UnitSource>(std::move(sets), options);
  options.endless = false;
  if (!held_out.empty()) validation_ = std::make_unique<UnitSource>(std::move(held_out), options);
  planner_options_ = PlannerOptions(config);
  planner_ = std::make_unique<StepPlanner>(examples_.get(), planner_options_);
  loss_ = std::make_unique<TokenLossOf<UnlikelihoodFunctor>>(
      UnlikelihoodFunctor{config.GetExtension(unlikelihood).strength()});
  return absl::OkStatus();
}

absl::Status UnlikelihoodStage::AddBlame(Engine& engine, std::vector<MicroBatch>* batches) const {
  if (spare_expected_) {
    TANREN_RETURN_IF_ERROR(AddLogProbabilities(engine, "reference", "reference_logp", 1, batches));
  }
  for (MicroBatch& batch : *batches) {
    std::vector<float>& blame = batch.columns.Get("blame", batch.capacity, 1);
    if (!spare_expected_) continue;
    const std::vector<float>& logp = *batch.columns.Find("reference_logp");
    for (const int32_t t : batch.trained) blame[t] = -std::expm1(logp[t]);
  }
  return absl::OkStatus();
}

absl::StatusOr<StageStep> UnlikelihoodStage::Step(Engine& engine, int64_t, double learning_rate) {
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  TANREN_ASSIGN_OR_RETURN(std::vector<MicroBatch> batches,
                          LoadDealt(*examples_, plan, planner_options_.micro_batch_tokens, engine.mesh()));
  TANREN_RETURN_IF_ERROR(AddBlame(engine, &batches));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("policy", batches, *loss_, learning_rate));
  StageStep out;
  out.loss = result.loss;
  out.gradient_norm = result.gradient_norm;
  out.skipped = result.skipped;
  out.tokens = PlannedTokens(plan);
  for (size_t m = 0; m < result.metrics.size(); ++m) {
    out.metrics.push_back({loss_->metrics()[m], result.metrics[m]});
  }
  return out;
}

absl::StatusOr<StageValidation> UnlikelihoodStage::Validate(Engine& engine) {
  StageValidation validation;
  if (validation_ == nullptr) return validation;
  validation_->Rewind();
  TANREN_ASSIGN_OR_RETURN(
      const MeasuredLoss measured,
      MeasureLoss(engine, "policy", *validation_, planner_options_, *loss_, /*limit=*/0,
                  [&](std::vector<MicroBatch>* batches) { return AddBlame(engine, batches); }));
  validation.metrics.push_back({"loss", measured.loss});
  for (size_t m = 0; m < measured.metrics.size(); ++m) {
    validation.metrics.push_back({loss_->metrics()[m], measured.metrics[m]});
  }
  return validation;
}

std::map<std::string, std::string> UnlikelihoodStage::SaveState() const {
  return {{"train", planner_->SaveState()}};
}

absl::Status UnlikelihoodStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto found = state.find("train");
  if (found == state.end()) return InvalidInput("the checkpoint has no data cursor of stage unlikelihood");
  return planner_->RestoreState(found->second);
}

}  // namespace tanren::lab

TANREN_STAGE_PLUGIN(stages) {
  stages.Add("unlikelihood", [] { return std::make_unique<tanren::lab::UnlikelihoodStage>(); });
}
