// The values between parts as JSON, and back.
#include <utility>

#include "core/base/status.h"
#include "core/evaluation/parts.h"

namespace tanren {
namespace {

OrderedJson ToJson(const Message& message) {
  return {{"role", NameOf(message.role)}, {"content", message.content}};
}

OrderedJson ToJson(const Reply& reply) {
  return {{"text", reply.text},   {"tokens", reply.tokens},
          {"logp", reply.logp},   {"chosen_tokens", reply.chosen_tokens},
          {"ended", reply.ended}, {"forced", reply.forced},
          {"score", reply.score}, {"reference_logp", reply.reference_logp}};
}

OrderedJson ToJson(const Verdict& verdict) {
  OrderedJson out = {
      {"right", verdict.right}, {"steps_valid", verdict.steps_valid}, {"harmful", verdict.harmful}};
  if (verdict.failed) out["failure"] = verdict.failure;
  if (verdict.harm_failed) out["harm_failed"] = true;
  return out;
}

template <class T>
OrderedJson ListToJson(const std::vector<T>& values) {
  OrderedJson out = OrderedJson::array();
  for (const T& value : values) out.push_back(ToJson(value));
  return out;
}

void Read(const OrderedJson& json, Message* message) {
  const std::string role = json.at("role").get<std::string>();
  message->role = role == "system"      ? MessageRole::kSystem
                  : role == "assistant" ? MessageRole::kAssistant
                                        : MessageRole::kUser;
  message->content = json.at("content").get<std::string>();
}

void Read(const OrderedJson& json, Reply* reply) {
  json.at("text").get_to(reply->text);
  json.at("tokens").get_to(reply->tokens);
  json.at("logp").get_to(reply->logp);
  json.at("chosen_tokens").get_to(reply->chosen_tokens);
  json.at("ended").get_to(reply->ended);
  json.at("forced").get_to(reply->forced);
  json.at("score").get_to(reply->score);
  json.at("reference_logp").get_to(reply->reference_logp);
}

void Read(const OrderedJson& json, Verdict* verdict) {
  json.at("right").get_to(verdict->right);
  json.at("steps_valid").get_to(verdict->steps_valid);
  json.at("harmful").get_to(verdict->harmful);
  verdict->failed = json.contains("failure");
  if (verdict->failed) json.at("failure").get_to(verdict->failure);
  verdict->harm_failed = json.value("harm_failed", false);
}

template <class T>
void ReadList(const OrderedJson& json, std::vector<T>* values) {
  for (const OrderedJson& element : json) {
    T value;
    Read(element, &value);
    values->push_back(std::move(value));
  }
}

// Runs `read`, whose library says by throwing that a field is missing or of another type.
template <class Function>
absl::Status Guarded(const Function& read) {
  try {
    read();
  } catch (const OrderedJson::exception& error) {
    return InvalidInput("the traced value is damaged: %s", error.what());
  }
  return absl::OkStatus();
}

}  // namespace

OrderedJson ToJson(const Question& value) {
  return {{"case", value.case_index},
          {"turn", value.turn},
          {"before", ListToJson(value.before)},
          {"text", value.text},
          {"fields", value.fields}};
}
OrderedJson ToJson(const Prompt& value) {
  return {{"case", value.case_index},
          {"turn", value.turn},
          {"text", value.text},
          {"chat", value.chat},
          {"tokens", value.tokens}};
}
OrderedJson ToJson(const Replies& value) {
  return {{"replies", ListToJson(value.replies)}, {"generated_tokens", value.generated_tokens}};
}
OrderedJson ToJson(const ReplyTexts& value) { return {{"texts", value.texts}}; }
OrderedJson ToJson(const Answers& value) { return {{"answers", value.answers}}; }
OrderedJson ToJson(const Checkable& value) {
  OrderedJson out = {{"prompt", value.prompt}};
  if (value.reference.has_value()) out["reference"] = *value.reference;
  out["harmful"] = value.harmful;
  out["texts"] = value.texts;
  out["answers"] = value.answers;
  return out;
}
OrderedJson ToJson(const Verdicts& value) { return {{"verdicts", ListToJson(value.verdicts)}}; }
OrderedJson ToJson(const Ballot& value) {
  return {{"answers", value.answers}, {"mean_logps", value.mean_logps}, {"scores", value.scores}};
}
OrderedJson ToJson(const Choice& value) { return {{"reply", value.reply}}; }

absl::Status FromJson(const OrderedJson& json, Question* value) {
  return Guarded([&] {
    json.at("case").get_to(value->case_index);
    json.at("turn").get_to(value->turn);
    ReadList(json.at("before"), &value->before);
    json.at("text").get_to(value->text);
    value->fields = json.at("fields");
  });
}
absl::Status FromJson(const OrderedJson& json, Prompt* value) {
  TANREN_RETURN_IF_ERROR(Guarded([&] {
    json.at("case").get_to(value->case_index);
    json.at("turn").get_to(value->turn);
    json.at("text").get_to(value->text);
    json.at("chat").get_to(value->chat);
    json.at("tokens").get_to(value->tokens);
  }));
  if (value->case_index < 0 || value->case_index >= kMaxCases) {
    return InvalidInput("the traced value is damaged: case is %d; it must be from 0 to %d", value->case_index,
                        kMaxCases - 1);
  }
  if (value->turn < 0 || value->turn >= kMaxTurns) {
    return InvalidInput("the traced value is damaged: turn is %d; it must be from 0 to %d", value->turn,
                        kMaxTurns - 1);
  }
  if (value->tokens.empty()) return InvalidInput("the traced value is damaged: tokens is empty");
  return absl::OkStatus();
}
absl::Status FromJson(const OrderedJson& json, Replies* value) {
  return Guarded([&] {
    ReadList(json.at("replies"), &value->replies);
    json.at("generated_tokens").get_to(value->generated_tokens);
  });
}
absl::Status FromJson(const OrderedJson& json, ReplyTexts* value) {
  return Guarded([&] { json.at("texts").get_to(value->texts); });
}
absl::Status FromJson(const OrderedJson& json, Answers* value) {
  return Guarded([&] { json.at("answers").get_to(value->answers); });
}
absl::Status FromJson(const OrderedJson& json, Checkable* value) {
  TANREN_RETURN_IF_ERROR(Guarded([&] {
    json.at("prompt").get_to(value->prompt);
    if (json.contains("reference")) value->reference = json.at("reference").get<std::string>();
    json.at("harmful").get_to(value->harmful);
    json.at("texts").get_to(value->texts);
    json.at("answers").get_to(value->answers);
  }));
  if (value->texts.size() == value->answers.size()) return absl::OkStatus();
  return InvalidInput("the traced value is damaged: %d texts and %d answers", value->texts.size(),
                      value->answers.size());
}
absl::Status FromJson(const OrderedJson& json, Verdicts* value) {
  return Guarded([&] { ReadList(json.at("verdicts"), &value->verdicts); });
}
absl::Status FromJson(const OrderedJson& json, Ballot* value) {
  TANREN_RETURN_IF_ERROR(Guarded([&] {
    json.at("answers").get_to(value->answers);
    json.at("mean_logps").get_to(value->mean_logps);
    json.at("scores").get_to(value->scores);
  }));
  const size_t size = value->answers.size();
  if (value->mean_logps.size() == size && value->scores.size() == size) return absl::OkStatus();
  return InvalidInput("the traced value is damaged: %d answers do not fit its weights", size);
}
absl::Status FromJson(const OrderedJson& json, Choice* value) {
  return Guarded([&] { json.at("reply").get_to(value->reply); });
}

std::string DumpJson(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace tanren
