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
  double tokens = 0;            // tokens of units that went through the model, global
  std::vector<Metric> metrics;  // beyond those above
};

class Stage {
 public:
  virtual ~Stage() = default;

  // Opens and checks the data. `config` is resolved and outlives the stage; `tokenizer` too. Called once, on
  // every rank, before the engine exists; an error here is bad input.
  virtual absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) = 0;

  // Tells the engine's models apart from `policy`, whose options the trainer filled from the config: the
  // stage may set heads on it and add models.
  virtual void DeclareModels(std::vector<ModelOptions>* models) const { (void)models; }

  // One optimizer step. Collective.
  virtual absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) = 0;

  // Figures on held-out data; the first is the validation loss. Empty when there is none. Collective.
  virtual absl::StatusOr<std::vector<Metric>> Validate(Engine& engine) = 0;

  // Everything beside tensors that the next step depends on.
  virtual std::map<std::string, std::string> SaveState() const = 0;
  virtual absl::Status RestoreState(const std::map<std::string, std::string>& state) = 0;
};

using StageFactory = std::function<std::unique_ptr<Stage>()>;

// Registers a stage under the name that `stage:` takes. Aborts on a second stage of that name.
void RegisterStage(const std::string& name, StageFactory factory);
// NotFound with the names there are.
absl::StatusOr<std::unique_ptr<Stage>> MakeStage(const std::string& name);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_STAGE_H_
