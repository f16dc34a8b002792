// A stage: what to learn. It brings units (a Source) and a Loss; the engine does the rest.
//
// A stage is made by name (config key `stage`), opens its data before any memory is planned, says which
// models it needs, and then is asked for one optimizer step after another. Its state is rank-free: every rank
// holds the same, and it is saved and restored at any layout.
#ifndef TANREN_CORE_TRAINER_STAGE_H_
#define TANREN_CORE_TRAINER_STAGE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/engine/engine.h"

namespace tanren {

namespace config {
class Config;
}
class Tokenizer;

// A named figure of a step or a validation, the same on every rank.
struct Metric {
  std::string name;
  double value = 0;
};

struct StageStep {
  double loss = 0;
  double gradient_norm = 0;
  bool skipped = false;
  double tokens = 0;                  // tokens of units that went through the model, global
  std::vector<Metric> metrics;        // beyond those above
  std::vector<std::string> warnings;  // said once a step, on rank 0
  std::string stop;                   // a guard that ends the run (it is saved first), and why; "" goes on
};

struct StageValidation {
  std::vector<Metric> metrics;  // the first is the validation loss, where there is one
  std::vector<std::string> warnings;
  std::string stop;
};

// What a method returns, an error too, is the same on every rank: ranks that go different ways wait for each
// other in different collectives until the watchdog ends them. AgreeStatus() (core/comm/comm.h) makes it so.
class Stage {
 public:
  virtual ~Stage() = default;

  // Tells what the stage needs of the engine. `engine` comes with one model, `policy`, whose options were
  // filled from the config: the stage may set heads on it, add models and ask for generation. Reads no data,
  // but may look at the checkpoints that the config names. Called once, before Open, on every rank and by
  // `tanren estimate`; an error is bad input.
  virtual absl::Status Declare(const config::Config& config, const Tokenizer& tokenizer,
                               EngineOptions* engine) {
    (void)config, (void)tokenizer, (void)engine;
    return absl::OkStatus();
  }

  // Opens and checks the data. `config` is resolved and outlives the stage; `tokenizer` too. Called once, on
  // every rank, before the engine exists; an error here is bad input.
  virtual absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) = 0;

  // Before the first step of a fresh run, not of a resumed one: weights are as they start. Checks what must
  // hold then, and measures what later figures are compared with. Collective.
  virtual absl::Status Begin(Engine& engine) {
    (void)engine;
    return absl::OkStatus();
  }

  // One optimizer step. Collective.
  virtual absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) = 0;

  // Figures on held-out data; no metrics when there is none. Collective.
  virtual absl::StatusOr<StageValidation> Validate(Engine& engine) = 0;

  // Whether the loss of a step measures progress, so that a jump of it means that something went wrong.
  virtual bool LossTells() const { return true; }

  // Goes past the data of the next `steps` steps, at least one, without learning from it: the run has gone
  // back to where it was before steps that went wrong, and is not to meet the same data again. Called after
  // RestoreState.
  virtual absl::Status SkipSteps(int64_t steps) {
    (void)steps;
    return absl::UnimplementedError("this stage cannot pass over data (Stage::SkipSteps)");
  }

  // Everything beside tensors that the next step depends on.
  virtual std::map<std::string, std::string> SaveState() const = 0;
  virtual absl::Status RestoreState(const std::map<std::string, std::string>& state) = 0;
};

using StageFactory = std::function<std::unique_ptr<Stage>()>;

// Registers a stage under the name that `stage:` takes. AlreadyExists where there is a stage of that name,
// InvalidArgument for an empty name or factory.
absl::Status AddStage(const std::string& name, StageFactory factory);
// The same for stages of this tree, where an error is a mistake of ours: it aborts.
void RegisterStage(const std::string& name, StageFactory factory);
// NotFound with the names there are.
absl::StatusOr<std::unique_ptr<Stage>> MakeStage(const std::string& name);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_STAGE_H_
