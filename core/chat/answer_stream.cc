#include "core/chat/answer_stream.h"

#include <algorithm>

namespace tanren {
namespace {

// Tokens at the end that are a stop sequence, or the beginning of one.
size_t HeldTokens(std::span<const int32_t> tokens, const std::vector<std::vector<int32_t>>& stops) {
  size_t held = 0;
  for (const std::vector<int32_t>& stop : stops) {
    for (size_t n = std::min(stop.size(), tokens.size()); n > held; --n) {
      if (std::equal(stop.begin(), stop.begin() + static_cast<std::ptrdiff_t>(n),
                     tokens.end() - static_cast<std::ptrdiff_t>(n)))
        held = n;
    }
  }
  return held;
}

// Bytes at the end that begin a character of UTF-8 and do not finish it: at most 3.
size_t UnfinishedBytes(std::string_view text) {
  for (size_t n = 1; n <= std::min<size_t>(3, text.size()); ++n) {
    const auto byte = static_cast<unsigned char>(text[text.size() - n]);
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;  // inside a character
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > n ? n : 0;
  }
  return 0;
}

}  // namespace

std::string AnswerStream::Next(std::span<const int32_t> tokens) {
  std::vector<int32_t> ids(tokens.begin(),
                           tokens.end() - static_cast<std::ptrdiff_t>(HeldTokens(tokens, *stops_)));
  std::erase_if(ids, [&](int32_t id) { return id >= tokenizer_->vocab_size(); });
  absl::StatusOr<std::string> text = tokenizer_->Decode(ids);
  if (!text.ok()) return "";
  text->resize(text->size() - UnfinishedBytes(*text));
  // A decoder that replaces bytes it cannot read yet takes them back later.
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  while (text->ends_with(kReplacement)) text->resize(text->size() - kReplacement.size());
  if (text->size() <= shown_.size() || !text->starts_with(shown_)) return "";
  std::string more = text->substr(shown_.size());
  shown_ = *std::move(text);
  return more;
}

std::string AnswerStream::Finish(std::string_view text) {
  std::string more =
      text.starts_with(shown_) ? std::string(text.substr(shown_.size())) : "\n" + std::string(text);
  shown_ = text;
  return more;
}

}  // namespace tanren
