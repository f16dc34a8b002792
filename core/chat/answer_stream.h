// An answer's text while its tokens come.
#ifndef TANREN_CORE_CHAT_ANSWER_STREAM_H_
#define TANREN_CORE_CHAT_ANSWER_STREAM_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tokenizer/tokenizer.h"

namespace tanren {

// Joined, what Next and Finish return is the answer's text. What may yet turn out to be the beginning of a
// stop sequence, or of a character of several bytes, is held back.
class AnswerStream {
 public:
  // `tokenizer` and `stops` must outlive it.
  AnswerStream(const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& stops)
      : tokenizer_(&tokenizer), stops_(&stops) {}

  // All tokens so far -> what is new and certain.
  std::string Next(std::span<const int32_t> tokens);

  // The whole text, without what stopped it -> what is still to be shown. Where a decoder has changed its
  // mind about text that was shown already, all of it, on a line of its own.
  std::string Finish(std::string_view text);

 private:
  const Tokenizer* tokenizer_;
  const std::vector<std::vector<int32_t>>* stops_;
  std::string shown_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CHAT_ANSWER_STREAM_H_
