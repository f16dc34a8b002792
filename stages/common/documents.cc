#include "stages/common/documents.h"

#include <numbers>
#include <utility>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/corpus/token_corpus.h"
#include "core/proto/config.pb.h"

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

DocumentSource::Options OptionsOf(const config::Config& config) {
  DocumentSource::Options options;
  options.sequence_length = config.data().sequence_length();
  options.isolate_documents = config.data().documents() == config::DataConfig::isolated;
  options.shuffle = config.data().shuffle();
  options.seed = static_cast<uint64_t>(config.seed());
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentSource>> OpenTrainDocuments(const config::Config& config,
                                                                   const Tokenizer& tokenizer) {
  TANREN_ASSIGN_OR_RETURN(std::vector<DocumentSource::Part> parts,
                          OpenCorpora("train", config.data().train(), tokenizer));
  absl::StatusOr<std::unique_ptr<DocumentSource>> source =
      DocumentSource::Make(std::move(parts), OptionsOf(config));
  if (!source.ok()) return At("data.train", source.status());
  return source;
}

absl::Status HeldOutDocuments::Open(const config::Config& config, const Tokenizer& tokenizer) {
  if (config.data().validation().empty()) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(std::vector<DocumentSource::Part> parts,
                          OpenCorpora("validation", config.data().validation(), tokenizer));
  double bytes = 0, tokens = 0;
  for (const DocumentSource::Part& part : parts) {
    bytes += static_cast<double>(part.store->text_bytes());
    tokens += static_cast<double>(part.store->num_tokens());
  }
  bytes_per_token_ = bytes / tokens;
  DocumentSource::Options options = OptionsOf(config);
  options.endless = false;
  options.shuffle = false;
  absl::StatusOr<std::unique_ptr<DocumentSource>> source = DocumentSource::Make(std::move(parts), options);
  if (!source.ok()) return At("data.validation", source.status());
  source_ = *std::move(source);
  planner_options_ = PlannerOptions(config);
  micro_batches_ = config.validation().micro_batches();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Metric>> HeldOutDocuments::Measure(Engine& engine, const std::string& model,
                                                              const std::string& prefix) {
  std::vector<Metric> metrics;
  if (empty()) return metrics;
  source_->Rewind();
  TANREN_ASSIGN_OR_RETURN(const MeasuredLoss measured,
                          MeasureLoss(engine, model, *source_, planner_options_, loss_, micro_batches_));
  const double nats = measured.metrics[0];
  metrics.push_back({prefix + "loss", nats});
  if (bytes_per_token_ > 0) {
    metrics.push_back({prefix + "bits_per_byte", nats / std::numbers::ln2 / bytes_per_token_});
  }
  return metrics;
}

absl::Status RefuseGuards(const config::Config& config, bool measures_forgetting) {
  const config::GuardConfig& guards = config.guards();
  for (const auto& [key, value] :
       {std::pair("max_kl", guards.max_kl()), std::pair("max_length_ratio", guards.max_length_ratio()),
        std::pair("max_reward_gap", guards.max_reward_gap()),
        std::pair("min_distinct", guards.min_distinct()),
        std::pair("max_forgetting", measures_forgetting ? 0 : guards.max_forgetting())}) {
    if (value == 0) continue;
    return InvalidInput("guards.%s: %g, but stage %s does not measure it; set it to 0", key, value,
                        config.stage());
  }
  return absl::OkStatus();
}

absl::Status BaseLoss::Open(const config::Config& config, const Tokenizer& tokenizer) {
  max_forgetting_ = config.guards().max_forgetting();
  stop_ = config.guards().action() == config::GuardConfig::stop;
  if (max_forgetting_ > 0 && config.data().validation().empty()) {
    return InvalidInput(
        "guards.max_forgetting: %g, but data.validation names no base corpus to measure; name one, or set "
        "guards.max_forgetting: 0",
        max_forgetting_);
  }
  if (max_forgetting_ > 0 && config.validation().interval_steps() == 0) {
    return InvalidInput(
        "guards.max_forgetting: %g is looked at in validation, but validation.interval_steps is 0; set an "
        "interval, or guards.max_forgetting: 0",
        max_forgetting_);
  }
  return documents_.Open(config, tokenizer);
}

absl::Status BaseLoss::Begin(Engine& engine) {
  if (documents_.empty()) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(const std::vector<Metric> base, documents_.Measure(engine, "policy", "base_"));
  start_ = base[0].value;
  return absl::OkStatus();
}

absl::Status BaseLoss::Measure(Engine& engine, StageValidation* validation) {
  if (documents_.empty()) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(const std::vector<Metric> base, documents_.Measure(engine, "policy", "base_"));
  validation->metrics.insert(validation->metrics.end(), base.begin(), base.end());
  Judge(base[0].value, validation);
  return absl::OkStatus();
}

void BaseLoss::Judge(double loss, StageValidation* validation) {
  if (start_ < 0) {
    start_ = loss;
    validation->warnings.push_back(
        absl::StrFormat("forgetting is measured from here on, from a base validation loss of %.4f: the steps "
                        "before were made without measuring it",
                        start_));
  }
  const double forgetting = loss - start_;
  validation->metrics.push_back({"forgetting", forgetting});
  if (max_forgetting_ <= 0 || forgetting <= max_forgetting_) return;  // nan is beyond every bound
  const std::string text = absl::StrFormat(
      "the base validation loss has risen by %.4f nats from %.4f to %.4f, more than guards.max_forgetting "
      "%g; replay more pre-training data (sft.replay_share), lower optimizer.learning_rate, raise "
      "rl.kl_coefficient, or raise the bound",
      forgetting, start_, loss, max_forgetting_);
  if (stop_) validation->stop = text;
  validation->warnings.push_back(text);
}

std::string BaseLoss::SaveState() const { return absl::StrFormat("%.17g", start_); }

void BaseLoss::RestoreState(const std::string& state) {
  if (!absl::SimpleAtod(View(std::string_view(state)), &start_)) start_ = -1;
}

}  // namespace tanren
