// Learns good answers and unlearns bad ones, from records with a label (prompt, completion, label).
//
// With unlikelihood.spare_expected a frozen reference shares out the blame inside a bad answer: the tokens
// that it expects anyway (the wording) are left alone, those that surprise it (the slip) are pushed down.
#ifndef UNLIKELIHOOD_STAGE_H_
#define UNLIKELIHOOD_STAGE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/trainer/stage.h"
#include "stages/common/unit_source.h"
#include "unlikelihood_loss.h"

namespace tanren::lab {

class UnlikelihoodStage final : public Stage {
 public:
  absl::Status Declare(const config::Config& config, const Tokenizer& tokenizer,
                       EngineOptions* engine) override;
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<StageValidation> Validate(Engine& engine) override;
  absl::Status SkipSteps(int64_t steps) override { return planner_->Skip(steps); }
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  // Fills the column "blame" of this rank's micro-batches.
  absl::Status AddBlame(Engine& engine, std::vector<MicroBatch>* batches) const;

  bool spare_expected_ = false;
  std::unique_ptr<UnitSource> examples_;
  std::unique_ptr<UnitSource> validation_;  // null without
  std::unique_ptr<StepPlanner> planner_;
  StepPlanner::Options planner_options_;
  std::unique_ptr<Loss> loss_;
};

}  // namespace tanren::lab

#endif  // UNLIKELIHOOD_STAGE_H_
