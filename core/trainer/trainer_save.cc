// How a run saves: at once, or beside its next steps.
#include <iterator>
#include <utility>

#include "core/activity/activity.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "core/trainer/pieces.h"
#include "core/trainer/replica_check.h"
#include "core/trainer/setup.h"
#include "core/trainer/trainer.h"

namespace tanren {

// What the writing thread reads stays here until the save has ended.
struct Trainer::SaveUnderWay {
  std::vector<std::unique_ptr<StateAccess>> accesses;
  std::vector<TensorPiece> pieces;
  int64_t step = 0;
  double begin = 0;   // when it started
  double waited = 0;  // seconds that the run stood still for it
  std::unique_ptr<BackgroundSave> save;
};

Trainer::Trainer(const TrainerOptions& options)
    : options_(options),
      config_(*options.config),
      engine_(*options.engine),
      stage_(*options.stage),
      schedule_(ScheduleFromConfig(*options.config)),
      faults_(options.config->faults()),
      step_faults_(FaultPlan::FromEnvironment()) {
  step_faults_.set_rank(world().rank());
}

Trainer::~Trainer() { Activity::Own().RemoveObserver(this); }

std::vector<TensorPiece> Trainer::Pieces(std::vector<std::unique_ptr<StateAccess>>* accesses, bool snapshot) {
  std::vector<TensorPiece> pieces;
  for (const ModelOptions& model : engine_.options().models) {
    if (!model.saved) continue;
    accesses->push_back(snapshot ? engine_.Snapshot(model.name) : engine_.State(model.name));
    std::vector<TensorPiece> more = ToTensorPieces(accesses->back()->pieces());
    std::move(more.begin(), more.end(), std::back_inserter(pieces));
  }
  return pieces;
}

std::map<std::string, std::string> Trainer::StateToSave() const {
  std::map<std::string, std::string> state;
  state["trainer.tokens"] = absl::StrFormat("%.0f", tokens_);
  state["trainer.faults"] = faults_.SaveState();
  for (const ModelOptions& model : engine_.options().models) {
    if (!model.trainable) continue;
    state["updates." + model.name] = std::to_string(engine_.updates(model.name));
    const std::string ranges = engine_.gradient_ranges(model.name);
    if (!ranges.empty()) state["gradient_ranges." + model.name] = ranges;
  }
  for (const auto& [key, value] : stage_.SaveState()) state["stage." + key] = value;
  for (const auto& [model, identity] : sources_) state["source." + model] = identity;
  return state;
}

absl::Status Trainer::CompareReplicas() {
  if (world().size() == 1 || compared_step_ == step_) return absl::OkStatus();
  compared_step_ = step_;
  const absl::Status same = CheckReplicas(engine_);
  return same.ok() ? same : At(absl::StrCat("step ", step_), same);
}

absl::Status Trainer::Save(Then then) {
  save_is_due_ = false;
  TANREN_RETURN_IF_ERROR(FinishSave());
  if (saved_step_ == step_) return absl::OkStatus();
  // Damage is not to get into a commit.
  if (config_.faults().replica_check_steps() > 0) TANREN_RETURN_IF_ERROR(CompareReplicas());
  TANREN_RETURN_IF_ERROR(StartSave(then));
  return GoesOnBeside(then) ? absl::OkStatus() : FinishSave();
}

bool Trainer::GoesOnBeside(Then then) const {
  return then == Then::kGoOn && config_.checkpoint().async() && engine_.options().snapshots;
}

absl::Status Trainer::StartSave(Then then) {
  const Doing doing(Phase::kSave);
  auto saving = std::make_unique<SaveUnderWay>();
  saving->step = step_;
  saving->begin = SteadySeconds();
  saving->pieces = Pieces(&saving->accesses, GoesOnBeside(then));
  SaveRequest request;
  request.run_dir = config_.run_directory();
  request.run_id = run_id_;
  request.stage = config_.stage();
  request.step = step_;
  request.mesh = engine_.mesh().shape;
  request.pieces = saving->pieces;
  request.state = StateToSave();
  request.config_text = options_.config_text;
  request.tokenizer = tokenizer_files_;
  request.retention = {static_cast<int>(config_.checkpoint().keep()),
                       config_.checkpoint().keep_every_steps()};
  absl::StatusOr<std::unique_ptr<BackgroundSave>> started = BackgroundSave::Start(world(), request);
  saving_ = std::move(saving);
  saving_->waited = SteadySeconds() - saving_->begin;
  if (!started.ok()) return EndSave(started.status());
  saving_->save = *std::move(started);
  return absl::OkStatus();
}

absl::Status Trainer::FinishSave() {
  if (saving_ == nullptr) return absl::OkStatus();
  const Doing saving(Phase::kSave);
  const double begin = SteadySeconds();
  const absl::StatusOr<SaveReport> report = saving_->save->Finish(world());
  saving_->waited += SteadySeconds() - begin;
  return EndSave(report);
}

absl::Status Trainer::EndSave(const absl::StatusOr<SaveReport>& report) {
  const std::unique_ptr<SaveUnderWay> saved = std::move(saving_);
  save_wait_seconds_ += saved->waited;
  if (!report.ok()) {
    // The ranks agree on the failure, so all go on, or all give up.
    if (++failed_saves_in_a_row_ >= config_.checkpoint().max_failed_saves()) {
      // Whatever the cause, the machine is what failed and not what it was given.
      return absl::InternalError(
          absl::StrCat("step ", saved->step, " was not saved, failure ", failed_saves_in_a_row_,
                       " in a row (checkpoint.max_failed_saves): ", report.status().message()));
    }
    log_->Warning(absl::StrCat("step ", saved->step, " was not saved (", failed_saves_in_a_row_,
                               " in a row): ", report.status().message()));
    return absl::OkStatus();
  }
  failed_saves_in_a_row_ = 0;
  saved_step_ = saved->step;
  rollbacks_in_a_row_ = steps_to_skip_ = 0;
  for (const std::string& warning : report->warnings) log_->Warning(warning);
  log_->Info(absl::StrFormat("saved %s (%.1f MiB, %.2f s, of which the run waited %.2f s)", report->path,
                             report->bytes / 1048576.0, SteadySeconds() - saved->begin, saved->waited));
  return absl::OkStatus();
}

absl::StatusOr<bool> Trainer::StopAgreed() {
  int32_t said[2] = {0, 0};  // afterwards 1 where any rank says so
  int32_t &stop = said[0], &still_writing = said[1];
  stop = options_.stop_requested && options_.stop_requested() ? 1 : 0;
  const int64_t stop_after = config_.train().stop_after();
  if (stop_after > 0 && step_ >= stop_after) stop = 1;
  still_writing = saving_ != nullptr && !saving_->save->Ready() ? 1 : 0;
  world().AllReduce(Stream(), "stop request", Buffer(said), 2, ReduceOp::kMax);
  if (saving_ != nullptr && still_writing == 0) {
    const Doing saving(Phase::kSave);
    const double begin = SteadySeconds();
    const auto ended = saving_->save->Advance(world());
    saving_->waited += SteadySeconds() - begin;
    if (ended.has_value()) TANREN_RETURN_IF_ERROR(EndSave(*ended));
  }
  return stop != 0;
}

}  // namespace tanren
