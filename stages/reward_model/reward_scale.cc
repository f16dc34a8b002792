#include "stages/reward_model/reward_scale.h"

#include <cmath>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"

namespace tanren {
namespace {

constexpr const char* kNormalization = "stage.normalization";
constexpr const char* kLikelihood = "stage.likelihood";
// What rounding may do to moments, which are sums of floats.
constexpr double kRounding = 1e-4;

absl::StatusOr<LikelihoodTerm> LikelihoodFromState(const std::string& state) {
  const std::vector<std::string> fields = absl::StrSplit(state, ' ');
  HeadAndLikelihoodScore score;
  const bool known = fields.size() == 2 && (fields[0] == "sum" || fields[0] == "mean");
  if (!known || !absl::SimpleAtod(fields[1], &score.weight) || !std::isfinite(score.weight)) {
    return InvalidInput("the saved likelihood term \"%s\" is damaged", state);
  }
  score.mean = fields[0] == "mean";
  return score;
}

template <class Score>
std::unique_ptr<Loss> LossOver(const config::RewardModelConfig& config, const Score& score) {
  if (config.loss() == config::RewardModelConfig::listwise) {
    return std::make_unique<SequenceLossOf<ListwiseRewardFunctor<Score>>>(
        ListwiseRewardFunctor<Score>{config.centering(), score});
  }
  return std::make_unique<SequenceLossOf<PairwiseRewardFunctor<Score>>>(
      PairwiseRewardFunctor<Score>{config.centering(), score});
}

}  // namespace

bool ScoreNormalizer::Add(double mean, double mean_of_squares) {
  if (!std::isfinite(mean) || !std::isfinite(mean_of_squares)) return false;
  mean_ = kDecay * mean_ + (1 - kDecay) * mean;
  square_ = kDecay * square_ + (1 - kDecay) * mean_of_squares;
  weight_ = kDecay * weight_ + (1 - kDecay);
  return true;
}

double ScoreNormalizer::mean() const { return weight_ > 0 ? mean_ / weight_ : 0; }

double ScoreNormalizer::variance() const { return square_ / weight_ - mean() * mean(); }

bool ScoreNormalizer::sound() const {
  if (weight_ == 0) return mean_ == 0 && square_ == 0;
  // The weights of an average sum to 1 at most.
  const bool weighs = weight_ > 0 && weight_ < 1 + kRounding;
  return weighs && std::isfinite(mean()) && std::isfinite(variance()) &&
         variance() >= -kRounding * square_ / weight_;
}

double ScoreNormalizer::deviation() const {
  if (weight_ == 0) return 1;
  return variance() > 1e-12 ? std::sqrt(variance()) : 1;
}

std::string ScoreNormalizer::ToState() const {
  return absl::StrFormat("%.17g %.17g %.17g", mean_, square_, weight_);
}

absl::StatusOr<ScoreNormalizer> ScoreNormalizer::FromState(const std::string& state) {
  const std::vector<std::string> fields = absl::StrSplit(state, ' ');
  ScoreNormalizer normalizer;
  if (fields.size() != 3 || !absl::SimpleAtod(fields[0], &normalizer.mean_) ||
      !absl::SimpleAtod(fields[1], &normalizer.square_) ||
      !absl::SimpleAtod(fields[2], &normalizer.weight_)) {
    return InvalidInput("the saved score normalisation \"%s\" is damaged", state);
  }
  if (normalizer.sound()) return normalizer;
  return InvalidInput(
      "the saved score normalisation \"%s\" has a mean of %g and a variance of %g, and every score would be "
      "normalised by them; take an earlier step of that reward model, or train it again",
      state, normalizer.mean(), normalizer.variance());
}

LikelihoodTerm LikelihoodFromConfig(const config::RewardModelConfig& config) {
  if (config.likelihood() == config::RewardModelConfig::none) return std::nullopt;
  return HeadAndLikelihoodScore{config.likelihood_weight(),
                                config.likelihood() == config::RewardModelConfig::mean};
}

std::string LikelihoodState(const LikelihoodTerm& term) {
  TANREN_CHECK(term.has_value());
  return absl::StrFormat("%s %.17g", term->mean ? "mean" : "sum", term->weight);
}

std::unique_ptr<Loss> MakeRewardLoss(const config::RewardModelConfig& config, const LikelihoodTerm& term) {
  return term.has_value() ? LossOver(config, *term) : LossOver(config, HeadScore{});
}

absl::StatusOr<RewardScale> RewardScale::FromState(const std::map<std::string, std::string>& state) {
  const auto normalization = state.find(kNormalization);
  if (normalization == state.end()) return InvalidInput("it has no score normalisation of a reward model");
  RewardScale scale;
  TANREN_ASSIGN_OR_RETURN(scale.normalizer, ScoreNormalizer::FromState(normalization->second));
  const auto likelihood = state.find(kLikelihood);
  if (likelihood == state.end()) return scale;
  TANREN_ASSIGN_OR_RETURN(scale.likelihood, LikelihoodFromState(likelihood->second));
  return scale;
}

bool ScoresLikelihood(const std::map<std::string, std::string>& state) {
  return state.find(kLikelihood) != state.end();
}

}  // namespace tanren
