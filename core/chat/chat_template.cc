#include "core/chat/chat_template.h"

#include <algorithm>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr char kStartMarker[] = "<|im_start|>";
constexpr char kEndMarker[] = "<|im_end|>";

// What follows <|im_start|> in front of a message's content.
std::string RoleLine(MessageRole role) { return absl::StrCat(NameOf(role), "\n"); }

void AppendBos(const TokenRoles& roles, std::vector<int32_t>* ids) {
  if (roles.prepend_bos && roles.bos >= 0) ids->push_back(roles.bos);
}

absl::Status CheckSystemIsFirst(std::span<const Message> messages) {
  for (size_t i = 1; i < messages.size(); ++i) {
    if (messages[i].role == MessageRole::kSystem) {
      return InvalidInput(
          "message %d is a system message, which only the first may be; move it to the front or make it a "
          "user message",
          i + 1);
    }
  }
  return absl::OkStatus();
}

// The ids of both markers: special tokens where the tokenizer has both, else their text.
absl::Status EncodeMarkers(const Tokenizer& tokenizer, std::vector<int32_t>* start,
                           std::vector<int32_t>* end) {
  const int32_t start_id = tokenizer.SpecialId(kStartMarker);
  const int32_t end_id = tokenizer.SpecialId(kEndMarker);
  if (start_id >= 0 && end_id >= 0) {
    *start = {start_id};
    *end = {end_id};
    return absl::OkStatus();
  }
  TANREN_RETURN_IF_ERROR(tokenizer.EncodeTo(kStartMarker, start));
  return tokenizer.EncodeTo(kEndMarker, end);
}

}  // namespace

int64_t RenderedConversation::trained_tokens() const { return std::count(trained.begin(), trained.end(), 1); }

absl::StatusOr<ChatTemplate> ChatTemplate::Make(ChatTemplateKind kind, const Tokenizer& tokenizer) {
  ChatTemplate made(kind, tokenizer);
  if (kind == ChatTemplateKind::kPlain) {
    const TokenRoles& roles = tokenizer.roles();
    const int32_t end = roles.eos >= 0 ? roles.eos : roles.end_of_text;
    if (end < 0) {
      return InvalidInput(
          "the plain template ends a turn with the tokenizer's eos or end-of-text token, and this tokenizer "
          "(%s) has neither; make it with a special token <|endoftext|>, or take the chatml template",
          std::string(tokenizer.kind()));
    }
    made.end_of_turn_ = {end};
    return made;
  }
  absl::Status encoded = EncodeMarkers(tokenizer, &made.start_of_message_, &made.end_of_turn_);
  // Every text the template adds must encode, or the first conversation with that role would fail in
  // training.
  std::vector<int32_t> unused;
  for (const MessageRole role : {MessageRole::kSystem, MessageRole::kUser, MessageRole::kAssistant}) {
    if (encoded.ok()) encoded = tokenizer.EncodeTo(RoleLine(role), &unused);
  }
  if (encoded.ok() && (made.start_of_message_.empty() || made.end_of_turn_.empty())) {
    encoded = absl::InvalidArgumentError("a marker has no tokens");
  }
  if (!encoded.ok()) {
    return InvalidInput(
        "the chatml template needs <|im_start|> and <|im_end|> as special tokens, or a tokenizer that "
        "encodes their "
        "text and the names of the roles, and this one (%s) does not: %s; take the plain template or another "
        "tokenizer",
        std::string(tokenizer.kind()), std::string(View(encoded.message())));
  }
  return made;
}

absl::Status ChatTemplate::Append(std::span<const Message> messages, size_t index,
                                  std::vector<int32_t>* ids) const {
  const Message& message = messages[index];
  const bool assistant = message.role == MessageRole::kAssistant;
  absl::Status status;
  if (kind_ == ChatTemplateKind::kPlain) {
    status = tokenizer_->EncodeTo(assistant ? message.content : message.content + "\n", ids);
    if (assistant) ids->insert(ids->end(), end_of_turn_.begin(), end_of_turn_.end());
  } else {
    if (index > 0) status = tokenizer_->EncodeTo("\n", ids);
    ids->insert(ids->end(), start_of_message_.begin(), start_of_message_.end());
    if (status.ok()) status = tokenizer_->EncodeTo(RoleLine(message.role), ids);
    // Apart from what is before and behind it, so that no merge crosses from the prompt into the answer.
    if (status.ok()) status = tokenizer_->EncodeTo(message.content, ids);
    ids->insert(ids->end(), end_of_turn_.begin(), end_of_turn_.end());
  }
  return At(absl::StrCat("message ", index + 1, " (", NameOf(message.role), ")"), status);
}

absl::Status ChatTemplate::AppendGenerationPrompt(bool first, std::vector<int32_t>* ids) const {
  if (kind_ == ChatTemplateKind::kPlain) return absl::OkStatus();
  if (!first) TANREN_RETURN_IF_ERROR(tokenizer_->EncodeTo("\n", ids));
  ids->insert(ids->end(), start_of_message_.begin(), start_of_message_.end());
  return tokenizer_->EncodeTo(RoleLine(MessageRole::kAssistant), ids);
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::Render(std::span<const Message> messages,
                                                          bool generation_prompt) const {
  TANREN_RETURN_IF_ERROR(CheckSystemIsFirst(messages));
  std::vector<int32_t> ids;
  AppendBos(tokenizer_->roles(), &ids);
  for (size_t i = 0; i < messages.size(); ++i) TANREN_RETURN_IF_ERROR(Append(messages, i, &ids));
  if (generation_prompt) TANREN_RETURN_IF_ERROR(AppendGenerationPrompt(messages.empty(), &ids));
  return ids;
}

absl::StatusOr<RenderedConversation> ChatTemplate::RenderForTraining(
    std::span<const Message> messages) const {
  TANREN_RETURN_IF_ERROR(CheckSystemIsFirst(messages));
  RenderedConversation rendered;
  std::vector<int32_t>& ids = rendered.ids;
  AppendBos(tokenizer_->roles(), &ids);
  rendered.trained.assign(ids.size(), 0);
  for (size_t i = 0; i < messages.size(); ++i) {
    // Both renderings begin with the tokens so far, so only what is behind these is compared.
    const size_t begin = ids.size();
    std::vector<int32_t> prompt;
    TANREN_RETURN_IF_ERROR(AppendGenerationPrompt(i == 0, &prompt));
    TANREN_RETURN_IF_ERROR(Append(messages, i, &ids));
    rendered.trained.resize(ids.size(), 0);
    if (messages[i].role != MessageRole::kAssistant || !messages[i].trained) continue;
    const auto turn = ids.begin() + static_cast<std::ptrdiff_t>(begin);
    if (ids.size() - begin < prompt.size() || !std::equal(prompt.begin(), prompt.end(), turn)) {
      return absl::InternalError(absl::StrCat(
          "message ", i + 1, " (assistant): its rendering does not begin with the generation prompt"));
    }
    std::fill(rendered.trained.begin() + static_cast<std::ptrdiff_t>(begin + prompt.size()),
              rendered.trained.end(), uint8_t{1});
  }
  return rendered;
}

}  // namespace tanren
