// What the checkers say of answers: the main one, which decides what is right, and those of the reward's
// aspects.
#ifndef TANREN_STAGES_RL_ANSWER_CHECKS_H_
#define TANREN_STAGES_RL_ANSWER_CHECKS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/comm/comm.h"
#include "core/reward/checker.h"

namespace tanren {

namespace config {
class RewardConfig;
}

struct AnswerVerdict {
  double score = 0;
  bool right = false;   // score >= 0.5
  bool failed = false;  // counted; the score is 0
  std::string failure;
  std::optional<std::vector<double>> steps;  // of the answer's first lines, from a command; finite
};

struct AnswerToCheck {
  std::string prompt;
  std::string response;
  std::string reference;  // "" without
};

// One named part of the reward, scored by a checker or by a reward model.
struct Aspect {
  std::string name;
  double weight = 0;
  std::string model;  // path of the reward model's checkpoint; "": a checker scores it
  std::string key() const { return "rewards.aspects: " + name; }
};

// The weight of rewards.checker, its default filled in.
double CheckerWeight(const config::RewardConfig& config);

// InvalidArgument names the aspect whose keys do not go together.
absl::StatusOr<std::vector<Aspect>> AspectsFromConfig(const config::RewardConfig& config);

class AnswerChecks {
 public:
  // InvalidArgument names what cannot be asked: a wrong pattern, a program that is not there.
  static absl::StatusOr<AnswerChecks> Make(const config::RewardConfig& config);

  bool has_main() const { return main_.checker != nullptr; }
  bool needs_reference() const;

  struct Checked {
    AnswerVerdict main;                  // empty without a main checker
    std::vector<AnswerVerdict> aspects;  // in the order of the config; empty verdicts of models
  };
  // The same on every rank: answers are dealt to the ranks of `world`, for a program may take its time. Equal
  // commands run once an answer. InvalidArgument names the aspect whose score is not finite. Collective.
  absl::StatusOr<std::vector<Checked>> Check(Comm& world, const std::vector<AnswerToCheck>& answers,
                                             bool with_aspects) const;

 private:
  struct Question {
    std::shared_ptr<Checker> checker;  // shared by equal commands; null: none
    std::string name;                  // of the aspect, "" for the main checker
    std::string pattern;               // instead of the reference; "": the reference
    bool reads_reference = false;
  };
  static absl::StatusOr<Question> MakeQuestion(const CheckerOptions& options, const std::string& pattern);

  Checked CheckOne(const AnswerToCheck& answer, bool with_aspects) const;

  Question main_;
  std::vector<Question> aspects_;
};

}  // namespace tanren

#endif  // TANREN_STAGES_RL_ANSWER_CHECKS_H_
