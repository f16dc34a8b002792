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
#include "core/tokenizer/tokenizer.h"
#include "stages/rl/answer_checks.h"

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
  double total = 0;                    // of what is given at the end of the answer
  std::vector<float> per_token;        // what is given inside it: process rewards
  AnswerVerdict check;                 // the main checker's; empty without one
  std::vector<AnswerVerdict> aspects;  // of rewards.aspects, in order; empty for those that models score
  std::string text;
};

class AnswerRewards {
 public:
  // InvalidArgument names the key under rewards. `max_tokens` is rollout.max_tokens.
  static absl::StatusOr<AnswerRewards> Make(const config::RewardConfig& config, const Tokenizer& tokenizer,
                                            int64_t max_tokens);

  bool checks() const { return checks_.has_main(); }
  bool needs_reference() const { return checks_.needs_reference(); }
  const std::vector<Aspect>& aspects() const { return aspects_; }

  // The same on every rank. Aspects that models score are left to the caller; without aspects nobody is asked
  // for any. Collective.
  absl::StatusOr<std::vector<AnswerReward>> Reward(Comm& world, const std::vector<AnswerToReward>& answers,
                                                   bool with_aspects = true);

 private:
  absl::Status Check(Comm& world, const std::vector<AnswerToReward>& answers, bool with_aspects,
                     std::vector<AnswerReward>* rewards);
  void AddSteps(const AnswerToReward& answer, AnswerReward* reward) const;

  AnswerChecks checks_;
  std::vector<Aspect> aspects_;
  const Tokenizer* tokenizer_ = nullptr;
  std::string marker_;
  double checker_weight_ = 0;
  double step_weight_ = 0;
  double missing_end_penalty_ = 0;
  double repetition_weight_ = 0;
  int64_t overlong_buffer_ = 0;
  int64_t max_tokens_ = 0;
};

}  // namespace tanren

#endif  // TANREN_STAGES_RL_REWARDS_H_
