// From messages to tokens: the one path that training, generation and evaluation share.
//
// Two built-in templates.
//   plain    contents as they are, for corpora of prompt and completion: the system message and each user
//   message
//            are followed by a line feed, an assistant's message by the end of its turn, which is the
//            tokenizer's end-of-text token (roles().eos, or else end_of_text). The generation prompt is
//            empty: what follows the last user message's line feed is the answer. A later user message
//            follows the end of turn directly.
//   chatml   "<|im_start|>ROLE\nCONTENT<|im_end|>", messages joined by "\n", generation prompt
//            "\n<|im_start|>assistant\n". Where the tokenizer has <|im_start|> and <|im_end|> as special
//            tokens their ids are taken, else their text is encoded like any other. The end of a turn is
//            "<|im_end|>" alone: the line feed that joins messages belongs to the next one, so it is never
//            trained.
// With roles().prepend_bos, bos comes once, in front of everything. Text of a message never becomes a special
// token.
//
// Masks. What an assistant's turn trains is found by rendering, never by looking for token ids: the tokens
// that Render(messages[0..i], no prompt) has beyond Render(messages[0..i), generation prompt). That the
// shorter one is a prefix of the longer one is checked for every turn; a tokenizer that merges across the
// boundary is handled by encoding the parts apart (prompt and answer are always encoded apart, in training
// and in generation alike).
#ifndef TANREN_CORE_CHAT_CHAT_TEMPLATE_H_
#define TANREN_CORE_CHAT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/chat/message.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

enum class ChatTemplateKind { kPlain, kChatml };

// Tokens of a conversation with what is learnt of them.
struct RenderedConversation {
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;  // parallel to ids; 1: the token is to be predicted (it is a target)

  int64_t trained_tokens() const;
};

class ChatTemplate {
 public:
  // `tokenizer` must outlive the template. InvalidArgument when the tokenizer cannot end a turn (plain: it
  // has neither eos nor end_of_text; chatml: it does not encode the markers).
  static absl::StatusOr<ChatTemplate> Make(ChatTemplateKind kind, const Tokenizer& tokenizer);

  ChatTemplateKind kind() const { return kind_; }
  // Tokens that end an assistant's turn: at least one. What generation stops at.
  const std::vector<int32_t>& end_of_turn() const { return end_of_turn_; }

  // With `generation_prompt`, the last tokens are those after which an assistant's message begins.
  // InvalidArgument names the message whose text does not encode, and refuses a system message that is not
  // first.
  absl::StatusOr<std::vector<int32_t>> Render(std::span<const Message> messages,
                                              bool generation_prompt) const;

  // With masks. Assistant messages with `trained` are learnt, ends of turn included.
  absl::StatusOr<RenderedConversation> RenderForTraining(std::span<const Message> messages) const;

 private:
  ChatTemplate(ChatTemplateKind kind, const Tokenizer& tokenizer) : kind_(kind), tokenizer_(&tokenizer) {}
  absl::Status Append(std::span<const Message> messages, size_t index, std::vector<int32_t>* ids) const;
  absl::Status AppendGenerationPrompt(bool first, std::vector<int32_t>* ids) const;

  ChatTemplateKind kind_;
  const Tokenizer* tokenizer_;
  std::vector<int32_t> start_of_message_;  // chatml
  std::vector<int32_t> end_of_turn_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CHAT_CHAT_TEMPLATE_H_
