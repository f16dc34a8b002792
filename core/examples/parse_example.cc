#include <cmath>
#include <limits>
#include <utility>

#include "core/base/status.h"
#include "core/examples/read_examples.h"
#include "core/examples/record_fields.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

constexpr std::string_view kWorkedAnswerMark = "####";  // GSM8K: steps, then "#### 72"

Message User(std::string content) { return {MessageRole::kUser, std::move(content), true}; }

const char* PromptName(const Json& record) { return FirstOf(record, {"prompt", "question"}); }
const char* CompletionName(const Json& record) { return FirstOf(record, {"completion", "response"}); }

bool IsMultipleChoice(const Json& record) {
  return Field(record, "question") && Field(record, "choice0") && Field(record, "label");
}

bool HasWorkedAnswer(const Json& record) {
  const Json* answer = Field(record, "answer");
  return answer != nullptr && answer->is_string() &&
         answer->get_ref<const std::string&>().find(kWorkedAnswerMark) != std::string::npos;
}

absl::StatusOr<ExampleFormat> Recognise(const Json& record) {
  const auto has = [&](const char* name) { return Field(record, name) != nullptr; };
  const bool prompt = PromptName(record) != nullptr;
  const bool completion = CompletionName(record) != nullptr;
  if (has("responses") && has("ranking")) return ExampleFormat::kRanking;
  if (has("chosen") || has("rejected")) return ExampleFormat::kPreference;
  if (prompt && completion && has("label")) return ExampleFormat::kLabelled;
  if (prompt && has("completions")) return ExampleFormat::kReferences;
  if (has("messages") || has("conversations")) return ExampleFormat::kMessages;
  if (prompt && (completion || HasWorkedAnswer(record))) return ExampleFormat::kPromptCompletion;
  if (IsMultipleChoice(record)) return ExampleFormat::kPromptCompletion;
  if (has("instruction") && (has("output") || has("instances"))) return ExampleFormat::kAlpaca;
  if (prompt && has("answer")) return ExampleFormat::kAnswer;
  if (has("text")) return ExampleFormat::kText;
  std::string names;
  for (const auto& [name, value] : record.items()) {
    if (names.size() < 200) absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  }
  return InvalidInput(
      "unknown format: the record has %s; it needs prompt and completion, messages, chosen and "
      "rejected, or another set of fields that the guide names",
      names.empty() ? "no field" : names);
}

absl::Status ReadPrompt(const Json& record, Example* example) {
  const char* name = PromptName(record);
  if (name == nullptr) return Missing("prompt or question");
  const Json& value = *Field(record, name);
  if (value.is_array()) {
    TANREN_ASSIGN_OR_RETURN(example->prompt, MessagesOf(value, name));
    return absl::OkStatus();
  }
  if (!value.is_string()) return WrongType(name, "a text or a list of messages", value);
  TANREN_ASSIGN_OR_RETURN(std::string text, TextOf(value, name));
  example->prompt = {User(std::move(text))};
  return absl::OkStatus();
}

// Corpora made for one model carry its end of text at the end of an answer. As text it would be learnt letter
// by letter, so it is cut; the template ends the turn. With the mark an empty answer is no accident (a
// fortieth of T0's): it stays, and what is learnt is to end at once.
absl::StatusOr<std::string> Completion(const Json& record) {
  constexpr std::string_view kEndOfText = "<|endoftext|>";
  const char* name = CompletionName(record);
  if (name == nullptr) return Missing("completion or response");
  TANREN_ASSIGN_OR_RETURN(std::string text, ResponseOf(*Field(record, name), name));
  if (text.ends_with(kEndOfText)) text.resize(text.size() - kEndOfText.size());
  return text;
}

std::string Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin));
}

// GSM8K: what stands behind the last "####".
absl::StatusOr<std::string> AnswerBehindTheSteps(std::string_view worked) {
  std::string answer = Trimmed(worked.substr(worked.rfind(kWorkedAnswerMark) + kWorkedAnswerMark.size()));
  if (answer.empty())
    return InvalidInput("empty answer: nothing stands behind %s", std::string(kWorkedAnswerMark));
  return answer;
}

// JCommonsenseQA: question, choice0, choice1, .., and in label the index of the right one. The choices become
// lines of the prompt, and the text of the right one is the answer. As a ranking all choices are responses,
// the right one above the others, which are equal.
absl::Status ReadMultipleChoice(const Json& record, Example* example) {
  TANREN_ASSIGN_OR_RETURN(std::string prompt, RequiredText(record, "question"));
  std::vector<std::string> choices;
  while (const Json* choice = Field(record, absl::StrCat("choice", choices.size()).c_str())) {
    TANREN_ASSIGN_OR_RETURN(std::string text, ResponseOf(*choice, absl::StrCat("choice", choices.size())));
    absl::StrAppend(&prompt, "\n- ", text);
    choices.push_back(std::move(text));
  }
  const Json& label = *Field(record, "label");
  if (!label.is_number_integer()) return WrongType("label", "the index of a choice", label);
  const auto index = label.get<int64_t>();
  if (label.is_number_unsigned() ? label.get<uint64_t>() >= choices.size()
                                 : index < 0 || index >= static_cast<int64_t>(choices.size())) {
    return InvalidInput("bad label: %s is no index of the %d choices, which count from 0", label.dump(),
                        choices.size());
  }
  example->prompt = {User(std::move(prompt))};
  example->answer = choices[static_cast<size_t>(index)];
  if (example->format != ExampleFormat::kRanking) {
    example->responses = {example->answer};
    return absl::OkStatus();
  }
  if (choices.size() < 2) return InvalidInput("too few responses: one choice, and a ranking compares two");
  example->ranks.assign(choices.size(), 2);
  example->ranks[static_cast<size_t>(index)] = 1;
  example->responses = std::move(choices);
  return MergeEqualResponses("choice", example);
}

absl::Status ReadPromptCompletion(const Json& record, Example* example) {
  if (CompletionName(record) == nullptr && IsMultipleChoice(record))
    return ReadMultipleChoice(record, example);
  TANREN_RETURN_IF_ERROR(ReadPrompt(record, example));
  if (CompletionName(record) == nullptr && HasWorkedAnswer(record)) {
    example->responses = {example->answer};
    TANREN_ASSIGN_OR_RETURN(example->answer, AnswerBehindTheSteps(example->answer));
    return absl::OkStatus();
  }
  TANREN_ASSIGN_OR_RETURN(std::string completion, Completion(record));
  example->responses = {std::move(completion)};
  return absl::OkStatus();
}

absl::Status ReadAnswer(const Json& record, Example* example) {
  TANREN_RETURN_IF_ERROR(ReadPrompt(record, example));
  if (Field(record, "answer") == nullptr) return Missing("answer");
  if (HasWorkedAnswer(record)) {
    TANREN_ASSIGN_OR_RETURN(example->answer, AnswerBehindTheSteps(example->answer));
  }
  if (IsBlankText(example->answer)) return InvalidInput("empty answer: answer holds no text");
  return absl::OkStatus();
}

absl::Status ReadLabelled(const Json& record, Example* example) {
  TANREN_RETURN_IF_ERROR(ReadPrompt(record, example));
  TANREN_ASSIGN_OR_RETURN(std::string completion, Completion(record));
  example->responses = {std::move(completion)};
  const Json* label = Field(record, "label");
  if (label == nullptr) return Missing("label");
  if (label->is_structured()) return WrongType("label", "true, false, 1, 0, \"good\" or \"bad\"", *label);
  const std::string text = label->is_string() ? label->get<std::string>() : label->dump();
  example->label = text == "true" || text == "1" || text == "good";
  if (example->label || text == "false" || text == "0" || text == "bad") return absl::OkStatus();
  return InvalidInput("bad label: %s is none of true, false, 1, 0, good and bad", text.substr(0, 40));
}

absl::Status ReadReferences(const Json& record, Example* example) {
  TANREN_RETURN_IF_ERROR(ReadPrompt(record, example));
  const Json* completions = Field(record, "completions");
  if (completions == nullptr) return Missing("completions");
  TANREN_ASSIGN_OR_RETURN(example->responses, ResponsesOf(*completions, "completions"));
  if (example->responses.empty()) return InvalidInput("empty response: completions holds no text");
  return absl::OkStatus();
}

absl::Status ReadMessages(const Json& record, Example* example) {
  const char* name = FirstOf(record, {"messages", "conversations"});
  if (name == nullptr) return Missing("messages or conversations");
  TANREN_ASSIGN_OR_RETURN(std::vector<Message> messages, MessagesOf(*Field(record, name), name));
  // Behind the last answer that is learnt nothing is of use.
  while (!messages.empty() && !(messages.back().role == MessageRole::kAssistant && messages.back().trained)) {
    messages.pop_back();
  }
  if (messages.empty()) {
    return InvalidInput("no answer: %s holds no assistant's message that is learnt", std::string(name));
  }
  if (IsBlankText(messages.back().content)) {
    return InvalidInput("empty response: the last assistant's message of %s holds no text",
                        std::string(name));
  }
  example->responses = {std::move(messages.back().content)};
  messages.pop_back();
  example->prompt = std::move(messages);
  return absl::OkStatus();
}

// seed_tasks: several instances are several references of one task, if they are about the same input.
absl::Status ReadInstances(const Json& instances, std::string* input, Example* example) {
  if (!instances.is_array()) return WrongType("instances", "a list of {input, output}", instances);
  for (const Json& instance : instances) {
    const std::string place = absl::StrCat("instances.", example->responses.size());
    if (!instance.is_object()) return WrongType(place, "an object with input and output", instance);
    const Json* output = Field(instance, "output");
    if (output == nullptr) return Missing(place + ".output");
    TANREN_ASSIGN_OR_RETURN(std::string text, ResponseOf(*output, place + ".output"));
    TANREN_ASSIGN_OR_RETURN(std::string its_input, OptionalTextOrNumber(instance, "input"));
    if (example->responses.empty()) {
      *input = std::move(its_input);
    } else if (its_input != *input) {
      return InvalidInput(
          "several inputs: %s is about another input than instances.0; make it a record of its own", place);
    }
    example->responses.push_back(std::move(text));
  }
  if (example->responses.empty()) return InvalidInput("empty response: instances is empty");
  return absl::OkStatus();
}

absl::Status ReadAlpaca(const Json& record, Example* example) {
  TANREN_ASSIGN_OR_RETURN(std::string prompt, RequiredText(record, "instruction"));
  TANREN_ASSIGN_OR_RETURN(std::string input, OptionalTextOrNumber(record, "input"));
  if (const Json* output = Field(record, "output")) {
    TANREN_ASSIGN_OR_RETURN(std::string text, ResponseOf(*output, "output"));
    example->responses = {std::move(text)};
  } else {
    const Json* instances = Field(record, "instances");
    if (instances == nullptr) return Missing("output");
    TANREN_RETURN_IF_ERROR(ReadInstances(*instances, &input, example));
  }
  if (!input.empty()) absl::StrAppend(&prompt, "\n\n", input);
  example->prompt = {User(std::move(prompt))};
  return absl::OkStatus();
}

absl::Status ReadText(const Json& record, Example* example) {
  const Json* text = Field(record, "text");
  if (text == nullptr) return Missing("text");
  TANREN_ASSIGN_OR_RETURN(std::string content, ResponseOf(*text, "text"));
  example->responses = {std::move(content)};
  return absl::OkStatus();
}

absl::Status ReadFormat(const Json& record, Example* example) {
  switch (example->format) {
    case ExampleFormat::kRanking:
      if (Field(record, "responses") == nullptr && IsMultipleChoice(record))
        return ReadMultipleChoice(record, example);
      TANREN_RETURN_IF_ERROR(ReadPrompt(record, example));
      return ReadRanking(record, example);
    case ExampleFormat::kPreference:
      if (PromptName(record) != nullptr) TANREN_RETURN_IF_ERROR(ReadPrompt(record, example));
      return ReadPreference(record, example);
    case ExampleFormat::kLabelled:
      return ReadLabelled(record, example);
    case ExampleFormat::kReferences:
      return ReadReferences(record, example);
    case ExampleFormat::kMessages:
      return ReadMessages(record, example);
    case ExampleFormat::kPromptCompletion:
      return ReadPromptCompletion(record, example);
    case ExampleFormat::kAlpaca:
      return ReadAlpaca(record, example);
    case ExampleFormat::kAnswer:
      return ReadAnswer(record, example);
    case ExampleFormat::kText:
      return ReadText(record, example);
  }
  return absl::OkStatus();
}

// Fields that a record of any format may have.
absl::Status ReadCommonFields(const Json& record, Example* example) {
  TANREN_ASSIGN_OR_RETURN(example->answer, OptionalTextOrNumber(record, "answer"));
  TANREN_ASSIGN_OR_RETURN(example->kind, OptionalTextOrNumber(record, "kind"));
  TANREN_ASSIGN_OR_RETURN(example->difficulty, OptionalTextOrNumber(record, "difficulty"));
  TANREN_ASSIGN_OR_RETURN(example->id, OptionalTextOrNumber(record, "id"));
  TANREN_ASSIGN_OR_RETURN(example->weight, OptionalNumber(record, "weight", 1));
  TANREN_ASSIGN_OR_RETURN(example->margin, OptionalNumber(record, "margin", 0));
  if (!(example->weight >= 0) || std::isinf(example->weight)) {
    return InvalidInput("bad weight: %g is negative", example->weight);
  }
  if (std::abs(example->margin) > std::numeric_limits<float>::max()) {
    return InvalidInput("bad margin: %g is beyond single precision", example->margin);
  }
  return absl::OkStatus();
}

absl::Status AddSystem(const Json& record, Example* example) {
  if (Field(record, "system") == nullptr || example->format == ExampleFormat::kText) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(std::string system, RequiredText(record, "system"));
  if (system.empty()) return absl::OkStatus();
  if (!example->prompt.empty() && example->prompt[0].role == MessageRole::kSystem) {
    return InvalidInput("bad role: the record has a field system and a system message as well");
  }
  example->prompt.insert(example->prompt.begin(), {MessageRole::kSystem, std::move(system), true});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Example> ParseExample(std::string_view json, std::optional<ExampleFormat> format) {
  if (const size_t valid = ValidUtf8Prefix(json); valid < json.size()) {
    return InvalidInput("not UTF-8: byte %d of the line is 0x%02x", valid, static_cast<uint8_t>(json[valid]));
  }
  if (const size_t at = json.find('\0'); at != std::string_view::npos) {
    return InvalidInput("NUL in text: byte %d of the line is 0", at);
  }
  const Json record = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (record.is_discarded()) return InvalidInput("not JSON: the line is no JSON value");
  if (!record.is_object())
    return InvalidInput("not an object: the line is %s", std::string(record.type_name()));
  Example example;
  if (format.has_value()) {
    example.format = *format;
  } else {
    TANREN_ASSIGN_OR_RETURN(example.format, Recognise(record));
  }
  TANREN_RETURN_IF_ERROR(ReadCommonFields(record, &example));
  TANREN_RETURN_IF_ERROR(ReadFormat(record, &example));
  TANREN_RETURN_IF_ERROR(AddSystem(record, &example));
  return example;
}

}  // namespace tanren
