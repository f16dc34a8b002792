// Reward modelling: a scalar head at the end of an answer learns to order answers as people did.
#ifndef TANREN_STAGES_REWARD_MODEL_REWARD_MODEL_STAGE_H_
#define TANREN_STAGES_REWARD_MODEL_REWARD_MODEL_STAGE_H_

#include <map>
#include <memory>
#include <string>

#include "core/chat/chat_template.h"
#include "core/trainer/stage.h"
#include "stages/common/documents.h"
#include "stages/common/example_units.h"
#include "stages/common/unit_source.h"
#include "stages/reward_model/reward_scale.h"

namespace tanren {

// A unit is a ranking: a segment for each answer, whole, with segment columns "rank" and "margin".
absl::Status MakeRankingUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                             Unit* unit);

class RewardModelStage final : public Stage {
 public:
  absl::Status Declare(const config::Config& config, const Tokenizer& tokenizer,
                       EngineOptions* engine) override;
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  absl::Status Begin(Engine& engine) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<StageValidation> Validate(Engine& engine) override;
  absl::Status SkipSteps(int64_t steps) override { return planner_->Skip(steps); }
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  std::unique_ptr<UnitSource> examples_;
  std::unique_ptr<UnitSource> validation_;  // null without
  std::unique_ptr<StepPlanner> planner_;
  StepPlanner::Options planner_options_;
  std::unique_ptr<Loss> loss_;
  RewardScale scale_;
  BaseLoss base_;  // of a model that keeps its vocabulary head
};

void RegisterRewardModelStage();

}  // namespace tanren

#endif  // TANREN_STAGES_REWARD_MODEL_REWARD_MODEL_STAGE_H_
