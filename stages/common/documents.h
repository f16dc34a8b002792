// Tokenised corpora that a config names: to learn from, to replay, and to measure base loss on.
#ifndef TANREN_STAGES_COMMON_DOCUMENTS_H_
#define TANREN_STAGES_COMMON_DOCUMENTS_H_

#include <memory>
#include <string>
#include <vector>

#include "core/loss/next_token.h"
#include "core/tokenizer/tokenizer.h"
#include "core/trainer/stage.h"
#include "stages/common/document_source.h"
#include "stages/common/step_loading.h"

namespace tanren {

// The corpora of data.train, endless, shuffled as configured. InvalidArgument names the key where a corpus is
// missing or was made by another tokenizer.
absl::StatusOr<std::unique_ptr<DocumentSource>> OpenTrainDocuments(const config::Config& config,
                                                                   const Tokenizer& tokenizer);

// The corpora of data.validation: the loss that shows forgetting after pre-training.
class HeldOutDocuments {
 public:
  // Without data.validation there is nothing to measure.
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer);
  bool empty() const { return source_ == nullptr; }

  // "loss" and, where the texts' bytes are known, "bits_per_byte", each with `prefix` before its name.
  // Collective.
  absl::StatusOr<std::vector<Metric>> Measure(Engine& engine, const std::string& model,
                                              const std::string& prefix);

 private:
  std::unique_ptr<DocumentSource> source_;
  StepPlanner::Options planner_options_;
  int64_t micro_batches_ = 0;   // 0: all
  double bytes_per_token_ = 0;  // 0: unknown
  NextTokenLoss loss_;
};

// For stages without rollouts. InvalidArgument when a bound under guards is set that such a stage does not
// measure, where it would hold whatever happens: those of rollouts and, unless the stage
// `measures_forgetting`, max_forgetting.
absl::Status RefuseGuards(const config::Config& config, bool measures_forgetting);

// What the model was pre-trained for, through a stage that teaches it something else: the loss on the base
// corpus (data.validation), its rise since the start, and guards.max_forgetting. Without a corpus it does
// nothing.
class BaseLoss {
 public:
  // InvalidArgument when the bound is set and nothing would measure it.
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer);
  // Before the first step. Collective.
  absl::Status Begin(Engine& engine);
  // Adds "base_loss", "base_bits_per_byte" and "forgetting" (nats above the start), and what the guard has to
  // say. Without a start, in a run that was begun without the corpus, this loss becomes it, with a warning.
  // Collective.
  absl::Status Measure(Engine& engine, StageValidation* validation);
  std::string SaveState() const;
  void RestoreState(const std::string& state);

 private:
  void Judge(double loss, StageValidation* validation);

  HeldOutDocuments documents_;
  double max_forgetting_ = 0;
  bool stop_ = false;
  double start_ = -1;  // below 0: not measured
};

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_DOCUMENTS_H_
