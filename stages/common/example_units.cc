#include "stages/common/example_units.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/proto/config.pb.h"

namespace tanren {
namespace {

std::optional<ExampleFormat> FormatOf(config::ExampleSource::Format format) {
  switch (format) {
    case config::ExampleSource::by_content:
      return std::nullopt;
    case config::ExampleSource::ranking:
      return ExampleFormat::kRanking;
    case config::ExampleSource::preference:
      return ExampleFormat::kPreference;
    case config::ExampleSource::labelled:
      return ExampleFormat::kLabelled;
    case config::ExampleSource::references:
      return ExampleFormat::kReferences;
    case config::ExampleSource::messages:
      return ExampleFormat::kMessages;
    case config::ExampleSource::prompt_completion:
      return ExampleFormat::kPromptCompletion;
    case config::ExampleSource::alpaca:
      return ExampleFormat::kAlpaca;
    case config::ExampleSource::answer:
      return ExampleFormat::kAnswer;
    case config::ExampleSource::text:
      return ExampleFormat::kText;
  }
  return std::nullopt;
}

// What of an example no model of this run could take; OK when there is nothing.
absl::Status CheckLengths(const config::Config& config, const Unit& unit) {
  for (const int32_t length : unit.segment_lengths) {
    if (length > config.model().context_length()) return InvalidInput("longer than model.context_length");
  }
  if (unit.tokens() > config.batch().micro_batch_tokens()) {
    return InvalidInput("longer than batch.micro_batch_tokens");
  }
  return absl::OkStatus();
}

// Whether the stage's loss counts a record by its weight: SFT does, the other stages of this tree do not, and
// of a plugin's nothing is known.
bool UsesWeights(const config::Config& config) {
  constexpr std::array kWithout = {"reward_model", "preference", "rl"};
  return std::ranges::count(kWithout, config.stage()) == 0;
}

// What of the config compares answers and reads no margins: only the pairwise reward loss does. "" elsewhere.
std::string UserWithoutMargins(const config::Config& config) {
  if (config.stage() == "preference") {
    return absl::StrCat("preference.loss ", config::PreferenceConfig::Loss_Name(config.preference().loss()));
  }
  const auto loss = config.reward_model().loss();
  if (config.stage() != "reward_model" || loss == config::RewardModelConfig::pairwise) return "";
  return absl::StrCat("reward_model.loss ", config::RewardModelConfig::Loss_Name(loss));
}

std::string MarginsText(const UnitReport::Margins& margins) {
  std::string text =
      absl::StrFormat("; %d units have a margin, %g in the mean, from %g to %g", margins.count,
                      margins.sum / static_cast<double>(margins.count), margins.least, margins.most);
  if (margins.below_zero > 0) {
    absl::StrAppend(&text, " (", margins.below_zero, " below 0, as where sides are swapped)");
  }
  if (!margins.unused_by.empty()) {
    absl::StrAppend(&text, ", which has no effect with ", margins.unused_by,
                    "; reward_model.loss pairwise reads it");
  }
  return text;
}

absl::StatusOr<UnitSet> ReadSet(const config::Config& config, const config::ExampleSource& source,
                                const MakeUnit& make, const ExpandExamples& expand, UnitReport* report) {
  ExampleOptions options;
  options.format = FormatOf(source.format());
  options.max_damaged_fraction = config.data().max_damaged();
  TANREN_ASSIGN_OR_RETURN(std::vector<Example> examples, ReadExamples(source.path(), options, &report->read));
  if (source.limit() > 0 && static_cast<int64_t>(examples.size()) > source.limit())
    examples.resize(source.limit());
  if (expand) examples = expand(std::move(examples));
  UnitSet set;
  set.weight = source.weight();
  std::string first_dropped;
  int64_t allowed = 0;
  for (const Example& example : examples) {
    Unit unit;
    absl::Status made = make(example, &unit);
    if (made.ok()) {
      made = CheckLengths(config, unit);
      if (!made.ok() && config.batch().oversize() == config::BatchConfig::drop) ++allowed;
    }
    if (example.weight != 1 && !UsesWeights(config)) ++report->unused_weights;
    if (absl::IsInvalidArgument(made)) {
      UnitReport::Dropped& dropped = report->dropped[std::string(View(made.message()))];
      if (dropped.count++ == 0) dropped.first = example.source;
      if (first_dropped.empty()) first_dropped = absl::StrCat(example.source, ": ", made.message());
      continue;
    }
    TANREN_RETURN_IF_ERROR(made);
    report->segments += static_cast<int64_t>(unit.segment_lengths.size());
    report->tokens += unit.tokens();
    report->trained_tokens += std::count(unit.mask.begin(), unit.mask.end(), 1);
    if (example.margin != 0) report->margins.Add(example.margin);
    set.units.push_back(std::move(unit));
  }
  report->units = static_cast<int64_t>(set.units.size());
  report->margins.unused_by = UserWithoutMargins(config);
  const double dropped =
      static_cast<double>(examples.size() - set.units.size()) - static_cast<double>(allowed);
  if (set.units.empty() || dropped > config.data().max_damaged() * static_cast<double>(examples.size())) {
    return InvalidInput(
        "%s: %.0f of %d examples are of no use to stage %s (the first: %s); mend them, or raise "
        "data.max_damaged",
        source.path(), dropped, examples.size(), config.stage(), first_dropped);
  }
  return set;
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplateFromConfig(const config::Config& config,
                                                    const Tokenizer& tokenizer) {
  const ChatTemplateKind kind = config.chat().template_() == config::ChatConfig::chatml
                                    ? ChatTemplateKind::kChatml
                                    : ChatTemplateKind::kPlain;
  absl::StatusOr<ChatTemplate> chat = ChatTemplate::Make(kind, tokenizer);
  if (!chat.ok()) return At("chat.template", chat.status());
  return chat;
}

void UnitReport::Margins::Add(double margin) {
  least = count == 0 ? margin : std::min(least, margin);
  most = count == 0 ? margin : std::max(most, margin);
  sum += margin;
  below_zero += margin < 0;
  ++count;
}

std::string UnitReport::ToString() const {
  std::string text = absl::StrCat(path, ": ", units, " units, ", segments, " sequences, ", tokens,
                                  " tokens, ", trained_tokens, " of them trained; ", read.ToString());
  for (const auto& [reason, examples] : dropped) {
    absl::StrAppend(&text, "; left out ", examples.count, " (", reason, "), such as ", examples.first);
  }
  if (unused_weights > 0) {
    absl::StrAppend(&text, "; the weight of ", unused_weights, " has no effect in this stage");
  }
  if (margins.count > 0) text += MarginsText(margins);
  return text;
}

absl::StatusOr<std::vector<UnitSet>> ReadUnits(const config::Config& config, bool validation,
                                               const MakeUnit& make, std::vector<UnitReport>* reports,
                                               const ExpandExamples& expand) {
  const auto& sources = validation ? config.data().validation_examples() : config.data().examples();
  const char* key = validation ? "validation_examples" : "examples";
  std::vector<UnitSet> sets;
  for (int i = 0; i < sources.size(); ++i) {
    UnitReport report;
    report.path = sources[i].path();
    absl::StatusOr<UnitSet> set = ReadSet(config, sources[i], make, expand, &report);
    if (!set.ok()) return At(absl::StrCat("data.", key, ".", i), set.status());
    sets.push_back(*std::move(set));
    reports->push_back(std::move(report));
  }
  return sets;
}

std::vector<Message> PromptMessages(const config::Config& config, const Example& example) {
  std::vector<Message> messages = example.prompt;
  const bool has_system = !messages.empty() && messages[0].role == MessageRole::kSystem;
  if (!has_system && !config.chat().system().empty()) {
    messages.insert(messages.begin(), {MessageRole::kSystem, config.chat().system(), false});
  }
  return messages;
}

void AddSegment(const RenderedConversation& conversation, bool whole, Unit* unit) {
  const size_t inputs = conversation.ids.size() - (whole ? 0 : 1);
  for (size_t t = 0; t < inputs; ++t) {
    const bool has_target = t + 1 < conversation.ids.size();
    unit->ids.push_back(conversation.ids[t]);
    unit->targets.push_back(has_target ? conversation.ids[t + 1] : -1);
    unit->mask.push_back(has_target ? conversation.trained[t + 1] : 0);
  }
  unit->segment_lengths.push_back(static_cast<int32_t>(inputs));
}

absl::StatusOr<RenderedConversation> RenderResponse(const ChatTemplate& chat, std::vector<Message> prompt,
                                                    const std::string& response, bool earlier_turns) {
  for (Message& message : prompt) message.trained = message.trained && earlier_turns;
  prompt.push_back({MessageRole::kAssistant, response, true});
  return chat.RenderForTraining(prompt);
}

}  // namespace tanren
