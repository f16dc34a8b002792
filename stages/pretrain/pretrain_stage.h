// Pre-training: next-token prediction on documents.
#ifndef TANREN_STAGES_PRETRAIN_PRETRAIN_STAGE_H_
#define TANREN_STAGES_PRETRAIN_PRETRAIN_STAGE_H_

#include <map>
#include <memory>
#include <string>

#include "core/loss/next_token.h"
#include "core/trainer/stage.h"
#include "stages/common/documents.h"

namespace tanren {

class PretrainStage final : public Stage {
 public:
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<StageValidation> Validate(Engine& engine) override;
  absl::Status SkipSteps(int64_t steps) override { return planner_->Skip(steps); }
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  std::unique_ptr<DocumentSource> train_;
  std::unique_ptr<StepPlanner> planner_;
  StepPlanner::Options planner_options_;
  HeldOutDocuments validation_;
  NextTokenLoss loss_;
};

void RegisterPretrainStage();

}  // namespace tanren

#endif  // TANREN_STAGES_PRETRAIN_PRETRAIN_STAGE_H_
