// A conversation: what a chat template renders.
#ifndef TANREN_CORE_CHAT_MESSAGE_H_
#define TANREN_CORE_CHAT_MESSAGE_H_

#include <string>
#include <vector>

namespace tanren {

enum class MessageRole { kSystem, kUser, kAssistant };
const char* NameOf(MessageRole role);  // "system", "user", "assistant"

struct Message {
  MessageRole role = MessageRole::kUser;
  std::string content;
  // Of an assistant's message: its tokens and the end of its turn are learnt. False for turns that only give
  // context ("train": false, or "weight": 0 in the data).
  bool trained = true;

  bool operator==(const Message&) const = default;
};

}  // namespace tanren

#endif  // TANREN_CORE_CHAT_MESSAGE_H_
