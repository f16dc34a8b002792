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
constexpr size_t kMaxFailureBytes = 300;

struct PackedCheck {
  double score = 0;
  uint8_t right = 0;
  uint8_t failed = 0;
  uint16_t failure_bytes = 0;  // of the text behind it
};

std::span<const int32_t> WithoutEnd(const AnswerToReward& answer) {
  return std::span<const int32_t>(answer.tokens).first(answer.tokens.size() - answer.stop_tokens);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checker>> CheckerFromConfig(const config::RewardConfig& config) {
  CheckerOptions options;
  switch (config.checker()) {
    case config::RewardConfig::none:
      return std::unique_ptr<Checker>();
    case config::RewardConfig::numeric:
      options.kind = CheckerOptions::Kind::kNumeric;
      break;
    case config::RewardConfig::exact:
      options.kind = CheckerOptions::Kind::kExact;
      break;
    case config::RewardConfig::regex:
      options.kind = CheckerOptions::Kind::kRegex;
      break;
    case config::RewardConfig::external:
      options.kind = CheckerOptions::Kind::kCommand;
      break;
  }
  options.marker = config.marker();
  options.command.assign(config.command().begin(), config.command().end());
  options.time_limit_seconds = config.time_limit_seconds();
  absl::StatusOr<std::unique_ptr<Checker>> checker = MakeChecker(options);
  if (!checker.ok()) return At("rewards.checker", checker.status());
  return checker;
}

absl::StatusOr<AnswerRewards> AnswerRewards::Make(const config::RewardConfig& config,
                                                  const Tokenizer& tokenizer, int64_t max_tokens) {
  AnswerRewards rewards;
  TANREN_ASSIGN_OR_RETURN(rewards.checker_, CheckerFromConfig(config));
  if (config.overlong_buffer() > max_tokens) {
    return InvalidInput("rewards.overlong_buffer: %d is longer than rollout.max_tokens %d",
                        config.overlong_buffer(), max_tokens);
  }
  rewards.tokenizer_ = &tokenizer;
  rewards.marker_ = config.marker();
  rewards.checker_weight_ = config.checker_weight();
  rewards.step_weight_ = config.step_weight();
  rewards.missing_end_penalty_ = config.missing_end_penalty();
  rewards.repetition_weight_ = config.repetition_weight();
  rewards.overlong_buffer_ = config.overlong_buffer();
  rewards.max_tokens_ = max_tokens;
  return rewards;
}

absl::Status AnswerRewards::Check(Comm& world, const std::vector<AnswerToReward>& answers,
                                  std::vector<AnswerReward>* rewards) {
  if (!checker_) return absl::OkStatus();
  std::string mine;
  for (size_t i = world.rank(); i < answers.size(); i += world.size()) {
    const CheckResult result = checker_->Check(answers[i].prompt, (*rewards)[i].text, answers[i].reference);
    const std::string failure = result.failure.substr(0, kMaxFailureBytes);
    const PackedCheck packed{result.score, result.right, result.failed,
                             static_cast<uint16_t>(failure.size())};
    mine.append(reinterpret_cast<const char*>(&packed), sizeof(packed)).append(failure);
  }
  const std::vector<std::string> all = AllGatherStrings(world, "checked answers", mine);
  std::vector<size_t> read(all.size(), 0);  // bytes of each rank's checks
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::string& bytes = all[i % all.size()];
    size_t& at = read[i % all.size()];
    PackedCheck packed;
    TANREN_CHECK(at + sizeof(packed) <= bytes.size());
    std::memcpy(&packed, bytes.data() + at, sizeof(packed));
    (*rewards)[i].failure = bytes.substr(at + sizeof(packed), packed.failure_bytes);
    at += sizeof(packed) + packed.failure_bytes;
    if (!std::isfinite(packed.score)) {
      return InvalidInput("rewards.checker: the score of an answer to \"%s\" is %g; scores are finite",
                          answers[i].prompt, packed.score);
    }
    (*rewards)[i].check = packed.score;
    (*rewards)[i].right = packed.right != 0;
    (*rewards)[i].checker_failed = packed.failed != 0;
    (*rewards)[i].total += checker_weight_ * packed.score;
  }
  return absl::OkStatus();
}

// A step's reward belongs to the token in which its equation ends.
void AnswerRewards::AddSteps(const AnswerToReward& answer, AnswerReward* reward) const {
  const StepReport report = CheckSteps(reward->text, marker_);
  if (report.steps == 0) return;
  size_t step = 0, bytes = 0;
  const std::span<const int32_t> tokens = WithoutEnd(answer);
  for (size_t t = 0; t < tokens.size() && step < report.step_end.size(); ++t) {
    bytes += tokenizer_->DecodeToken(tokens[t]).size();
    for (; step < report.step_end.size() && report.step_end[step] <= bytes; ++step) {
      const double sign = report.step_right[step] ? 1 : -1;
      reward->per_token[t] += static_cast<float>(sign * step_weight_ / static_cast<double>(report.steps));
    }
  }
}

absl::StatusOr<std::vector<AnswerReward>> AnswerRewards::Reward(Comm& world,
                                                                const std::vector<AnswerToReward>& answers) {
  std::vector<AnswerReward> rewards(answers.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    const AnswerToReward& answer = answers[i];
    AnswerReward& reward = rewards[i];
    const std::span<const int32_t> tokens = WithoutEnd(answer);
    std::vector<int32_t> known(tokens.begin(), tokens.end());
    std::erase_if(known, [&](int32_t id) { return id >= tokenizer_->vocab_size(); });
    TANREN_ASSIGN_OR_RETURN(reward.text, tokenizer_->Decode(known));
    reward.per_token.assign(answer.tokens.size(), 0);
    if (step_weight_ > 0) AddSteps(answer, &reward);
    if (!answer.ended) reward.total -= missing_end_penalty_;
    if (overlong_buffer_ > 0) {
      reward.total +=
          OverlongPenalty(static_cast<int64_t>(answer.tokens.size()), max_tokens_, overlong_buffer_);
    }
    if (repetition_weight_ > 0)
      reward.total -= repetition_weight_ * RepetitionShare(tokens, kRepetitionNgram);
  }
  TANREN_RETURN_IF_ERROR(Check(world, answers, &rewards));
  return rewards;
}

}  // namespace tanren
