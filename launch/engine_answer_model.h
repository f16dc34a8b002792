// A model of an engine as evaluation sees it.
#ifndef TANREN_LAUNCH_ENGINE_ANSWER_MODEL_H_
#define TANREN_LAUNCH_ENGINE_ANSWER_MODEL_H_

#include <span>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "core/evaluation/answer_model.h"
#include "stages/reward_model/reward_scale.h"

namespace tanren {

class EngineAnswerModel final : public AnswerModel {
 public:
  // `engine` outlives it. `model` generates; the engine's model "reward", where there is one, scores, on the
  // scale of `scale`. The policy is compared with the engine's model "reference", where there is one.
  EngineAnswerModel(Engine* engine, std::string model, const RewardScale& scale)
      : engine_(engine), model_(std::move(model)), scale_(scale) {}

  absl::StatusOr<std::vector<GenerationResult>> Continue(
      std::span<const GenerationRequest> requests) override;
  bool can_score() const override { return engine_->HasModel("reward"); }
  absl::StatusOr<std::vector<double>> Score(std::span<const AnswerToScore> answers) override;
  bool has_reference() const override { return model_ == "policy" && engine_->HasModel("reference"); }
  absl::StatusOr<std::vector<double>> ReferenceLogp(std::span<const AnswerToScore> answers) override;
  int64_t sequence_tokens() const override { return engine_->options().generation_tokens; }

 private:
  Engine* engine_;
  std::string model_;
  RewardScale scale_;
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_ENGINE_ANSWER_MODEL_H_
