#include "stages/rl/rewards.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "core/reward/shaping.h"

namespace tanren {
namespace {

constexpr int kRepetitionNgram = 4;

std::span<const int32_t> WithoutEnd(const AnswerToReward& answer) {
  return std::span<const int32_t>(answer.tokens).first(answer.tokens.size() - answer.stop_tokens);
}

}  // namespace

absl::StatusOr<AnswerRewards> AnswerRewards::Make(const config::RewardConfig& config,
                                                  const Tokenizer& tokenizer, int64_t max_tokens) {
  AnswerRewards rewards;
  TANREN_ASSIGN_OR_RETURN(rewards.checks_, AnswerChecks::Make(config));
  TANREN_ASSIGN_OR_RETURN(rewards.aspects_, AspectsFromConfig(config));
  if (config.overlong_buffer() > max_tokens) {
    return InvalidInput("rewards.overlong_buffer: %d is longer than rollout.max_tokens %d",
                        config.overlong_buffer(), max_tokens);
  }
  rewards.tokenizer_ = &tokenizer;
  rewards.marker_ = config.marker();
  rewards.checker_weight_ = CheckerWeight(config);
  rewards.step_weight_ = config.step_weight();
  rewards.missing_end_penalty_ = config.missing_end_penalty();
  rewards.repetition_weight_ = config.repetition_weight();
  rewards.overlong_buffer_ = config.overlong_buffer();
  rewards.max_tokens_ = max_tokens;
  return rewards;
}

absl::Status AnswerRewards::Check(Comm& world, const std::vector<AnswerToReward>& answers, bool with_aspects,
                                  std::vector<AnswerReward>* rewards) {
  std::vector<AnswerToCheck> to_check;
  for (size_t i = 0; i < answers.size(); ++i) {
    to_check.push_back({answers[i].prompt, (*rewards)[i].text, answers[i].reference});
  }
  TANREN_ASSIGN_OR_RETURN(std::vector<AnswerChecks::Checked> checked,
                          checks_.Check(world, to_check, with_aspects));
  for (size_t i = 0; i < answers.size(); ++i) {
    AnswerReward& reward = (*rewards)[i];
    reward.check = std::move(checked[i].main);
    reward.aspects = std::move(checked[i].aspects);
    reward.total += checker_weight_ * reward.check.score;
    for (size_t a = 0; a < aspects_.size(); ++a) reward.total += aspects_[a].weight * reward.aspects[a].score;
  }
  return absl::OkStatus();
}

// A step's reward belongs to the token in which its equation, or the line that a command scored, ends.
void AnswerRewards::AddSteps(const AnswerToReward& answer, AnswerReward* reward) const {
  if (reward->check.failed) return;
  std::vector<double> scores;
  std::vector<size_t> ends;
  if (reward->check.steps.has_value()) {
    scores = *reward->check.steps;
    ends = LineEnds(reward->text);
  } else {
    StepReport report = CheckSteps(reward->text, marker_);
    for (const uint8_t right : report.step_right) scores.push_back(right ? 1 : -1);
    ends = std::move(report.step_end);
  }
  const double each = step_weight_ / static_cast<double>(scores.size());
  size_t step = 0, bytes = 0;
  const std::span<const int32_t> tokens = WithoutEnd(answer);
  for (size_t t = 0; t < tokens.size() && step < scores.size(); ++t) {
    bytes += tokenizer_->DecodeToken(tokens[t]).size();
    for (; step < scores.size() && ends[step] <= bytes; ++step) {
      reward->per_token[t] += static_cast<float>(each * scores[step]);
    }
  }
}

absl::StatusOr<std::vector<AnswerReward>> AnswerRewards::Reward(Comm& world,
                                                                const std::vector<AnswerToReward>& answers,
                                                                bool with_aspects) {
  std::vector<AnswerReward> rewards(answers.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    const AnswerToReward& answer = answers[i];
    AnswerReward& reward = rewards[i];
    const std::span<const int32_t> tokens = WithoutEnd(answer);
    std::vector<int32_t> known(tokens.begin(), tokens.end());
    std::erase_if(known, [&](int32_t id) { return id >= tokenizer_->vocab_size(); });
    TANREN_ASSIGN_OR_RETURN(reward.text, tokenizer_->Decode(known));
    reward.per_token.assign(answer.tokens.size(), 0);
    if (!answer.ended) reward.total -= missing_end_penalty_;
    if (overlong_buffer_ > 0) {
      reward.total +=
          OverlongPenalty(static_cast<int64_t>(answer.tokens.size()), max_tokens_, overlong_buffer_);
    }
    if (repetition_weight_ > 0)
      reward.total -= repetition_weight_ * RepetitionShare(tokens, kRepetitionNgram);
  }
  TANREN_RETURN_IF_ERROR(Check(world, answers, with_aspects, &rewards));
  for (size_t i = 0; i < answers.size() && step_weight_ > 0; ++i) AddSteps(answers[i], &rewards[i]);
  return rewards;
}

}  // namespace tanren
