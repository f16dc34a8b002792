// What a strategy needs of a model: it goes on from tokens, and it may judge answers.
#ifndef TANREN_CORE_EVALUATION_ANSWER_MODEL_H_
#define TANREN_CORE_EVALUATION_ANSWER_MODEL_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"

namespace tanren {

// An answer, whole or only begun, behind its prompt.
struct AnswerToScore {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;  // at least one
};

// Collective where the model is: every rank calls the same with the same arguments and receives the same.
class AnswerModel {
 public:
  virtual ~AnswerModel() = default;

  // As Engine::Generate: each result depends on its prompt and sampling parameters alone.
  virtual absl::StatusOr<std::vector<GenerationResult>> Continue(
      std::span<const GenerationRequest> requests) = 0;

  // Whether there is a reward model.
  virtual bool can_score() const = 0;
  // Its normalised scores at the last token of each answer.
  virtual absl::StatusOr<std::vector<double>> Score(std::span<const AnswerToScore> answers) = 0;

  // Whether there is a reference model.
  virtual bool has_reference() const = 0;
  // Its log-probability of each answer behind its prompt at temperature 1, summed over the tokens, in nats.
  virtual absl::StatusOr<std::vector<double>> ReferenceLogp(std::span<const AnswerToScore> answers) = 0;

  // Longest prompt with its answer.
  virtual int64_t sequence_tokens() const = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_ANSWER_MODEL_H_
