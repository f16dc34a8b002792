// The training loop: steps, validation, samples, checkpoints, logs, and an orderly stop.
#ifndef TANREN_CORE_TRAINER_TRAINER_H_
#define TANREN_CORE_TRAINER_TRAINER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/activity/activity.h"
#include "core/checkpoint/background_save.h"
#include "core/checkpoint/fault.h"
#include "core/checkpoint/piece.h"
#include "core/checkpoint/run_directory.h"
#include "core/engine/engine.h"
#include "core/optimizer/schedule.h"
#include "core/tokenizer/tokenizer.h"
#include "core/trainer/fault_judge.h"
#include "core/trainer/run_log.h"
#include "core/trainer/stage.h"

namespace tanren {

class CheckpointReader;
namespace config {
class Config;
}

// All borrowed, and alive as long as the trainer.
struct TrainerOptions {
  const config::Config* config = nullptr;  // resolved
  std::string config_text;                 // resolved YAML: what the checkpoint and the run directory keep
  std::string resume = "auto";             // auto, none, or a step directory
  Engine* engine = nullptr;
  Stage* stage = nullptr;
  const Tokenizer* tokenizer = nullptr;
  std::function<bool()> stop_requested;  // asked between steps, on every rank
  std::function<std::vector<SlowRank>()>
      slow_ranks;                         // newly found; asked between steps, on every rank; or empty
  std::vector<std::string> command_line;  // for env.json
  int threads = 1;                        // compute threads of a rank
  double peak_flops_per_second = 0;       // of all ranks, for the utilisation; 0: unknown
};

class Trainer : private ActivityObserver {
 public:
  enum class Outcome {
    kFinished,  // train.steps are done
    kStopped,   // a stop was asked for: what may be saved is saved, the run wants to be continued
  };

  explicit Trainer(const TrainerOptions& options);
  ~Trainer() override;

  // Collective; the outcome and any error are the same on every rank. On return every commit is on disk.
  absl::StatusOr<Outcome> Run();

 private:
  // Where TANREN_FAULT ends this process in the middle of a step.
  void Begins(Kind kind, const char* name) override {
    if (kind != Kind::kPhase) step_faults_.Hit(kind == Kind::kWork ? name : "collective");
  }

  absl::Status Start();
  absl::Status LoadInitialWeights(const std::string& from, bool fresh);
  absl::Status LoadModels(bool fresh);
  absl::Status CheckSource(const ModelOptions& model, const std::string& identity);
  absl::Status Resume();
  // Loads the checkpoint that `resume` names; null where there is none. Its warnings were said.
  absl::StatusOr<std::unique_ptr<CheckpointReader>> LoadState(const std::string& resume);
  // To the newest commit, and past the data of all steps since.
  absl::Status RollBack();
  absl::Status CheckNewest() const;
  absl::Status RestoreState(const CheckpointReader& reader);
  absl::Status TrainOneStep();
  void WarnOfFaults(const StageStep& result, const FaultJudge::Verdict& verdict);
  absl::Status CheckWeights();     // of all ranks, where it is time
  absl::Status CompareReplicas();  // now, unless it was done at this step
  absl::Status Validate();
  absl::StatusOr<std::vector<GenerationRequest>> SampleRequests() const;
  absl::Status Sample();
  enum class Then : uint8_t { kGoOn, kWait };
  // The current step. kGoOn: writing may go on beside the next steps (checkpoint.async). Waits for the save
  // under way, for there is one at a time.
  absl::Status Save(Then then);
  bool GoesOnBeside(Then then) const;
  absl::Status StartSave(Then then);
  absl::Status FinishSave();  // of the one under way, if any
  absl::Status EndSave(const absl::StatusOr<SaveReport>& report);
  // Between steps: whether to stop. Takes a save under way on, when all ranks have done their part of it.
  absl::StatusOr<bool> StopAgreed();
  absl::StatusOr<Outcome> Steps();
  void HeedSlowRanks();
  absl::StatusOr<Outcome> Stop();
  absl::Status Heed(const std::vector<std::string>& warnings, const std::string& stop);
  absl::Status NotSaved() const;
  absl::Status EndByGuard();  // saves; what it returns is never OK

  // The tensors of all models on this rank. `accesses` keeps temporary copies alive. `snapshot`: pieces that
  // later steps do not change.
  std::vector<TensorPiece> Pieces(std::vector<std::unique_ptr<StateAccess>>* accesses, bool snapshot = false);
  std::map<std::string, std::string> StateToSave() const;
  struct SaveUnderWay;
  Comm& world() { return *engine_.mesh().world; }

  TrainerOptions options_;
  const config::Config& config_;
  Engine& engine_;
  Stage& stage_;
  Schedule schedule_;
  std::unique_ptr<RunLock> lock_;
  std::unique_ptr<RunLog> log_;
  std::string run_id_;
  std::map<std::string, std::string> tokenizer_files_;
  std::map<std::string, std::string> sources_;  // identity of what each model that is not saved was read from
  bool fresh_ = true;
  std::string guard_stop_;   // why a guard ends the run
  int64_t step_ = 0;         // steps done
  int64_t saved_step_ = -1;  // the newest commit of this run
  int64_t validated_step_ = -1;
  double tokens_ = 0;   // tokens trained on, all steps
  double seconds_ = 0;  // spent in steps since this start
  FaultJudge faults_;
  int64_t rollbacks_in_a_row_ = 0;  // since the newest commit
  int64_t steps_to_skip_ = 0;       // whose data the next rollback passes over too, for it did so before
  bool save_is_due_ = false;
  bool went_back_ = false;  // in the step just tried
  int64_t compared_step_ = -1;
  FaultPlan step_faults_;
  int64_t failed_saves_in_a_row_ = 0;
  std::unique_ptr<SaveUnderWay> saving_;  // null: none
  double save_wait_seconds_ = 0;          // that steps waited for saves since the last record
  std::vector<SlowRank> slow_ranks_;      // warned of, and not yet in a record
};

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_TRAINER_H_
