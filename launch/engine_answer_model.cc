#include "launch/engine_answer_model.h"

#include "core/base/status.h"
#include "stages/rl/rollout.h"
#include "stages/rl/rollout_scores.h"

namespace tanren {

absl::StatusOr<std::vector<GenerationResult>> EngineAnswerModel::Continue(
    std::span<const GenerationRequest> requests) {
  return engine_->Generate(model_, requests);
}

namespace {

absl::StatusOr<Rollout> Packed(const Engine& engine, std::span<const AnswerToScore> answers) {
  Rollout rollout;
  for (const AnswerToScore& answer : answers) {
    rollout.answers.push_back(MakeAnswer(answer.prompt, answer.tokens, /*ended=*/true,
                                         static_cast<int64_t>(rollout.answers.size())));
  }
  TANREN_RETURN_IF_ERROR(rollout.Pack(engine.options().micro_batch_tokens));
  return rollout;
}

}  // namespace

absl::StatusOr<std::vector<double>> EngineAnswerModel::ReferenceLogp(std::span<const AnswerToScore> answers) {
  TANREN_ASSIGN_OR_RETURN(const Rollout rollout, Packed(*engine_, answers));
  return AnswerLogp(*engine_, rollout, "reference");
}

absl::StatusOr<std::vector<double>> EngineAnswerModel::Score(std::span<const AnswerToScore> answers) {
  TANREN_ASSIGN_OR_RETURN(const Rollout rollout, Packed(*engine_, answers));
  TANREN_ASSIGN_OR_RETURN(const std::vector<float> raw,
                          ScoreRewards(*engine_, rollout, "reward", scale_.likelihood));
  std::vector<double> scores;
  for (const float score : raw) scores.push_back(scale_.normalizer.Normalised(score));
  return scores;
}

}  // namespace tanren
