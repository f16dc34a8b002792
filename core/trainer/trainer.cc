#include "core/trainer/trainer.h"

#include <utility>

#include "core/activity/activity.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "core/trainer/requests.h"
#include "core/trainer/setup.h"

namespace tanren {
namespace {

double FlopsPerToken(const ModelShape& shape, int64_t sequence_length) {
  return 3 * ForwardFlops(shape, MeanKeys(shape, static_cast<double>(sequence_length)));
}

}  // namespace

absl::Status Trainer::TrainOneStep() {
  StepRecord record;
  record.learning_rate = LearningRate(schedule_, step_);
  const double begin = SteadySeconds();
  {
    const DoingStep doing(step_ + 1);
    TANREN_ASSIGN_OR_RETURN(record.result, stage_.Step(engine_, step_, record.learning_rate));
  }
  record.step_seconds = SteadySeconds() - begin;
  seconds_ += record.step_seconds;
  tokens_ += record.result.tokens;
  ++step_;
  const FaultJudge::Verdict verdict = faults_.Judge(record.result, stage_.LossTells());
  WarnOfFaults(record.result, verdict);
  if (verdict.roll_back) return RollBack();
  TANREN_RETURN_IF_ERROR(CheckWeights());
  TANREN_RETURN_IF_ERROR(Heed(record.result.warnings, record.result.stop));
  const int64_t steps = config_.train().steps();
  if (step_ % config_.train().log_interval() != 0 && step_ != steps && step_ != 1) return absl::OkStatus();
  record.step = step_;
  record.steps = steps;
  record.tokens_per_second = record.result.tokens / record.step_seconds;
  record.flops_per_second = record.tokens_per_second * FlopsPerToken(engine_.options().models[0].shape,
                                                                     config_.data().sequence_length());
  record.total_tokens = tokens_;
  record.total_seconds = seconds_;
  record.save_wait_seconds = std::exchange(save_wait_seconds_, 0);
  record.slow_ranks = std::exchange(slow_ranks_, {});
  record.faults = faults_.counts();
  log_->Step(record);
  return absl::OkStatus();
}

void Trainer::WarnOfFaults(const StageStep& result, const FaultJudge::Verdict& verdict) {
  if (result.skipped) {
    log_->Warning(absl::StrCat("step ", step_, ": the gradient is not finite (loss ", result.loss,
                               "); the weights it is of were not changed"));
  }
  if (verdict.first) {
    log_->Warning(absl::StrFormat(
        "step %d: the loss %.4g is a spike, %.1f standard deviations above the recent mean %.4g", step_,
        result.loss, verdict.deviations, verdict.mean));
  }
}

absl::Status Trainer::CheckWeights() {
  const FaultAction fault = step_faults_.Hit("replica");
  if (fault != FaultAction::kNone) {
    engine_.DamageWeightsForTest(engine_.options().models[0].name,
                                 fault == FaultAction::kNaN ? Engine::Damage::kNaN : Engine::Damage::kBit);
  }
  const int64_t interval = config_.faults().replica_check_steps();
  return interval > 0 && step_ % interval == 0 ? CompareReplicas() : absl::OkStatus();
}

absl::Status Trainer::Validate() {
  if (validated_step_ == step_) return absl::OkStatus();
  const Doing validating(Phase::kValidation);
  TANREN_ASSIGN_OR_RETURN(const StageValidation validation, stage_.Validate(engine_));
  if (!validation.metrics.empty()) log_->Validation(step_, validation.metrics);
  validated_step_ = step_;
  return Heed(validation.warnings, validation.stop);
}

absl::Status Trainer::Heed(const std::vector<std::string>& warnings, const std::string& stop) {
  for (const std::string& warning : warnings) log_->Warning(absl::StrCat("step ", step_, ": ", warning));
  if (stop.empty() || !guard_stop_.empty()) return absl::OkStatus();
  guard_stop_ = absl::StrCat("step ", step_, ": ", stop);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GenerationRequest>> Trainer::SampleRequests() const {
  const config::SamplesConfig& samples = config_.samples();
  std::vector<GenerationRequest> requests;
  if (samples.interval_steps() == 0) return requests;
  for (int i = 0; i < samples.prompts_size(); ++i) {
    kernels::SamplingParams sampling;
    sampling.temperature = static_cast<float>(samples.temperature());
    sampling.top_k = static_cast<int32_t>(samples.top_k());
    sampling.top_p = static_cast<float>(samples.top_p());
    sampling.seed = static_cast<uint64_t>(config_.seed());
    sampling.stream_id = static_cast<uint64_t>(step_) * samples.prompts_size() + i;
    absl::StatusOr<GenerationRequest> request =
        MakeRequest(*options_.tokenizer, engine_.options().generation_tokens, samples.prompts(i),
                    samples.max_tokens(), sampling);
    if (!request.ok()) return At(absl::StrCat("samples.prompts.", i), request.status());
    request->repetition.penalty = static_cast<float>(samples.repetition_penalty());
    request->repetition.no_repeat_ngram = static_cast<int32_t>(samples.no_repeat_ngram());
    requests.push_back(*std::move(request));
  }
  return requests;
}

absl::Status Trainer::Sample() {
  const Doing sampling(Phase::kSamples);
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationRequest> requests, SampleRequests());
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                          engine_.Generate(engine_.options().models[0].name, requests));
  for (size_t i = 0; i < results.size(); ++i) {
    TANREN_ASSIGN_OR_RETURN(const std::string text, AnswerText(*options_.tokenizer, results[i]));
    log_->Sample(step_, config_.samples().prompts(static_cast<int>(i)), text, results[i].tokens);
  }
  return absl::OkStatus();
}

void Trainer::HeedSlowRanks() {
  if (!options_.slow_ranks) return;
  for (SlowRank& slow : options_.slow_ranks()) {
    log_->Warning(absl::StrCat("step ", step_, ": ", slow.text));
    slow_ranks_.push_back(std::move(slow));
  }
}

absl::StatusOr<Trainer::Outcome> Trainer::Stop() {
  TANREN_RETURN_IF_ERROR(FinishSave());
  // A commit among steps that go wrong would be gone back to in place of one before them.
  if (faults_.bad_in_a_row() > 0 && saved_step_ >= 0) {
    log_->Info(absl::StrCat(
        "stopped at step ", step_, " of ", config_.train().steps(), ", after ", faults_.bad_in_a_row(),
        " bad steps in a row, which are not saved; run again to continue from step ", saved_step_));
    return Outcome::kStopped;
  }
  TANREN_RETURN_IF_ERROR(Save(Then::kWait));
  if (saved_step_ != step_) return NotSaved();
  log_->Info(
      absl::StrCat("stopped at step ", step_, " of ", config_.train().steps(), "; run again to continue"));
  return Outcome::kStopped;
}

absl::Status Trainer::EndByGuard() {
  TANREN_RETURN_IF_ERROR(Save(Then::kWait));
  const std::string saved = saved_step_ == step_ ? absl::StrCat("step ", step_, " is saved")
                                                 : std::string(View(NotSaved().message()));
  return absl::AbortedError(absl::StrCat("a guard ended the run, ", guard_stop_, " (", saved,
                                         "; guards.action: warn would only warn)"));
}

absl::Status Trainer::NotSaved() const {
  return absl::InternalError(
      absl::StrCat("step ", step_, " could not be saved; the newest commit is of step ", saved_step_));
}

absl::StatusOr<Trainer::Outcome> Trainer::Run() {
  TANREN_RETURN_IF_ERROR(Start());
  if (!step_faults_.empty()) Activity::Own().AddObserver(this);
  absl::StatusOr<Outcome> outcome = Steps();
  // What ends a run early is no reason to lose a save; the ranks agree on it, so all are here.
  const absl::Status saved = FinishSave();
  return outcome.ok() && !saved.ok() ? saved : outcome;
}

absl::StatusOr<Trainer::Outcome> Trainer::Steps() {
  const int64_t steps = config_.train().steps();
  const auto due = [this](int64_t interval) { return interval > 0 && step_ % interval == 0; };
  if (fresh_) TANREN_RETURN_IF_ERROR(stage_.Begin(engine_));
  while (step_ < steps) {
    if (!guard_stop_.empty()) return EndByGuard();
    TANREN_ASSIGN_OR_RETURN(const bool stop, StopAgreed());
    if (stop) return Stop();
    HeedSlowRanks();
    TANREN_RETURN_IF_ERROR(TrainOneStep());
    if (std::exchange(went_back_, false)) continue;
    // What was learned is safe before anything else is tried with it. Where steps go wrong it is not: the run
    // goes back behind them, or saves as soon as one is well.
    save_is_due_ |= due(config_.checkpoint().interval_steps());
    if (save_is_due_ && faults_.bad_in_a_row() == 0) {
      TANREN_RETURN_IF_ERROR(Save(step_ < steps ? Then::kGoOn : Then::kWait));
    }
    if (due(config_.validation().interval_steps())) TANREN_RETURN_IF_ERROR(Validate());
    if (due(config_.samples().interval_steps())) {
      const absl::Status sampled = Sample();
      if (!sampled.ok()) log_->Warning(absl::StrCat("step ", step_, ": no samples: ", sampled.message()));
    }
  }
  TANREN_RETURN_IF_ERROR(Save(Then::kWait));
  if (saved_step_ != step_) return NotSaved();
  if (config_.validation().interval_steps() > 0) TANREN_RETURN_IF_ERROR(Validate());
  if (!guard_stop_.empty()) return EndByGuard();
  log_->Info(absl::StrFormat("finished: %d steps, %.0f tokens, %.1f s in steps", steps, tokens_, seconds_));
  return Outcome::kFinished;
}

}  // namespace tanren
