// The part of stage rl that judges: whether a run still does what it is meant to do.
#include <cmath>

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "stages/rl/rl_stage.h"

namespace tanren {

// A bound that nothing measures would be kept by every run.
absl::Status RlStage::CheckGuards() const {
  const config::GuardConfig& guards = config_->guards();
  if (guards.max_kl() > 0 && options_.kl_coefficient == 0) {
    return InvalidInput(
        "guards.max_kl: %g, but with rl.kl_coefficient 0 there is no reference to measure the KL to; set "
        "rl.kl_coefficient above 0 (1e-6 hardly pulls), or guards.max_kl: 0",
        guards.max_kl());
  }
  if (guards.max_reward_gap() > 0 && (held_out_.empty() || !rewards_->checks())) {
    return InvalidInput(
        "guards.max_reward_gap: %g needs held-out prompts and a check of their answers; set "
        "data.validation_examples and rewards.checker (with checker_weight 0 it only measures), or "
        "guards.max_reward_gap: 0",
        guards.max_reward_gap());
  }
  if (guards.max_reward_gap() > 0 && config_->validation().interval_steps() == 0) {
    return InvalidInput(
        "guards.max_reward_gap: %g is looked at in validation, but validation.interval_steps is 0; set an "
        "interval, or guards.max_reward_gap: 0",
        guards.max_reward_gap());
  }
  if (guards.min_distinct() > 0 && (!rewards_->checks() || options_.samples < 2)) {
    return InvalidInput(
        "guards.min_distinct: %g compares right answers to one prompt, and so needs rewards.checker and at "
        "least 2 rollout.samples (%d now); set them, or guards.min_distinct: 0",
        guards.min_distinct(), options_.samples);
  }
  return absl::OkStatus();
}

void RlStage::JudgeRollout(StageStep* out) const {
  const config::GuardConfig& guards = config_->guards();
  const auto figure = [&](const char* name) {
    for (const Metric& metric : figures_) {
      if (metric.name == name) return metric.value;
    }
    return -1.0;
  };
  const auto say = [&](const std::string& text) {
    out->warnings.push_back(text);
    if (guards.action() == config::GuardConfig::stop && out->stop.empty()) out->stop = text;
  };
  const double kl = figure("reference_kl"), length = figure("length"), distinct = figure("distinct_right");
  // Comparisons are such that a figure that is not a number is out of bounds.
  if (guards.max_kl() > 0 && !(kl <= guards.max_kl())) {
    say(absl::StrFormat(
        "an answer's KL to the reference is %.4f nats, more than guards.max_kl %g; raise rl.kl_coefficient, "
        "lower optimizer.learning_rate or rl.epochs, or raise the bound",
        kl, guards.max_kl()));
  }
  if (guards.max_length_ratio() > 0 && !(length <= guards.max_length_ratio() * first_length_)) {
    say(absl::StrFormat(
        "answers have %.1f tokens, %.2f times the first rollout's %.1f, more than guards.max_length_ratio "
        "%g; "
        "the reward may pay for length: set rewards.missing_end_penalty or rewards.overlong_buffer, or raise "
        "the bound",
        length, length / first_length_, first_length_, guards.max_length_ratio()));
  }
  if (guards.min_distinct() > 0 && distinct >= 0 && distinct < guards.min_distinct()) {
    say(absl::StrFormat(
        "of the right answers to one prompt %.3f are distinct, less than guards.min_distinct %g; raise "
        "rl.entropy, rollout.temperature or rl.kl_coefficient, or lower the bound",
        distinct, guards.min_distinct()));
  }
  if (!std::isfinite(figure("reward"))) {
    say("the mean reward is not finite: a score times its weight under rewards is too large");
  }
  // Neither of these is a bound, so they only warn.
  if (rollouts_ == 1 && figure("cut_off") == 1) {
    out->warnings.push_back(absl::StrFormat(
        "none of the answers of the first rollout ended within rollout.max_tokens (%d): raise it, or, if the "
        "end of turn of chat.template %s was never trained, run stage sft with this template first",
        options_.max_tokens, config::ChatConfig::Template_Name(config_->chat().template_())));
  }
  WarnOfFailedChecks(&out->warnings);
}

void RlStage::WarnOfFailedChecks(std::vector<std::string>* warnings) const {
  const std::string what = "answers of the rollout";
  WarnOfChecks(totals_.checks, what, warnings);
  for (size_t a = 0; a < totals_.aspect_checks.size(); ++a) {
    WarnOfChecks(totals_.aspect_checks[a], absl::StrCat(what, " by ", rewards_->aspects()[a].key()),
                 warnings);
  }
}

void RlStage::WarnOfChecks(const Checks& checks, const std::string& what,
                           std::vector<std::string>* warnings) {
  if (checks.failed == 0) return;
  warnings->push_back(
      absl::StrFormat("the check of %d of %d %s failed, which counts as wrong (the first: %s); mend the "
                      "checker, or raise rewards.time_limit_seconds",
                      checks.failed, checks.all, what, checks.failure));
}

void RlStage::WarnOfOffPolicy(std::vector<std::string>* warnings) const {
  constexpr char kCorrected[] =
      " draw answers from another distribution than the policy's: training is off-policy, and its gradient "
      "is not "
      "corrected for it; ";
  if (options_.repetition.on()) {
    warnings->push_back(absl::StrCat("rollout.repetition_penalty and no_repeat_ngram", kCorrected,
                                     "rewards.repetition_weight discourages repetition on-policy"));
  }
  if (options_.sampling.top_k > 0 || options_.sampling.top_p < 1) {
    warnings->push_back(absl::StrCat("rollout.top_k and top_p", kCorrected,
                                     "a lower rollout.temperature narrows the answers on-policy"));
  }
}

absl::Status RlStage::CheckStartsAtReference(const std::vector<AnswerScores>& scores) const {
  constexpr double kNats = 1e-4;
  for (const AnswerScores& one : scores) {
    for (size_t t = 0; t < one.reference_logp.size(); ++t) {
      const double difference = std::abs(static_cast<double>(one.old_logp[t]) - one.reference_logp[t]);
      if (difference <= kNats) continue;  // one that is not a number differs
      return InvalidInput(
          "before the first step the policy and its reference differ by %g nats at a token, and both are %s: "
          "the "
          "weights were changed while they were loaded, or the models are not alike; name the reference that "
          "is "
          "meant with init.reference",
          difference, config_->init().from());
    }
  }
  return absl::OkStatus();
}

void RlStage::JudgeHacking(double accuracy, StageValidation* out) {
  const config::GuardConfig& guards = config_->guards();
  if (guards.max_reward_gap() <= 0 || rollouts_ == 0) return;
  if (first_accuracy_ < 0) {
    first_accuracy_ = accuracy;
    first_reward_ = last_reward_;
    out->warnings.push_back(absl::StrFormat(
        "guards.max_reward_gap compares with this step's held-out accuracy, %.4f: the steps before "
        "were made without a check on data.validation_examples",
        first_accuracy_));
  }
  if (last_reward_ <= first_reward_ || first_accuracy_ - accuracy <= guards.max_reward_gap()) return;
  const std::string text = absl::StrFormat(
      "reward hacking: the reward rose from %.4f to %.4f while the held-out accuracy fell from %.4f to %.4f, "
      "by more than guards.max_reward_gap %g; give the check a part in the reward (rewards.checker_weight), "
      "raise rl.kl_coefficient, train the reward model on such answers, or raise the bound",
      first_reward_, last_reward_, first_accuracy_, accuracy, guards.max_reward_gap());
  out->warnings.push_back(text);
  if (guards.action() == config::GuardConfig::stop) out->stop = text;
}

}  // namespace tanren
