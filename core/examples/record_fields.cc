#include "core/examples/record_fields.h"

#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

// Whether an assistant's message is learnt: "train": false and "weight": 0 say no.
absl::StatusOr<bool> IsTrained(const Json& item, const std::string& place) {
  if (const Json* train = Field(item, "train")) {
    if (!train->is_boolean()) return WrongType(place + ".train", "true or false", *train);
    if (!train->get<bool>()) return false;
  }
  if (const Json* weight = Field(item, "weight")) {
    if (!weight->is_number()) return WrongType(place + ".weight", "a number", *weight);
    return weight->get<double>() != 0;
  }
  return true;
}

absl::StatusOr<MessageRole> RoleOf(const std::string& name, const std::string& place) {
  if (name == "system") return MessageRole::kSystem;
  if (name == "user" || name == "human") return MessageRole::kUser;
  if (name == "assistant" || name == "gpt") return MessageRole::kAssistant;
  return InvalidInput("bad role: %s is %s, none of system, user (human) and assistant (gpt)", place,
                      Quoted(name));
}

absl::StatusOr<Message> MessageOf(const Json& item, const std::string& place) {
  if (!item.is_object()) return WrongType(place, "an object with role and content", item);
  const char* role_name = FirstOf(item, {"role", "from"});
  if (role_name == nullptr) return Missing(place + ".role");
  const char* content_name = FirstOf(item, {"content", "value"});
  if (content_name == nullptr) return Missing(place + ".content");
  Message message;
  TANREN_ASSIGN_OR_RETURN(const std::string role,
                          TextOf(*Field(item, role_name), absl::StrCat(place, ".", role_name)));
  TANREN_ASSIGN_OR_RETURN(message.role, RoleOf(role, absl::StrCat(place, ".", role_name)));
  TANREN_ASSIGN_OR_RETURN(message.content,
                          TextOf(*Field(item, content_name), absl::StrCat(place, ".", content_name)));
  TANREN_ASSIGN_OR_RETURN(message.trained, IsTrained(item, place));
  return message;
}

}  // namespace

const Json* Field(const Json& record, const char* name) {
  const auto found = record.find(name);
  return found == record.end() || found->is_null() ? nullptr : &*found;
}

const char* FirstOf(const Json& record, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (Field(record, name) != nullptr) return name;
  }
  return nullptr;
}

bool IsBlankText(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

absl::Status Missing(std::string_view name) {
  return InvalidInput("missing field: the record has no %s", std::string(name));
}

absl::Status WrongType(std::string_view name, std::string_view wanted, const Json& value) {
  return InvalidInput("wrong type: %s is not %s but %s", std::string(name), std::string(wanted),
                      std::string(value.type_name()));
}

absl::StatusOr<std::string> TextOf(const Json& value, std::string_view name) {
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr) return WrongType(name, "a text", value);
  if (const size_t at = text->find('\0'); at != std::string::npos) {
    return InvalidInput("NUL in text: %s holds \\u0000 at byte %d", std::string(name), at);
  }
  return *text;
}

absl::StatusOr<std::string> ResponseOf(const Json& value, std::string_view name) {
  TANREN_ASSIGN_OR_RETURN(std::string text, TextOf(value, name));
  if (IsBlankText(text)) return InvalidInput("empty response: %s holds no text", std::string(name));
  return text;
}

absl::StatusOr<std::vector<std::string>> ResponsesOf(const Json& value, std::string_view name) {
  if (!value.is_array()) return WrongType(name, "a list of texts", value);
  std::vector<std::string> responses;
  for (const Json& item : value) {
    TANREN_ASSIGN_OR_RETURN(std::string response,
                            ResponseOf(item, absl::StrCat(View(name), ".", responses.size())));
    responses.push_back(std::move(response));
  }
  return responses;
}

absl::StatusOr<std::string> RequiredText(const Json& record, const char* name) {
  const Json* value = Field(record, name);
  if (value == nullptr) return Missing(name);
  return TextOf(*value, name);
}

absl::StatusOr<std::string> OptionalTextOrNumber(const Json& record, const char* name) {
  const Json* value = Field(record, name);
  if (value == nullptr) return std::string();
  if (value->is_number()) return value->dump();
  if (!value->is_string()) return WrongType(name, "a text or a number", *value);
  return TextOf(*value, name);
}

absl::StatusOr<double> OptionalNumber(const Json& record, const char* name, double otherwise) {
  const Json* value = Field(record, name);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) return WrongType(name, "a number", *value);
  return value->get<double>();
}

absl::StatusOr<std::vector<Message>> MessagesOf(const Json& value, std::string_view name) {
  if (!value.is_array()) return WrongType(name, "a list of messages", value);
  std::vector<Message> messages;
  for (const Json& item : value) {
    const std::string place = absl::StrCat(View(name), ".", messages.size());
    TANREN_ASSIGN_OR_RETURN(Message message, MessageOf(item, place));
    if (message.role == MessageRole::kSystem && !messages.empty()) {
      return InvalidInput("bad role: %s is a system message, which only the first may be", place);
    }
    messages.push_back(std::move(message));
  }
  if (messages.empty()) return InvalidInput("empty conversation: %s holds no message", std::string(name));
  return messages;
}

}  // namespace tanren
