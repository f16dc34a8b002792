#include "stages/pretrain/pretrain_stage.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {
namespace {

using DataSources = google::protobuf::RepeatedPtrField<config::DataSource>;

absl::StatusOr<std::vector<DocumentSource::Part>> OpenCorpora(const char* key, const DataSources& sources,
                                                              const Tokenizer& tokenizer) {
  std::vector<DocumentSource::Part> parts;
  for (int i = 0; i < sources.size(); ++i) {
    const std::string place = absl::StrCat("data.", key, ".", i, ".path");
    absl::StatusOr<std::unique_ptr<TokenCorpus>> corpus = TokenCorpus::Open(sources[i].path());
    if (!corpus.ok()) return At(place, corpus.status());
    if ((*corpus)->manifest().tokenizer_hash != tokenizer.Hash()) {
      return InvalidInput(
          "%s: %s was made by another tokenizer (a %s of %d tokens) than the run's (a %s of %d); set "
          "tokenizer.path to "
          "%s or tokenise the text again",
          place, sources[i].path(), (*corpus)->manifest().tokenizer_kind, (*corpus)->vocab_size(),
          std::string(tokenizer.kind()), tokenizer.vocab_size(), (*corpus)->tokenizer_directory());
    }
    parts.push_back({std::shared_ptr<const TokenStore>(*std::move(corpus)), sources[i].weight()});
  }
  return parts;
}

}  // namespace

absl::Status PretrainStage::Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) {
  (void)mesh;
  DocumentSource::Options options;
  options.sequence_length = config.data().sequence_length();
  options.isolate_documents = config.data().documents() == config::DataConfig::isolated;
  options.shuffle = config.data().shuffle();
  options.seed = static_cast<uint64_t>(config.seed());
  if (config.data().train().empty()) {
    return InvalidInput(
        "data.train: stage pretrain needs at least one corpus made by `tanren data tokenize`");
  }
  TANREN_ASSIGN_OR_RETURN(std::vector<DocumentSource::Part> train,
                          OpenCorpora("train", config.data().train(), tokenizer));
  absl::StatusOr<std::unique_ptr<DocumentSource>> source = DocumentSource::Make(std::move(train), options);
  if (!source.ok()) return At("data.train", source.status());
  train_ = *std::move(source);
  planner_options_.micro_batch_tokens = config.batch().micro_batch_tokens();
  planner_options_.micro_batches = config.batch().micro_batches();
  planner_options_.drop_oversize = config.batch().oversize() == config::BatchConfig::drop;
  planner_ = std::make_unique<StepPlanner>(train_.get(), planner_options_);
  loss_ = NextTokenLoss(NextTokenFunctor<false>{config.pretrain().z_loss()});

  if (config.data().validation().empty()) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(std::vector<DocumentSource::Part> validation,
                          OpenCorpora("validation", config.data().validation(), tokenizer));
  double bytes = 0, tokens = 0;
  for (const DocumentSource::Part& part : validation) {
    bytes += static_cast<double>(part.store->text_bytes());
    tokens += static_cast<double>(part.store->num_tokens());
  }
  bytes_per_token_ = bytes / tokens;
  options.endless = false;
  options.shuffle = false;
  source = DocumentSource::Make(std::move(validation), options);
  if (!source.ok()) return At("data.validation", source.status());
  validation_ = *std::move(source);
  validation_micro_batches_ = config.validation().micro_batches();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<MicroBatch>> PretrainStage::LoadDealt(DocumentSource& source, const StepPlan& plan,
                                                                 const Mesh& mesh) {
  const DealtRange mine =
      DealMicroBatches(static_cast<int64_t>(plan.micro_batches.size()), mesh.data->rank(), mesh.data->size());
  std::vector<MicroBatch> batches(mine.end - mine.begin);
  absl::Status local;
  for (int64_t m = mine.begin; m < mine.end && local.ok(); ++m) {
    local = LoadMicroBatch(source, plan.micro_batches[m], planner_options_.micro_batch_tokens,
                           &batches[m - mine.begin]);
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*mesh.world, "load step", local));
  return batches;
}

absl::StatusOr<StageStep> PretrainStage::Step(Engine& engine, int64_t step, double learning_rate) {
  (void)step;
  TANREN_ASSIGN_OR_RETURN(const StepPlan plan, planner_->Next());
  TANREN_ASSIGN_OR_RETURN(const std::vector<MicroBatch> batches, LoadDealt(*train_, plan, engine.mesh()));
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("policy", batches, loss_, learning_rate));
  StageStep out;
  out.loss = result.loss;
  out.gradient_norm = result.gradient_norm;
  out.skipped = result.skipped;
  for (const auto& micro_batch : plan.micro_batches) {
    for (const UnitRef& unit : micro_batch) out.tokens += static_cast<double>(unit.tokens);
  }
  if (result.metrics[0] != result.loss) out.metrics.push_back({"cross_entropy", result.metrics[0]});
  if (plan.oversize_units > 0)
    out.metrics.push_back({"oversize_units", static_cast<double>(plan.oversize_units)});
  return out;
}

absl::StatusOr<std::vector<Metric>> PretrainStage::Validate(Engine& engine) {
  std::vector<Metric> metrics;
  if (!validation_) return metrics;
  validation_->Rewind();
  // A few micro-batches at a time, in order, whatever the number of ranks.
  StepPlanner::Options options = planner_options_;
  options.micro_batches = std::max<int64_t>(engine.mesh().data->size(), 8);
  StepPlanner planner(validation_.get(), options);
  double nats = 0, tokens = 0;
  int64_t done = 0;
  while (validation_micro_batches_ == 0 || done < validation_micro_batches_) {
    absl::StatusOr<StepPlan> plan = planner.Next();
    if (absl::IsOutOfRange(plan.status())) break;
    TANREN_RETURN_IF_ERROR(plan.status());
    if (validation_micro_batches_ > 0) {
      const int64_t left = validation_micro_batches_ - done;
      if (static_cast<int64_t>(plan->micro_batches.size()) > left) plan->micro_batches.resize(left);
    }
    done += static_cast<int64_t>(plan->micro_batches.size());
    TANREN_ASSIGN_OR_RETURN(const std::vector<MicroBatch> batches,
                            LoadDealt(*validation_, *plan, engine.mesh()));
    TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Evaluate("policy", batches, loss_));
    nats += result.metrics[0] * result.normalizers.trained_tokens;
    tokens += result.normalizers.trained_tokens;
  }
  metrics.push_back({"loss", nats / tokens});
  if (bytes_per_token_ > 0) {
    metrics.push_back({"bits_per_byte", nats / tokens / std::numbers::ln2 / bytes_per_token_});
  }
  return metrics;
}

std::map<std::string, std::string> PretrainStage::SaveState() const {
  return {{"train", planner_->SaveState()}};
}

absl::Status PretrainStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto found = state.find("train");
  if (found == state.end()) return InvalidInput("the checkpoint has no data cursor of stage pretrain");
  return planner_->RestoreState(found->second);
}

void RegisterPretrainStage() {
  RegisterStage("pretrain", [] { return std::make_unique<PretrainStage>(); });
}

}  // namespace tanren
