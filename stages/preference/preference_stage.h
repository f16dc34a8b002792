// Direct preference optimisation and its family: the policy itself learns from pairs, or from good and bad
// answers.
#ifndef TANREN_STAGES_PREFERENCE_PREFERENCE_STAGE_H_
#define TANREN_STAGES_PREFERENCE_PREFERENCE_STAGE_H_

#include <map>
#include <memory>
#include <string>

#include "core/chat/chat_template.h"
#include "core/trainer/stage.h"
#include "stages/common/documents.h"
#include "stages/common/example_units.h"
#include "stages/common/unit_source.h"

namespace tanren {

namespace config {
class PreferenceConfig;
}

// A unit is a pair, chosen first; or, for KTO, one answer with the segment column "label" (1 good, 0 bad).
absl::Status MakePairUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                          Unit* unit);
absl::Status MakeLabelledUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                              Unit* unit);

// Rankings as preferences, one for every pair of differently ranked answers, the better one first; other
// examples as they are.
std::vector<Example> RankedPairs(std::vector<Example> examples);

class PreferenceStage final : public Stage {
 public:
  absl::Status Declare(const config::Config& config, const Tokenizer& tokenizer,
                       EngineOptions* engine) override;
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  // A DPO policy that is its reference starts at a loss of ln 2 exactly; one that claims to be and does not
  // is refused.
  absl::Status Begin(Engine& engine) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<StageValidation> Validate(Engine& engine) override;
  absl::Status SkipSteps(int64_t steps) override { return planner_->Skip(steps); }
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  // Fills column "reference_logp" of this rank's micro-batches and, for KTO, segment column "z0". Collective.
  absl::Status AddReference(Engine& engine, Source& source, const StepPlan* plan,
                            std::vector<MicroBatch>* batches);
  absl::StatusOr<double> MismatchedKl(Engine& engine, Source& source, const StepPlan& plan);

  const config::PreferenceConfig* preference_ = nullptr;
  bool needs_reference_ = false;
  bool starts_at_reference_ = false;  // the loss of the first step is then known
  bool kto_ = false;
  double z0_ = 0;  // of the last step
  std::unique_ptr<UnitSource> examples_;
  std::unique_ptr<UnitSource> validation_;  // null without
  std::unique_ptr<StepPlanner> planner_;
  StepPlanner::Options planner_options_;
  std::unique_ptr<Loss> loss_;
  BaseLoss base_;
};

void RegisterPreferenceStage();

}  // namespace tanren

#endif  // TANREN_STAGES_PREFERENCE_PREFERENCE_STAGE_H_
