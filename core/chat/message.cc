#include "core/chat/message.h"

namespace tanren {

const char* NameOf(MessageRole role) {
  switch (role) {
    case MessageRole::kSystem:
      return "system";
    case MessageRole::kUser:
      return "user";
    case MessageRole::kAssistant:
      return "assistant";
  }
  return "";
}

}  // namespace tanren
