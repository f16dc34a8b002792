#include "core/tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

constexpr size_t kMaxPatternBytes = 16384;
constexpr size_t kJitStackStartBytes = 64 << 10;
constexpr size_t kJitStackLimitBytes = 16 << 20;

// PCRE2's \s also holds U+180E, which Unicode moved out of White_Space in 6.3; the published patterns mean
// the property. \S inside a class has no equal to write and stays PCRE2's own.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string WithUnicodeSpaces(std::string_view pattern) {
  std::string result;
  bool in_class = false;
  size_t class_begin = 0;  // behind "[" or "[^", where a "]" is a literal
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's' && in_class) {
        absl::StrAppend(&result, View(kSpaces));
      } else if ((escaped == 's' || escaped == 'S') && !in_class) {
        absl::StrAppend(&result, escaped == 's' ? "[" : "[^", View(kSpaces), "]");
      } else {
        result.push_back('\\');
        result.push_back(escaped);
      }
      continue;
    }
    if (in_class && c == '[' && pattern.substr(i, 2) == "[:") {  // [:alpha:] is copied whole
      const size_t end = pattern.find(":]", i + 2);
      if (end != std::string_view::npos) {
        absl::StrAppend(&result, View(pattern.substr(i, end + 2 - i)));
        i = end + 1;
        continue;
      }
    }
    if (in_class && c == ']' && i != class_begin) {
      in_class = false;
    } else if (!in_class && c == '[') {
      in_class = true;
      class_begin = i + (pattern.substr(i + 1, 1) == "^" ? 2 : 1);
    }
    result.push_back(c);
  }
  return result;
}

std::string Pcre2Message(int code) {
  unsigned char buffer[256];
  return pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0
             ? absl::StrCat("PCRE2 error ", code)
             : std::string(reinterpret_cast<char*>(buffer));
}

template <auto kFunction>
struct FreeWith {
  template <class T>
  void operator()(T* pointer) const {
    kFunction(pointer);
  }
};
using CodePointer = std::unique_ptr<pcre2_code, FreeWith<pcre2_code_free>>;
using MatchDataPointer = std::unique_ptr<pcre2_match_data, FreeWith<pcre2_match_data_free>>;
using MatchContextPointer = std::unique_ptr<pcre2_match_context, FreeWith<pcre2_match_context_free>>;
using CompileContextPointer = std::unique_ptr<pcre2_compile_context, FreeWith<pcre2_compile_context_free>>;
using JitStackPointer = std::unique_ptr<pcre2_jit_stack, FreeWith<pcre2_jit_stack_free>>;

}  // namespace

struct SplitScratch::State {
  // Only the bounds of the whole match are read, so one pair serves every pattern.
  MatchDataPointer match_data{pcre2_match_data_create(1, nullptr)};
  MatchContextPointer context{pcre2_match_context_create(nullptr)};
  JitStackPointer stack{pcre2_jit_stack_create(kJitStackStartBytes, kJitStackLimitBytes, nullptr)};

  State() {
    TANREN_CHECK(match_data != nullptr && context != nullptr);
    if (stack != nullptr) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

SplitScratch::SplitScratch() : state_(std::make_unique<State>()) {}
SplitScratch::~SplitScratch() = default;
SplitScratch::SplitScratch(SplitScratch&&) noexcept = default;
SplitScratch& SplitScratch::operator=(SplitScratch&&) noexcept = default;

struct SplitPattern::Code {
  CodePointer code;
  bool jit = false;
};

SplitPattern::SplitPattern(std::string text, std::unique_ptr<Code> code)
    : text_(std::move(text)), code_(std::move(code)) {}
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

absl::StatusOr<SplitPattern> SplitPattern::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return InvalidInput("a split pattern of %d bytes; the limit is %d", pattern.size(), kMaxPatternBytes);
  }
  const std::string translated = WithUnicodeSpaces(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  CompileContextPointer context(pcre2_compile_context_create(nullptr));
  auto code = std::make_unique<Code>();
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                 context.get()));
  if (code->code == nullptr) {
    return InvalidInput("the split pattern %s does not compile: %s at offset %d (with \\s written out)",
                        Quoted(pattern), Pcre2Message(error), offset);
  }
  code->jit = pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE) == 0;
  return SplitPattern(std::string(pattern), std::move(code));
}

absl::Status SplitPattern::Split(std::string_view text, SplitScratch* scratch,
                                 absl::FunctionRef<void(std::string_view)> emit) const {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  pcre2_match_data* data = scratch->state_->match_data.get();
  pcre2_match_context* context = scratch->state_->context.get();
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
  size_t emitted = 0;
  size_t start = 0;
  while (start < text.size()) {
    const int found =
        code_->jit
            ? pcre2_jit_match(code_->code.get(), subject, text.size(), start, 0, data, context)
            : pcre2_match(code_->code.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, data, context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return InvalidInput("the split pattern %s gives up at byte %d of a text: %s", Quoted(text_), start,
                          Pcre2Message(found));
    }
    const size_t begin = bounds[0];
    const size_t end = bounds[1];
    if (begin >= end) {  // an empty match splits nothing; go on behind the next character
      start = std::max(start, begin) + 1;
      while (start < text.size() && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) ++start;
      continue;
    }
    if (begin > emitted) emit(text.substr(emitted, begin - emitted));
    emit(text.substr(begin, end - begin));
    emitted = end;
    start = end;
  }
  if (emitted < text.size()) emit(text.substr(emitted));
  return absl::OkStatus();
}

bool IsPublishedPattern(std::string_view pattern) {
  return pattern == kGpt2Pattern || pattern == kGpt4Pattern || pattern == kQwenPattern;
}

// A boundary of all three patterns lies (a) behind a line feed between two characters that are not white
// space: no piece goes on from a line feed to such a character, and the run of white space, which the
// look-ahead treats differently at the end of a text, is one character long; (b) before a space between two
// letters.
size_t LastSplitBoundary(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto visible = [](const Utf8Character& c) { return c.bytes > 0 && !IsUnicodeSpace(c.code_point); };
  size_t between_letters = 0;
  for (size_t i = text.size(); i-- > 1;) {
    if (text[i] == '\n' && i + 1 < text.size() && visible(DecodeUtf8Before(text, i)) &&
        visible(DecodeUtf8(text, i + 1))) {
      return i + 1;
    }
    if (between_letters == 0 && text[i] == ' ' && i + 1 < text.size() && letter(text[i - 1]) &&
        letter(text[i + 1])) {
      between_letters = i;
    }
    // A line's start is the better place, but only where one is near.
    if (between_letters != 0 && text.size() - i > (64 << 10)) break;
  }
  return between_letters;
}

}  // namespace tanren
