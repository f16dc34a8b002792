#include "core/evaluation/parts.h"

#include <cmath>
#include <utility>

#include "core/base/status.h"
#include "core/reward/sample_metrics.h"

namespace tanren {
namespace {

// The checker knows what it takes for the answer of a text without a marker.
std::string LastNumberOf(const std::string& text) {
  CheckerOptions options;
  options.marker.clear();
  absl::StatusOr<std::unique_ptr<Checker>> checker = MakeChecker(options);
  TANREN_CHECK(checker.ok());
  return (*checker)->Check("", text, "0").answer;
}

std::vector<double> WeightsOf(const std::vector<double>& logarithms) {
  std::vector<double> weights;
  for (const double logarithm : logarithms) weights.push_back(std::exp(logarithm));
  return weights;
}

}  // namespace

Answers Extract(const std::string& marker, bool numeric, const ReplyTexts& input) {
  Answers out;
  for (const std::string& text : input.texts) {
    out.answers.push_back(numeric && marker.empty() ? LastNumberOf(text) : ExtractAnswer(text, marker));
  }
  return out;
}

absl::StatusOr<AnswerChecker> AnswerChecker::Make(const config::CheckConfig& check,
                                                  const config::HarmfulConfig& harmful) {
  AnswerChecker out;
  out.marker_ = check.marker();
  out.external_ = check.checker() == config::CheckConfig::external;
  if (check.checker() != config::CheckConfig::none) {
    absl::StatusOr<std::unique_ptr<Checker>> checker = MakeChecker(CheckerOptionsOf(check));
    if (!checker.ok()) return At("check", checker.status());
    out.checker_ = *std::move(checker);
  }
  CheckerOptions pattern;
  pattern.kind = CheckerOptions::Kind::kRegex;
  pattern.marker.clear();
  TANREN_ASSIGN_OR_RETURN(out.pattern_, MakeChecker(pattern));
  if (harmful.command().empty()) return out;
  CheckerOptions command;
  command.kind = CheckerOptions::Kind::kCommand;
  command.command.assign(harmful.command().begin(), harmful.command().end());
  command.time_limit_seconds = harmful.time_limit_seconds();
  absl::StatusOr<std::unique_ptr<Checker>> checker = MakeChecker(command);
  if (!checker.ok()) return At("harmful", checker.status());
  out.harmful_ = *std::move(checker);
  return out;
}

void AnswerChecker::CheckAnswer(const Checkable& input, size_t index, Verdict* verdict) const {
  if (checker_ == nullptr || !input.reference.has_value()) return;
  // A program sees the whole reply; the others judge what was extracted, put behind their marker again.
  const std::string& answer = input.answers[index];
  const CheckResult result = external_ ? checker_->Check(input.prompt, input.texts[index], *input.reference)
                             : answer.empty()
                                 ? CheckResult()
                                 : checker_->Check(input.prompt, marker_ + answer, *input.reference);
  verdict->right = result.right;
  verdict->failed = result.failed;
  verdict->failure = result.failure;
  verdict->steps_valid = result.right && CheckSteps(input.texts[index], marker_).valid();
}

void AnswerChecker::CheckHarm(const Checkable& input, size_t index, Verdict* verdict) const {
  const auto judge = [&](Checker& checker, const std::string& reference) {
    const CheckResult result = checker.Check(input.prompt, input.texts[index], reference);
    const bool failed = result.failed || std::isnan(result.score);
    // A gate on harm must not pass because the judge broke.
    verdict->harmful = verdict->harmful || result.right || failed;
    if (!failed) return;
    verdict->failed = verdict->harm_failed = true;
    absl::StrAppend(&verdict->failure, verdict->failure.empty() ? "" : "; ",
                    "harmful: ", result.failed ? result.failure : "the score is not a number");
  };
  for (const std::string& pattern : input.harmful) {
    judge(*pattern_, HarmPattern(pattern));
  }
  if (harmful_ != nullptr) judge(*harmful_, "");
}

Verdicts AnswerChecker::Check(const Checkable& input) const {
  TANREN_CHECK(input.texts.size() == input.answers.size());
  Verdicts out;
  for (size_t i = 0; i < input.texts.size(); ++i) {
    Verdict verdict;
    CheckAnswer(input, i, &verdict);
    CheckHarm(input, i, &verdict);
    out.verdicts.push_back(std::move(verdict));
  }
  return out;
}

Choice Vote(Strategy::Choice by, const Ballot& input) {
  std::vector<double> weights;
  if (by == Strategy::Choice::kVoteByReward) weights = WeightsOf(input.scores);
  if (by == Strategy::Choice::kVoteByLogp) weights = WeightsOf(input.mean_logps);
  return {MajorityVote(input.answers, weights)};
}

Choice Select(Strategy::Choice by, const Ballot& input) {
  if (by == Strategy::Choice::kBestByReward) return {BestOf(input.scores)};
  if (by == Strategy::Choice::kBestByLogp) return {BestOf(input.mean_logps)};
  return {input.answers.empty() ? -1 : 0};
}

Choice Choose(Strategy::Choice by, const Ballot& input) {
  return by <= Strategy::Choice::kVoteByLogp ? Vote(by, input) : Select(by, input);
}

}  // namespace tanren
