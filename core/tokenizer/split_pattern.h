// Splits text into the pieces that BPE merges never cross, by a regular expression (PCRE2, compiled to
// machine code). Patterns are written as published: they are read with Unicode properties, and \s is
// Unicode's White_Space.
#ifndef TANREN_CORE_TOKENIZER_SPLIT_PATTERN_H_
#define TANREN_CORE_TOKENIZER_SPLIT_PATTERN_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

// github.com/openai/gpt-2, encoder.py.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// GPT-4's cl100k_base, as Llama 3 writes it.
inline constexpr std::string_view kGpt4Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Qwen 2 and 3: as GPT-4's with single digits.
inline constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What one thread needs to match; reused from call to call.
class SplitScratch {
 public:
  SplitScratch();
  ~SplitScratch();
  SplitScratch(SplitScratch&&) noexcept;
  SplitScratch& operator=(SplitScratch&&) noexcept;

 private:
  friend class SplitPattern;
  struct State;
  std::unique_ptr<State> state_;
};

class SplitPattern {
 public:
  // A pattern that PCRE2 refuses is an error with the offset in the pattern.
  static absl::StatusOr<SplitPattern> Compile(std::string_view pattern);

  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();

  // Calls `emit` for each match and each gap between matches, from left to right: the pieces joined are the
  // text. `text` must be valid UTF-8. A pattern whose matching explodes is an error, not a hang.
  absl::Status Split(std::string_view text, SplitScratch* scratch,
                     absl::FunctionRef<void(std::string_view)> emit) const;

  const std::string& text() const { return text_; }

 private:
  struct Code;
  SplitPattern(std::string text, std::unique_ptr<Code> code);

  std::string text_;
  std::unique_ptr<Code> code_;
};

// The published patterns above never match across p when LastSplitBoundary(text) == p. Looked for from the
// end.
bool IsPublishedPattern(std::string_view pattern);
size_t LastSplitBoundary(std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_SPLIT_PATTERN_H_
