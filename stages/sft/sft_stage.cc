#include "stages/sft/sft_stage.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/base/status.h"
#include "core/proto/config.pb.h"

namespace tanren {

absl::Status MakeSftUnit(const config::Config& config, const ChatTemplate& chat, const Example& example,
                         Unit* unit) {
  const double weight = example.weight / static_cast<double>(std::max<size_t>(example.responses.size(), 1));
  const std::vector<Message> prompt = PromptMessages(config, example);
  for (const std::string& response : example.responses) {
    TANREN_ASSIGN_OR_RETURN(RenderedConversation rendered,
                            RenderResponse(chat, prompt, response, /*earlier_turns=*/true));
    if (config.sft().train_on_prompt()) std::fill(rendered.trained.begin(), rendered.trained.end(), 1);
    if (rendered.ids.size() < 2) return InvalidInput("fewer than two tokens");
    AddSegment(rendered, /*whole=*/false, unit);
  }
  if (std::count(unit->mask.begin(), unit->mask.end(), 1) == 0) return InvalidInput("no trained token");
  unit->columns.Get("weight", unit->tokens(), static_cast<float>(weight));
  return absl::OkStatus();
}

absl::Status SftStage::Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) {
  if (config.data().examples().empty()) {
    return InvalidInput("data.examples: stage sft needs at least one file of prompts and answers");
  }
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(config, tokenizer));
  const MakeUnit make = [&](const Example& example, Unit* unit) -> absl::Status {
    if (example.format == ExampleFormat::kAnswer || example.format == ExampleFormat::kRanking ||
        example.format == ExampleFormat::kPreference) {
      return InvalidInput("a record of format %s has no answer to learn", NameOf(example.format));
    }
    if (example.format == ExampleFormat::kLabelled && !example.label) return InvalidInput("labelled bad");
    return MakeSftUnit(config, chat, example, unit);
  };
  std::vector<UnitReport> reports;
  TANREN_ASSIGN_OR_RETURN(std::vector<UnitSet> sets, ReadUnits(config, false, make, &reports));
  UnitSource::Options options;
  options.shuffle = config.data().shuffle();
  options.seed = static_cast<uint64_t>(config.seed());
  examples_ = std::make_unique<UnitSource>(std::move(sets), options);
  TANREN_ASSIGN_OR_RETURN(sets, ReadUnits(config, true, make, &reports));
  options.endless = false;
  if (!sets.empty()) validation_ = std::make_unique<UnitSource>(std::move(sets), options);
  if (mesh.world->rank() == 0) {
    for (const UnitReport& report : reports) std::printf("%s\n", report.ToString().c_str());
    std::fflush(stdout);
  }
  planner_options_ = PlannerOptions(config);
  Source* source = examples_.get();
  if (config.sft().replay_share() > 0) {
    if (config.data().train().empty()) {
      return InvalidInput("sft.replay_share is %g, but data.train names no corpus to replay",
                          config.sft().replay_share());
    }
    TANREN_ASSIGN_OR_RETURN(replay_, OpenTrainDocuments(config, tokenizer));
    mixed_ = std::make_unique<MixedSource>(examples_.get(), replay_.get(), config.sft().replay_share());
    source = mixed_.get();
  }
  planner_ = std::make_unique<StepPlanner>(source, planner_options_);
  TANREN_RETURN_IF_ERROR(RefuseGuards(config, /*measures_forgetting=*/true));
  return base_.Open(config, tokenizer);
}

absl::Status SftStage::Begin(Engine& engine) { return base_.Begin(engine); }

absl::StatusOr<StageStep> SftStage::Step(Engine& engine, int64_t, double learning_rate) {
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  Source& source = mixed_ ? static_cast<Source&>(*mixed_) : *examples_;
  TANREN_ASSIGN_OR_RETURN(const std::vector<MicroBatch> batches,
                          LoadDealt(source, plan, planner_options_.micro_batch_tokens, engine.mesh()));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("policy", batches, loss_, learning_rate));
  StageStep out;
  out.loss = result.loss;
  out.gradient_norm = result.gradient_norm;
  out.skipped = result.skipped;
  out.tokens = PlannedTokens(plan);
  out.metrics.push_back({"trained_tokens", result.normalizers.trained_tokens});
  if (plan.oversize_units > 0)
    out.metrics.push_back({"oversize_units", static_cast<double>(plan.oversize_units)});
  return out;
}

absl::StatusOr<StageValidation> SftStage::Validate(Engine& engine) {
  StageValidation validation;
  if (validation_) {
    validation_->Rewind();
    TANREN_ASSIGN_OR_RETURN(const MeasuredLoss measured,
                            MeasureLoss(engine, "policy", *validation_, planner_options_, loss_, 0));
    validation.metrics.push_back({"loss", measured.loss});
  }
  TANREN_RETURN_IF_ERROR(base_.Measure(engine, &validation));
  return validation;
}

std::map<std::string, std::string> SftStage::SaveState() const {
  return {{"train", planner_->SaveState()}, {"forgetting", base_.SaveState()}};
}

absl::Status SftStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto found = state.find("train");
  if (found == state.end()) return InvalidInput("the checkpoint has no data cursor of stage sft");
  const auto start = state.find("forgetting");
  if (start != state.end()) base_.RestoreState(start->second);
  return planner_->RestoreState(found->second);
}

void RegisterSftStage() {
  RegisterStage("sft", [] { return std::make_unique<SftStage>(); });
}

}  // namespace tanren
