// summary.json: what each stage of a pipeline learned, and what it took.
//
//   {"stages": [{"name": "grpo", "steps": 90, "tokens": 819200, "validation_loss": null,
//                "base_validation_loss": 0.36,
//                "kl": null, "accuracy": 0.93, "accuracy_harder": 0.67, "majority": 0.94, "best_of_n": 0.95,
//                "pair_accuracy": null, "seconds": 93.5}]}
#ifndef TANREN_CORE_REPORT_SUMMARY_H_
#define TANREN_CORE_REPORT_SUMMARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/run_figures.h"

namespace tanren {

// What was not measured is null in the file. So is a figure that is not finite: JSON has no number for it.
struct StageSummary {
  std::string name;
  int64_t steps = 0;
  int64_t tokens = 0;  // trained on
  std::optional<double> validation_loss;
  std::optional<double> accuracy;  // of greedy answers to held-out questions
  double seconds = 0;
  std::optional<double> base_loss = std::nullopt;        // "base_validation_loss": of pre-training data
  std::optional<double> kl = std::nullopt;               // of an answer from the reference, in nats
  std::optional<double> accuracy_harder = std::nullopt;  // of those held-out questions that are harder
  std::optional<double> majority = std::nullopt;         // accuracy of majority votes over samples
  std::optional<double> best_of_n = std::nullopt;  // accuracy of the samples that a reward model likes best
  std::optional<double> pair_accuracy = std::nullopt;  // of a reward model on held-out pairs
};

// What the metrics of a run say of it; the rest, the seconds among it, is unknown.
StageSummary SummaryOfRun(const std::string& name, const RunFigures& figures);

// The stages in the order of the file. NotFound when there is no file; InvalidArgument names what is wrong in
// it.
absl::StatusOr<std::vector<StageSummary>> ReadSummary(const std::string& path);

// Replaces the file as a whole.
absl::Status WriteSummary(const std::string& path, const std::vector<StageSummary>& stages);

// Sets one stage: the one of that name is replaced, or the stage is added at the end. Makes the file where
// there is none, and refuses to touch one that it cannot read.
absl::Status UpdateSummary(const std::string& path, const StageSummary& stage);

// A table for the console.
std::string FormatSummary(const std::vector<StageSummary>& stages);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_SUMMARY_H_
