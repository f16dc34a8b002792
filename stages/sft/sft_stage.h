// Supervised fine-tuning: the answers of conversations are learnt, token by token.
#ifndef TANREN_STAGES_SFT_SFT_STAGE_H_
#define TANREN_STAGES_SFT_SFT_STAGE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/chat/chat_template.h"
#include "core/loss/next_token.h"
#include "core/trainer/stage.h"
#include "stages/common/documents.h"
#include "stages/common/example_units.h"
#include "stages/common/unit_source.h"

namespace tanren {

// A unit is an instruction with all its references, a segment each. Its tokens weigh the example's weight
// divided by the number of references, so an instruction counts once however many right answers it has.
absl::Status MakeSftUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                         Unit* unit);

class SftStage final : public Stage {
 public:
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  absl::Status Begin(Engine& engine) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<StageValidation> Validate(Engine& engine) override;
  absl::Status SkipSteps(int64_t steps) override { return planner_->Skip(steps); }
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  std::unique_ptr<UnitSource> examples_;
  std::unique_ptr<DocumentSource> replay_;  // null without
  std::unique_ptr<MixedSource> mixed_;      // null without replay
  std::unique_ptr<UnitSource> validation_;  // null without
  std::unique_ptr<StepPlanner> planner_;
  StepPlanner::Options planner_options_;
  BaseLoss base_;
  WeightedNextTokenLoss loss_;
};

void RegisterSftStage();

}  // namespace tanren

#endif  // TANREN_STAGES_SFT_SFT_STAGE_H_
