// What an answer earns, from its text: checks, worked steps and form. Scores of a reward model come on top.
#ifndef TANREN_STAGES_RL_REWARDS_H_
#define TANREN_STAGES_RL_REWARDS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/comm/comm.h"
#include "core/reward/checker.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

namespace config {
class RewardConfig;
}

// An answer as the rewards see it.
struct AnswerToReward {
  std::string prompt;           // the last message of the user
  std::string reference;        // the example's checkable answer, "" without
  std::vector<int32_t> tokens;  // with the end of turn
  int64_t stop_tokens = 0;      // how many of them are the end of turn
  bool ended = false;
};

struct AnswerReward {
  double total = 0;              // of what is given at the end of the answer
  std::vector<float> per_token;  // what is given inside it: process rewards
  double check = 0;              // the checker's score; 0 without a checker
  bool right = false;
  bool checker_failed = false;
  std::string failure;  // why the checker failed
  std::string text;
};

class AnswerRewards {
 public:
  // InvalidArgument names the key under rewards. `max_tokens` is rollout.max_tokens.
  static absl::StatusOr<AnswerRewards> Make(const config::RewardConfig& config, const Tokenizer& tokenizer,
                                            int64_t max_tokens);

  bool checks() const { return checker_ != nullptr; }

  // The same on every rank. Checks are dealt to the ranks of `world`, for a program may take its time.
  // Collective.
  absl::StatusOr<std::vector<AnswerReward>> Reward(Comm& world, const std::vector<AnswerToReward>& answers);

 private:
  absl::Status Check(Comm& world, const std::vector<AnswerToReward>& answers,
                     std::vector<AnswerReward>* rewards);
  void AddSteps(const AnswerToReward& answer, AnswerReward* reward) const;

  std::unique_ptr<Checker> checker_;  // null: nothing is checked
  const Tokenizer* tokenizer_ = nullptr;
  std::string marker_;
  double checker_weight_ = 0;
  double step_weight_ = 0;
  double missing_end_penalty_ = 0;
  double repetition_weight_ = 0;
  int64_t overlong_buffer_ = 0;
  int64_t max_tokens_ = 0;
};

// The checker that rewards.* describes; null where it is none.
absl::StatusOr<std::unique_ptr<Checker>> CheckerFromConfig(const config::RewardConfig& config);

}  // namespace tanren

#endif  // TANREN_STAGES_RL_REWARDS_H_
