#include "stages/reward_model/reward_model_stage.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "stages/common/checkpoint_model.h"
#include "stages/common/pair_lengths.h"
#include "stages/reward_model/calibrated_loss.h"

namespace tanren {
absl::Status MakeRankingUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                             Unit* unit) {
  if (example.format != ExampleFormat::kRanking && example.format != ExampleFormat::kPreference) {
    return InvalidInput("a record of format %s ranks no answers", NameOf(example.format));
  }
  const std::vector<Message> prompt = PromptMessages(config, example);
  for (const std::string& response : example.responses) {
    TANREN_ASSIGN_OR_RETURN(const RenderedConversation rendered,
                            RenderResponse(chat, prompt, response, /*earlier_turns=*/false));
    AddSegment(rendered, /*whole=*/true, unit);
  }
  const int64_t segments = static_cast<int64_t>(unit->segment_lengths.size());
  std::vector<float>& rank = unit->segment_columns.Get("rank", segments);
  std::copy(example.ranks.begin(), example.ranks.end(), rank.begin());
  unit->segment_columns.Get("margin", segments, static_cast<float>(example.margin));
  return absl::OkStatus();
}

absl::Status RewardModelStage::Declare(const config::Config& config, const Tokenizer& tokenizer,
                                       EngineOptions* engine) {
  bool has_score = false;
  if (!config.init().from().empty()) {
    TANREN_ASSIGN_OR_RETURN(const CheckpointModel start,
                            DescribeCheckpoint("init.from", config.init().from(), tokenizer));
    has_score = start.shape.scalar_head;
  }
  if (config.samples().interval_steps() > 0) {
    return InvalidInput("samples.interval_steps: %d, but a reward model writes no text; set it to 0",
                        config.samples().interval_steps());
  }
  SetScalarHead(has_score, &engine->models[0]);
  if (LikelihoodFromConfig(config.reward_model()).has_value()) KeepVocabularyHead(&engine->models[0]);
  return absl::OkStatus();
}

absl::Status RewardModelStage::Open(const config::Config& config, const Tokenizer& tokenizer,
                                    const Mesh& mesh) {
  if (config.data().examples().empty()) {
    return InvalidInput(
        "data.examples: stage reward_model needs at least one file of rankings or preferences");
  }
  const bool keeps_head = LikelihoodFromConfig(config.reward_model()).has_value();
  TANREN_RETURN_IF_ERROR(RefuseGuards(config, /*measures_forgetting=*/keeps_head));
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(config, tokenizer));
  const MakeUnit make = [&](const Example& example, Unit* unit) {
    return MakeRankingUnit(config, chat, example, unit);
  };
  std::vector<UnitReport> reports;
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> sets, ReadUnits(config, false, make, &reports));
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> held_out, ReadUnits(config, true, make, &reports));
  if (mesh.world->rank() == 0) {
    for (const UnitReport& report : reports) std::printf("%s\n", report.ToString().c_str());
    if (const std::string lengths = PairLengths(sets); !lengths.empty()) std::printf("%s\n", lengths.c_str());
    std::fflush(stdout);
  }
  UnitSource::Options options;
  options.shuffle = config.data().shuffle();
  options.seed = static_cast<uint64_t>(config.seed());
  examples_ = std::make_unique<UnitSource>(std::move(sets), options);
  options.endless = false;
  if (!held_out.empty()) validation_ = std::make_unique<UnitSource>(std::move(held_out), options);
  planner_options_ = PlannerOptions(config);
  planner_ = std::make_unique<StepPlanner>(examples_.get(), planner_options_);
  scale_.likelihood = LikelihoodFromConfig(config.reward_model());
  loss_ = MakeRewardLoss(config.reward_model(), scale_.likelihood);
  return keeps_head ? base_.Open(config, tokenizer) : absl::OkStatus();
}

absl::Status RewardModelStage::Begin(Engine& engine) { return base_.Begin(engine); }

absl::StatusOr<StageStep> RewardModelStage::Step(Engine& engine, int64_t, double learning_rate) {
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  TANREN_ASSIGN_OR_RETURN(const std::vector<MicroBatch> batches,
                          LoadDealt(*examples_, plan, planner_options_.micro_batch_tokens, engine.mesh()));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("policy", batches, *loss_, learning_rate));
  StageStep out;
  out.loss = result.loss;
  out.gradient_norm = result.gradient_norm;
  out.skipped = result.skipped;
  out.tokens = PlannedTokens(plan);
  for (size_t m = 0; m < result.metrics.size(); ++m) {
    out.metrics.push_back({loss_->metrics()[m], result.metrics[m]});
  }
  if (plan.oversize_units > 0)
    out.metrics.push_back({"oversize_units", static_cast<double>(plan.oversize_units)});
  const double mean = MetricOf(*loss_, result.metrics, "reward_mean");
  const double square = MetricOf(*loss_, result.metrics, "reward_square");
  if (!scale_.normalizer.Add(mean, square)) {
    out.warnings.push_back(absl::StrFormat(
        "the scores of the step have a mean of %g and a mean square of %g; the score normalisation that is "
        "stored with the model is of the other steps",
        mean, square));
  }
  return out;
}

absl::StatusOr<StageValidation> RewardModelStage::Validate(Engine& engine) {
  StageValidation validation;
  if (validation_) {
    validation_->Rewind();
    const CalibratedLoss loss(*loss_, scale_.likelihood);
    TANREN_ASSIGN_OR_RETURN(const MeasuredLoss measured,
                            MeasureLoss(engine, "policy", *validation_, planner_options_, loss, 0));
    validation.metrics.push_back({"loss", measured.loss});
    for (Metric& figure : loss.Figures(measured.metrics)) validation.metrics.push_back(std::move(figure));
  }
  TANREN_RETURN_IF_ERROR(base_.Measure(engine, &validation));
  return validation;
}

std::map<std::string, std::string> RewardModelStage::SaveState() const {
  std::map<std::string, std::string> state = {{"train", planner_->SaveState()},
                                              {"normalization", scale_.normalizer.ToState()}};
  if (scale_.likelihood.has_value()) state["likelihood"] = LikelihoodState(scale_.likelihood);
  state["forgetting"] = base_.SaveState();
  return state;
}

absl::Status RewardModelStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto cursor = state.find("train");
  const auto normalization = state.find("normalization");
  if (cursor == state.end() || normalization == state.end()) {
    return InvalidInput("the checkpoint has no data cursor or no score normalisation of stage reward_model");
  }
  TANREN_ASSIGN_OR_RETURN(scale_.normalizer, ScoreNormalizer::FromState(normalization->second));
  if (const auto start = state.find("forgetting"); start != state.end()) base_.RestoreState(start->second);
  return planner_->RestoreState(cursor->second);
}

void RegisterRewardModelStage() {
  RegisterStage("reward_model", [] { return std::make_unique<RewardModelStage>(); });
}

}  // namespace tanren
