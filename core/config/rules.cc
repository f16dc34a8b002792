// One function for each part of a run; each rule is a condition, the fields concerned and a message.
#include "core/config/rules.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/config.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

constexpr int64_t kTokenTile = 128;  // a micro-batch is a multiple of this on every tensor rank

// "1, 2, 3, 4, 6 or 12"
std::string DivisorsText(int64_t number) {
  std::vector<std::string> divisors;
  for (int64_t i = 1; i <= number; ++i) {
    if (number % i == 0) divisors.push_back(absl::StrCat(i));
  }
  return JoinWithOr(divisors);
}

// The multiples of `step` next to `number`: "768 or 1024".
std::string MultiplesText(int64_t number, int64_t step) {
  const int64_t below = number / step * step;
  return below > 0 ? absl::StrCat(below, " or ", below + step) : absl::StrCat(below + step);
}

void CheckHeads(const ModelConfig& model, bool head_dim_is_given, ErrorReport* report) {
  if (model.heads() <= 0 || model.width() <= 0) return;  // reported as required
  if (model.heads() % model.kv_heads() != 0) {
    report->AddRule({"model.kv_heads", "model.heads"},
                    absl::StrCat(model.kv_heads(), " does not divide model.heads ", model.heads(), "; use ",
                                 DivisorsText(model.heads())));
  }
  if (!head_dim_is_given && model.width() % model.heads() != 0) {
    report->AddRule({"model.width", "model.heads"},
                    absl::StrCat(model.width(), " is not a multiple of model.heads ", model.heads(), "; use ",
                                 MultiplesText(model.width(), model.heads()), ", or set model.head_dim"));
  } else if (model.position() == ModelConfig::rotary && model.head_dim() % 2 != 0) {
    const std::string origin = head_dim_is_given ? ""
                                                 : absl::StrCat(" (model.width ", model.width(),
                                                                " / model.heads ", model.heads(), ")");
    report->AddRule(
        {"model.head_dim", "model.width", "model.heads"},
        absl::StrCat(model.head_dim(), origin, " is odd; rotary position turns pairs, so make it even"));
  }
}

void CheckPosition(const ModelConfig& model, ErrorReport* report) {
  const RotaryScaling& scaling = model.rotary_scaling();
  const std::string kind = RotaryScaling::Kind_Name(scaling.kind());
  if (model.position() == ModelConfig::learned && scaling.kind() != RotaryScaling::none) {
    report->AddRule(
        {"model.rotary_scaling.kind", "model.position"},
        absl::StrCat(kind, " has no effect with model.position learned; use none, or position rotary"));
  }
  if (scaling.kind() == RotaryScaling::llama3 &&
      scaling.low_frequency_factor() >= scaling.high_frequency_factor()) {
    report->AddRule({"model.rotary_scaling.low_frequency_factor",
                     "model.rotary_scaling.high_frequency_factor", "model.rotary_scaling.kind"},
                    absl::StrCat(FormatNumber(scaling.low_frequency_factor()),
                                 " must be less than high_frequency_factor ",
                                 FormatNumber(scaling.high_frequency_factor())));
  }
  if (scaling.kind() == RotaryScaling::yarn && scaling.beta_slow() >= scaling.beta_fast()) {
    report->AddRule(
        {"model.rotary_scaling.beta_slow", "model.rotary_scaling.beta_fast", "model.rotary_scaling.kind"},
        absl::StrCat(FormatNumber(scaling.beta_slow()), " must be less than beta_fast ",
                     FormatNumber(scaling.beta_fast())));
  }
}

void CheckLayout(const Config& config, ErrorReport* report) {
  const ModelConfig& model = config.model();
  const int64_t tensor = config.parallel().tensor();
  if (config.parallel().pipe() > 1) {
    report->AddRule({"parallel.pipe"},
                    absl::StrCat(config.parallel().pipe(),
                                 ": pipeline parallelism is named but not available; use 1, and "
                                 "parallel.tensor to share a model that does not fit one rank"));
  }
  if (config.parallel().context() > 1) {
    report->AddRule({"parallel.context"},
                    absl::StrCat(config.parallel().context(),
                                 ": context parallelism is named but not available; use 1, and "
                                 "parallel.tensor, which also splits the row of tokens"));
  }
  if (tensor <= 1 || model.heads() <= 0 || model.width() <= 0) return;
  if (model.heads() % tensor != 0) {
    report->AddRule({"parallel.tensor", "model.heads"},
                    absl::StrCat(tensor, " does not divide model.heads ", model.heads(), "; use ",
                                 DivisorsText(model.heads())));
  }
  if (model.kv_heads() % tensor != 0 && tensor % model.kv_heads() != 0) {
    report->AddRule({"parallel.tensor", "model.kv_heads", "model.heads"},
                    absl::StrCat(tensor, " neither divides nor is a multiple of model.kv_heads ",
                                 model.kv_heads(), "; use one of its divisors or multiples"));
  }
  if (model.mlp_width() % tensor != 0) {
    report->AddRule({"parallel.tensor", "model.mlp_width", "model.width"},
                    absl::StrCat(tensor, " does not divide model.mlp_width ", model.mlp_width(),
                                 "; use a divisor, or mlp_width ", MultiplesText(model.mlp_width(), tensor)));
  }
}

void CheckBatch(const Config& config, bool sequence_length_is_given, ErrorReport* report) {
  const int64_t capacity = config.batch().micro_batch_tokens(), tensor = config.parallel().tensor();
  const int64_t length = config.data().sequence_length(), context = config.model().context_length();
  if (capacity % (kTokenTile * tensor) != 0) {
    report->AddRule(
        {"batch.micro_batch_tokens", "parallel.tensor"},
        absl::StrCat(capacity, " is not a multiple of ", kTokenTile, " * parallel.tensor ", tensor, " = ",
                     kTokenTile * tensor, "; use ", MultiplesText(capacity, kTokenTile * tensor)));
  }
  if (length > context) {
    report->AddRule({"data.sequence_length", "model.context_length"},
                    absl::StrCat(length, " is longer than model.context_length ", context,
                                 "; shorten it or raise model.context_length"));
  }
  if (length > capacity) {
    report->AddRule({"data.sequence_length", "batch.micro_batch_tokens", "model.context_length"},
                    absl::StrCat(length, sequence_length_is_given ? "" : " (from model.context_length)",
                                 " does not fit batch.micro_batch_tokens ", capacity,
                                 "; raise micro_batch_tokens or set a shorter data.sequence_length"));
  }
}

void CheckSchedule(const Config& config, ErrorReport* report) {
  const ScheduleConfig& schedule = config.schedule();
  const int64_t steps = config.train().steps(), warmup = schedule.warmup_steps(),
                decay = schedule.decay_steps();
  if (warmup > steps) {
    report->AddRule({"schedule.warmup_steps", "train.steps"},
                    absl::StrCat(warmup, " is more than train.steps ", steps, "; shorten the warm-up"));
    return;
  }
  const bool has_end = schedule.kind() == ScheduleConfig::linear || schedule.kind() == ScheduleConfig::cosine;
  if (has_end && decay < warmup) {
    report->AddRule({"schedule.decay_steps", "schedule.warmup_steps", "schedule.kind", "train.steps"},
                    absl::StrCat(decay, " is before the end of schedule.warmup_steps ", warmup,
                                 "; it counts from step 0, so make it larger, or 0 for train.steps"));
  }
  if (schedule.kind() == ScheduleConfig::warmup_stable_decay && warmup + decay > steps) {
    report->AddRule({"schedule.decay_steps", "schedule.warmup_steps", "schedule.kind", "train.steps"},
                    absl::StrCat(decay, " and schedule.warmup_steps ", warmup,
                                 " are together more than train.steps ", steps, "; shorten one"));
  }
}

void CheckFiles(const Config& config, ErrorReport* report) {
  const TokenizerConfig& tokenizer = config.tokenizer();
  const std::string kind = TokenizerConfig::Kind_Name(tokenizer.kind());
  if (tokenizer.kind() != TokenizerConfig::bytes && tokenizer.path().empty()) {
    report->AddRule({"tokenizer.path", "tokenizer.kind"},
                    absl::StrCat("is required by tokenizer.kind ", kind, ": a tokenizer directory or file"));
  }
  if (tokenizer.kind() == TokenizerConfig::bytes && !tokenizer.path().empty()) {
    report->AddRule({"tokenizer.path", "tokenizer.kind"},
                    absl::StrCat(Printable(tokenizer.path()), " is not read by tokenizer.kind ", kind,
                                 "; set the kind of that tokenizer, or remove the path"));
  }
  const CheckpointConfig& checkpoint = config.checkpoint();
  if (checkpoint.interval_steps() > 0 && checkpoint.keep_every_steps() % checkpoint.interval_steps() != 0) {
    report->AddRule(
        {"checkpoint.keep_every_steps", "checkpoint.interval_steps"},
        absl::StrCat(checkpoint.keep_every_steps(), " is not a multiple of checkpoint.interval_steps ",
                     checkpoint.interval_steps(), ", so those steps are not saved; use ",
                     MultiplesText(checkpoint.keep_every_steps(), checkpoint.interval_steps())));
  }
  if (config.samples().interval_steps() > 0 && config.samples().prompts().empty()) {
    report->AddRule(
        {"samples.prompts", "samples.interval_steps"},
        absl::StrCat("is empty, but samples.interval_steps is ", config.samples().interval_steps(),
                     "; give prompts, for example [\"\"], or set the interval to 0"));
  }
  for (int i = 0; i < config.init().differs_size(); ++i) {
    const std::string& key = config.init().differs(i);
    if (ModelConfig::descriptor()->FindFieldByName(key) != nullptr) continue;
    const std::string path = absl::StrCat("init.differs.", i);
    report->AddRule(
        {path}, absl::StrCat(key, " is no key of model; name one as it stands there, such as rotary_base"));
  }
  if (config.stage().empty()) {
    report->AddRule({"stage"}, "is empty; name a stage, for example pretrain");
  }
}

}  // namespace

void CheckRules(const Config& config, ErrorReport* report) {
  const Config resolved = Resolve(config);
  CheckHeads(resolved.model(), config.model().head_dim() > 0, report);
  CheckPosition(resolved.model(), report);
  CheckLayout(resolved, report);
  CheckBatch(resolved, config.data().sequence_length() > 0, report);
  CheckSchedule(resolved, report);
  CheckFiles(resolved, report);
}

}  // namespace tanren::config
