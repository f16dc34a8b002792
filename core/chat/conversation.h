// A conversation that grows, in a context that does not.
#ifndef TANREN_CORE_CHAT_CONVERSATION_H_
#define TANREN_CORE_CHAT_CONVERSATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/chat/chat_template.h"
#include "core/chat/message.h"

namespace tanren {

class Conversation {
 public:
  // `chat` must outlive it. A prompt and its answer take at most `context_tokens` (at least 2).
  Conversation(const ChatTemplate& chat, int64_t context_tokens) : chat_(&chat), context_(context_tokens) {}

  // What all of it stands under; "": nothing. Kept by Clear.
  void SetSystem(std::string text) { system_ = std::move(text); }
  const std::string& system() const { return system_; }

  // A user's message: MakePrompt() then asks for its answer, and Answer() or Undo() comes next.
  void Ask(std::string text);
  void Answer(std::string text);

  // The newest message is a user's, without an answer.
  bool asked() const { return !messages_.empty() && messages_.back().role == MessageRole::kUser; }
  bool answered() const { return !messages_.empty() && !asked(); }

  // Takes the newest answer back, so that its question is asked again. False: there is none.
  bool TakeBackAnswer();
  // Takes the newest question and its answer back. False: there is none.
  bool Undo();
  void Clear() { messages_.clear(); }

  struct Prompt {
    std::vector<int32_t> ids;
    int64_t answer_tokens = 0;  // room for the answer: at least 1, at most what was wished
    int64_t left_out = 0;       // the oldest exchanges, which did not fit
  };
  // What to answer. The oldest exchanges are left out, as few as make room for an answer of `answer_tokens`
  // or a quarter of the context, whichever is less, and remain in the conversation; the answer has the room
  // there is. InvalidArgument when there is none, or a message does not encode.
  absl::StatusOr<Prompt> MakePrompt(int64_t answer_tokens) const;

  // The system message first. What Render makes of it is what the answers were conditioned on, as far as it
  // fitted.
  std::vector<Message> messages() const;

 private:
  std::vector<Message> From(size_t first) const;

  const ChatTemplate* chat_;
  int64_t context_;
  std::string system_;
  std::vector<Message> messages_;  // user, assistant, user, ..
};

}  // namespace tanren

#endif  // TANREN_CORE_CHAT_CONVERSATION_H_
