#include "launch/suite_measures.h"

#include <cmath>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "stages/common/example_units.h"
#include "stages/common/step_loading.h"
#include "stages/reward_model/calibrated_loss.h"
#include "stages/reward_model/reward_model_stage.h"
#include "stages/reward_model/reward_scale.h"
#include "stages/sft/sft_stage.h"

namespace tanren {
namespace {

// A text is measured as the document that pre-training would make of it.
absl::Status MakeTextUnit(const Tokenizer& tokenizer, const Example& example, Unit* unit) {
  RenderedConversation document;
  TANREN_ASSIGN_OR_RETURN(document.ids, tokenizer.Encode(example.responses[0]));
  const TokenRoles& roles = tokenizer.roles();
  if (roles.prepend_bos) document.ids.insert(document.ids.begin(), roles.bos);
  if (roles.end_of_text >= 0) document.ids.push_back(roles.end_of_text);
  if (document.ids.size() < 2) return InvalidInput("fewer than two tokens");
  document.trained.assign(document.ids.size(), 1);
  AddSegment(document, /*whole=*/false, unit);
  unit->columns.Get("weight", unit->tokens(), 1);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<UnitSource>> SourceOf(const config::Config& config, const MakeUnit& make) {
  std::vector<UnitReport> reports;
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> sets, ReadUnits(config, /*validation=*/true, make, &reports));
  UnitSource::Options options;
  options.shuffle = false;
  options.endless = false;
  return std::make_unique<UnitSource>(std::move(sets), options);
}

}  // namespace

absl::StatusOr<SuiteMeasure> SuiteMeasure::Open(const config::TestConfig& test, const InferenceModel& model) {
  SuiteMeasure out;
  out.test_ = &test;
  out.config_ = model.config;
  out.likelihood_ = model.scale.likelihood;
  config::DataConfig& data = *out.config_.mutable_data();
  out.config_.mutable_sft()->set_train_on_prompt(false);
  out.config_.mutable_validation()->set_micro_batches(test.perplexity().micro_batches());
  *data.mutable_validation() = test.perplexity().tokens();
  *data.mutable_validation_examples() =
      test.rankings().empty() ? test.perplexity().examples() : test.rankings();
  absl::Status opened;
  if (!test.rankings().empty()) {
    opened = out.OpenRankings(*model.tokenizer);
  } else if (data.validation().empty()) {
    opened = out.OpenExamples(*model.tokenizer);
  } else {
    out.documents_ = std::make_unique<HeldOutDocuments>();
    opened = out.documents_->Open(out.config_, *model.tokenizer);
  }
  TANREN_RETURN_IF_ERROR(At(absl::StrCat("test ", test.name()), opened));
  return out;
}

absl::Status SuiteMeasure::OpenExamples(const Tokenizer& tokenizer) {
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(config_, tokenizer));
  TANREN_ASSIGN_OR_RETURN(units_, SourceOf(config_, [&](const Example& example, Unit* unit) {
                            if (example.format == ExampleFormat::kText) {
                              return MakeTextUnit(tokenizer, example, unit);
                            }
                            if (example.responses.empty()) return InvalidInput("no answer to measure");
                            return MakeSftUnit(config_, chat, example, unit);
                          }));
  return absl::OkStatus();
}

absl::Status SuiteMeasure::OpenRankings(const Tokenizer& tokenizer) {
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(config_, tokenizer));
  TANREN_ASSIGN_OR_RETURN(units_, SourceOf(config_, [&](const Example& example, Unit* unit) {
                            return MakeRankingUnit(config_, chat, example, unit);
                          }));
  return absl::OkStatus();
}

absl::StatusOr<Figures> SuiteMeasure::MeasureExamples(Engine& engine) {
  const WeightedNextTokenLoss loss;
  TANREN_ASSIGN_OR_RETURN(const MeasuredLoss measured,
                          MeasureLoss(engine, "policy", *units_, PlannerOptions(config_), loss,
                                      test_->perplexity().micro_batches()));
  const double nats = measured.metrics[0];
  return Figures{{"loss", nats}, {"perplexity", std::exp(nats)}};
}

absl::StatusOr<Figures> SuiteMeasure::MeasureRankings(Engine& engine) {
  config::RewardModelConfig pairs;
  pairs.set_centering(0);
  const std::unique_ptr<Loss> order = MakeRewardLoss(pairs, likelihood_);
  const CalibratedLoss loss(*order, likelihood_);
  TANREN_ASSIGN_OR_RETURN(const MeasuredLoss measured,
                          MeasureLoss(engine, "reward", *units_, PlannerOptions(config_), loss, 0));
  Figures figures;
  // Without reward_mean and reward_square, which are of the scores and not of their order.
  for (const auto& [name, value] : loss.Figures(measured.metrics)) {
    if (!name.starts_with("reward_")) figures.emplace_back("reward_" + name, value);
  }
  figures.emplace_back("rankings", static_cast<double>(units_->units()));
  return figures;
}

absl::StatusOr<Figures> SuiteMeasure::Measure(Engine& engine) {
  if (!test_->rankings().empty()) return MeasureRankings(engine);
  if (documents_ == nullptr) return MeasureExamples(engine);
  TANREN_ASSIGN_OR_RETURN(const std::vector<Metric> metrics, documents_->Measure(engine, "policy", ""));
  Figures figures;
  for (const Metric& metric : metrics) {
    figures.emplace_back(metric.name, metric.value);
    if (metric.name == "loss") figures.emplace_back("perplexity", std::exp(metric.value));
  }
  return figures;
}

}  // namespace tanren
