// The tests of a suite that answer nothing: perplexity, and how a reward model orders ranked answers.
#ifndef TANREN_LAUNCH_SUITE_MEASURES_H_
#define TANREN_LAUNCH_SUITE_MEASURES_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/evaluation/figures.h"
#include "core/proto/config.pb.h"
#include "core/proto/suite.pb.h"
#include "launch/inference.h"
#include "stages/common/documents.h"
#include "stages/common/unit_source.h"

namespace tanren {

// The data of one such test, read and checked.
class SuiteMeasure {
 public:
  // `model` outlives it. An error is bad input and names the test.
  static absl::StatusOr<SuiteMeasure> Open(const config::TestConfig& test, const InferenceModel& model);

  // Collective. perplexity: "loss" (nats a token), "perplexity" and, of token shards, "bits_per_byte".
  // rankings: "reward_accuracy" (share of the pairs in the right order, equal scores half), "reward_margin",
  // "reward_brier" and "reward_calibration_error" (core/reward/calibration.h), and "rankings".
  absl::StatusOr<Figures> Measure(Engine& engine);

 private:
  absl::Status OpenExamples(const Tokenizer& tokenizer);
  absl::Status OpenRankings(const Tokenizer& tokenizer);
  absl::StatusOr<Figures> MeasureExamples(Engine& engine);
  absl::StatusOr<Figures> MeasureRankings(Engine& engine);

  const config::TestConfig* test_ = nullptr;
  config::Config config_;  // the checkpoint's, with the test's data as held-out data
  std::unique_ptr<HeldOutDocuments> documents_;
  std::unique_ptr<UnitSource> units_;
  LikelihoodTerm likelihood_;  // of the reward model that orders rankings
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_SUITE_MEASURES_H_
