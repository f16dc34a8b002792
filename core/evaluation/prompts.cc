#include "core/evaluation/prompts.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/corpus/input_stream.h"
#include "core/examples/read_examples.h"
#include "core/trainer/requests.h"

namespace tanren {
namespace {

constexpr const char* kDefaultPattern = "Question: {question}\nSteps:\n";

// The last question of an example, to tell whether it is the case's own.
std::string QuestionOf(const ShotExample& example) {
  return example.prompt.empty() ? "" : example.prompt.back().content;
}

}  // namespace

absl::StatusOr<std::string> FillPattern(const std::string& pattern, const OrderedJson& fields) {
  std::string prompt;
  for (size_t at = 0; at < pattern.size();) {
    const size_t end = pattern[at] == '{' ? pattern.find('}', at) : std::string::npos;
    if (end == std::string::npos) {
      prompt += pattern[at++];
      continue;
    }
    TANREN_ASSIGN_OR_RETURN(const std::string text, TextField(fields, pattern.substr(at + 1, end - at - 1)));
    prompt += text;
    at = end + 1;
  }
  return prompt;
}

absl::StatusOr<Prompter> Prompter::Make(const config::PromptConfig& config, const PromptModel& model) {
  Prompter out;
  out.config_ = config;
  out.model_ = &model;
  const bool pattern =
      config.style() == config::PromptConfig::text || (config.style() == config::PromptConfig::automatic &&
                                                       (!config.pattern().empty() || model.pretrained_only));
  if (pattern) {
    out.pattern_ = config.pattern().empty() ? kDefaultPattern : config.pattern();
    out.stops_ = DocumentStops(*model.tokenizer);
  } else {
    TANREN_RETURN_IF_ERROR(model.chat.status());
    out.stops_ = {model.chat->end_of_turn()};
  }
  if (!config.few_shot().path().empty()) {
    TANREN_RETURN_IF_ERROR(At("few_shot", out.ReadExamples()));
  }
  return out;
}

absl::Status Prompter::ReadExamples() {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(config_.few_shot().path()));
  LineReader lines(std::move(stream), kLineLimitBytes);
  LineReader::Line line;
  // More than are shown at once, for some may ask what a case asks.
  const size_t wanted = static_cast<size_t>(config_.few_shot().k()) * 2 + 1;
  while (examples_.size() < wanted) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    if (line.text.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    const std::string place = absl::StrCat(config_.few_shot().path(), ":", line.number);
    absl::StatusOr<Example> example = ParseExample(line.text, std::nullopt);
    if (!example.ok()) return At(place, example.status());
    if (example->prompt.empty() || example->responses.empty()) {
      return InvalidInput("%s: a record of format %s shows no prompt with an answer", place,
                          NameOf(example->format));
    }
    absl::StatusOr<OrderedJson> fields = ParseRecord(line.text);
    if (!fields.ok()) return At(place, fields.status());
    examples_.push_back({*std::move(fields), std::move(example->prompt), example->responses[0]});
  }
  if (static_cast<int64_t>(examples_.size()) >= config_.few_shot().k()) return absl::OkStatus();
  return InvalidInput("%s has %d examples; k is %d", config_.few_shot().path(), examples_.size(),
                      config_.few_shot().k());
}

std::vector<const ShotExample*> Prompter::ExamplesFor(const Question& question) const {
  std::vector<const ShotExample*> out;
  for (const ShotExample& example : examples_) {
    if (static_cast<int64_t>(out.size()) == config_.few_shot().k()) break;
    if (question.text.empty() || QuestionOf(example) != question.text) out.push_back(&example);
  }
  return out;
}

absl::StatusOr<Prompt> Prompter::Render(const Question& question) const {
  return pattern_.empty() ? RenderChat(question) : RenderPattern(question);
}

absl::StatusOr<Prompt> Prompter::RenderChat(const Question& question) const {
  if (question.text.empty()) {
    return InvalidInput(
        "there is no question: give a field \"question\", \"prompt\", \"messages\" or \"turns\", or a "
        "pattern");
  }
  Prompt out;
  out.case_index = question.case_index;
  out.turn = question.turn;
  out.chat = true;
  out.text = question.text;
  if (!config_.zero_shot().empty()) absl::StrAppend(&out.text, "\n", config_.zero_shot());
  std::vector<Message> messages;
  std::vector<Message> rest = question.before;
  if (!rest.empty() && rest[0].role == MessageRole::kSystem) {
    messages.push_back(rest[0]);
    rest.erase(rest.begin());
  } else if (!model_->system.empty()) {
    messages.push_back({MessageRole::kSystem, model_->system});
  }
  for (const ShotExample* example : ExamplesFor(question)) {
    for (const Message& message : example->prompt) {
      if (message.role != MessageRole::kSystem) messages.push_back(message);
    }
    messages.push_back({MessageRole::kAssistant, example->response});
  }
  messages.insert(messages.end(), rest.begin(), rest.end());
  messages.push_back({MessageRole::kUser, out.text});
  TANREN_ASSIGN_OR_RETURN(out.tokens, model_->chat->Render(messages, /*generation_prompt=*/true));
  return out;
}

absl::StatusOr<Prompt> Prompter::RenderPattern(const Question& question) const {
  if (!question.before.empty() || question.turn > 0) {
    return InvalidInput("a conversation needs style chat; a pattern holds one question");
  }
  Prompt out;
  out.case_index = question.case_index;
  std::string shots;
  for (const ShotExample* example : ExamplesFor(question)) {
    absl::StatusOr<std::string> filled = FillPattern(pattern_, example->fields);
    if (!filled.ok()) return At(config_.few_shot().path(), filled.status());
    absl::StrAppend(&shots, *filled, example->response, config_.few_shot().separator());
  }
  TANREN_ASSIGN_OR_RETURN(out.text, FillPattern(pattern_, question.fields));
  if (!config_.zero_shot().empty()) absl::StrAppend(&out.text, config_.zero_shot(), "\n");
  constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  TANREN_ASSIGN_OR_RETURN(
      GenerationRequest request,
      MakeRequest(*model_->tokenizer, kNoLimit, shots + out.text, 1, kernels::SamplingParams()));
  out.tokens = std::move(request.prompt);
  return out;
}

}  // namespace tanren
