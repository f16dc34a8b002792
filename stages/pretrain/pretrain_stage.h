// Pre-training: next-token prediction on documents.
#ifndef TANREN_STAGES_PRETRAIN_PRETRAIN_STAGE_H_
#define TANREN_STAGES_PRETRAIN_PRETRAIN_STAGE_H_

#include <memory>
#include <string>
#include <vector>

#include "core/corpus/token_corpus.h"
#include "core/loss/next_token.h"
#include "core/trainer/stage.h"
#include "stages/pretrain/document_source.h"

namespace tanren {

class PretrainStage final : public Stage {
 public:
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<std::vector<Metric>> Validate(Engine& engine) override;
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  // This rank's micro-batches of a planned step.
  absl::StatusOr<std::vector<MicroBatch>> LoadDealt(DocumentSource& source, const StepPlan& plan,
                                                    const Mesh& mesh);

  std::unique_ptr<DocumentSource> train_;
  std::unique_ptr<DocumentSource> validation_;
  std::unique_ptr<StepPlanner> planner_;
  StepPlanner::Options planner_options_;
  int64_t validation_micro_batches_ = 0;  // 0: all
  double bytes_per_token_ = 0;            // of the validation data; 0: unknown
  NextTokenLoss loss_;
};

void RegisterPretrainStage();

}  // namespace tanren

#endif  // TANREN_STAGES_PRETRAIN_PRETRAIN_STAGE_H_
