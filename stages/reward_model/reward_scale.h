// How a reward model's scores are made and what they are compared with: saved with the model.
#ifndef TANREN_STAGES_REWARD_MODEL_REWARD_SCALE_H_
#define TANREN_STAGES_REWARD_MODEL_REWARD_SCALE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/loss/loss.h"
#include "stages/losses/reward_losses.h"

namespace tanren {

namespace config {
class RewardModelConfig;
}

// Mean and deviation of the scores that the model gave lately in training: with them the scores of different
// reward models, and a score and a check, are on one scale. Exponential averages with bias correction, stored
// with the model.
class ScoreNormalizer {
 public:
  static constexpr double kDecay = 0.95;

  // Means over a step's answers. False where one is not finite: they are left out, for averages would keep
  // them for ever.
  [[nodiscard]] bool Add(double mean, double mean_of_squares);
  double mean() const;
  double deviation() const;  // 1 before any score
  double Normalised(double score) const { return (score - mean()) / deviation(); }
  std::string ToState() const;
  // InvalidArgument where it is none, is not finite, or has a variance below 0.
  static absl::StatusOr<ScoreNormalizer> FromState(const std::string& state);

 private:
  double variance() const;
  bool sound() const;  // such as averages of finite scores are

  double mean_ = 0;
  double square_ = 0;
  double weight_ = 0;
};

// The log-probability that the config adds to the head's value; none where the head scores alone.
using LikelihoodTerm = std::optional<HeadAndLikelihoodScore>;
LikelihoodTerm LikelihoodFromConfig(const config::RewardModelConfig& config);
std::string LikelihoodState(const LikelihoodTerm& term);

// The pairwise or listwise loss of the config over those scores.
std::unique_ptr<Loss> MakeRewardLoss(const config::RewardModelConfig& config, const LikelihoodTerm& term);

struct RewardScale {
  ScoreNormalizer normalizer;
  LikelihoodTerm likelihood;

  // Of a checkpoint's state: InvalidArgument where it is none of a reward model, or damaged.
  static absl::StatusOr<RewardScale> FromState(const std::map<std::string, std::string>& state);
};

// Whether a checkpoint of that state scores by its vocabulary head as well.
bool ScoresLikelihood(const std::map<std::string, std::string>& state);

}  // namespace tanren

#endif  // TANREN_STAGES_REWARD_MODEL_REWARD_SCALE_H_
