#include "core/chat/conversation.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"

namespace tanren {

void Conversation::Ask(std::string text) {
  TANREN_CHECK_MSG(!asked(), "the last question has no answer yet");
  messages_.push_back({MessageRole::kUser, std::move(text)});
}

void Conversation::Answer(std::string text) {
  TANREN_CHECK_MSG(asked(), "there is no question to answer");
  messages_.push_back({MessageRole::kAssistant, std::move(text)});
}

bool Conversation::TakeBackAnswer() {
  if (messages_.empty() || asked()) return false;
  messages_.pop_back();
  return true;
}

bool Conversation::Undo() {
  TakeBackAnswer();
  if (messages_.empty()) return false;
  messages_.pop_back();
  return true;
}

std::vector<Message> Conversation::From(size_t first) const {
  std::vector<Message> all;
  if (!system_.empty()) all.push_back({MessageRole::kSystem, system_});
  all.insert(all.end(), messages_.begin() + static_cast<std::ptrdiff_t>(first), messages_.end());
  return all;
}

std::vector<Message> Conversation::messages() const { return From(0); }

absl::StatusOr<Conversation::Prompt> Conversation::MakePrompt(int64_t answer_tokens) const {
  TANREN_CHECK_MSG(asked(), "there is no question to answer");
  Prompt prompt;
  const int64_t wanted = std::min(answer_tokens, context_ / 4);
  for (size_t first = 0;; first += 2, ++prompt.left_out) {
    TANREN_ASSIGN_OR_RETURN(prompt.ids, chat_->Render(From(first), /*generation_prompt=*/true));
    const int64_t room = context_ - static_cast<int64_t>(prompt.ids.size());
    const bool newest_alone = first + 1 == messages_.size();
    if (room < wanted && !newest_alone) continue;
    if (room < 1) {
      return InvalidInput(
          "a message of %d tokens, with what stands before it, leaves no room for an answer in "
          "a context of %d",
          prompt.ids.size(), context_);
    }
    prompt.answer_tokens = std::min(room, answer_tokens);
    return prompt;
  }
}

}  // namespace tanren
