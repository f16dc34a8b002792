#include "core/reward/checker.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/reward/command_checker.h"
#include "core/reward/numeric.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

constexpr size_t kMaxPatternBytes = 16384;
constexpr uint32_t kMatchLimit = 1000000;
constexpr uint32_t kDepthLimit = 10000;
constexpr uint32_t kHeapLimitKib = 20 << 10;

void Decide(bool right, CheckResult* result) {
  result->right = right;
  result->score = right ? 1 : 0;
}

void Fail(std::string why, CheckResult* result) {
  *result = {0, false, true, std::move(result->answer), std::move(why), {}, {}};
}

class NumericChecker : public Checker {
 public:
  explicit NumericChecker(const CheckerOptions& options) : options_(options) {}

  CheckResult Check(std::string_view, std::string_view response, std::string_view reference) override {
    CheckResult result;
    result.answer = options_.marker.empty() ? LastNumber(response) : ExtractAnswer(response, options_.marker);
    Quantity given, wanted;
    if (!ParseQuantity(reference, &wanted)) {
      Fail("the reference is not a number; check it with `exact` or `regex`", &result);
      return result;
    }
    if (!ParseQuantity(result.answer, &given)) return result;
    const bool units_agree = given.unit.empty() || wanted.unit.empty() || given.unit == wanted.unit;
    const double room = options_.tolerance * std::max(1.0, std::abs(wanted.value));
    Decide(units_agree && std::abs(given.value - wanted.value) <= room, &result);
    return result;
  }

 private:
  CheckerOptions options_;
};

class ExactChecker : public Checker {
 public:
  explicit ExactChecker(const CheckerOptions& options) : options_(options) {}

  CheckResult Check(std::string_view, std::string_view response, std::string_view reference) override {
    CheckResult result;
    result.answer = ExtractAnswer(response, options_.marker);
    const std::string_view wanted = Trimmed(reference);
    const auto same = [&](char a, char b) {
      return a == b || (options_.ignore_case && IsLetter(a) && IsLetter(b) && (a | 32) == (b | 32));
    };
    Decide(!result.answer.empty() &&
               std::equal(result.answer.begin(), result.answer.end(), wanted.begin(), wanted.end(), same),
           &result);
    return result;
  }

 private:
  CheckerOptions options_;
};

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

std::string Pcre2Message(int code) {
  unsigned char buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

// `text` with U+FFFD for each byte that is not UTF-8: a reply may be cut inside a character.
std::string ValidUtf8(std::string_view text) {
  constexpr uint32_t kReplacement = 0xFFFD;
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = DecodeUtf8(text, at);
    if (character.bytes > 0) {
      out.append(text.substr(at, character.bytes));
    } else {
      AppendUtf8(kReplacement, &out);
    }
    at += std::max(character.bytes, 1);
  }
  return out;
}

class RegexChecker : public Checker {
 public:
  explicit RegexChecker(const CheckerOptions& options)
      : options_(options), context_(pcre2_match_context_create(nullptr)) {
    TANREN_CHECK(context_ != nullptr);
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_depth_limit(context_.get(), kDepthLimit);
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  CheckResult Check(std::string_view, std::string_view response, std::string_view reference) override {
    CheckResult result;
    result.answer = ExtractAnswer(response, options_.marker);
    if (!Compile(reference)) {
      Fail(compile_failure_, &result);
      return result;
    }
    if (result.answer.empty()) return result;
    const std::string text = ValidUtf8(result.answer);
    const int code = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                                 match_.get(), context_.get());
    if (code >= 0) {
      Decide(true, &result);
    } else if (code == PCRE2_ERROR_MATCHLIMIT || code == PCRE2_ERROR_DEPTHLIMIT ||
               code == PCRE2_ERROR_HEAPLIMIT || code == PCRE2_ERROR_NOMEMORY) {
      Fail(absl::StrCat("the pattern takes too long on this answer: ", Pcre2Message(code)), &result);
    } else if (code != PCRE2_ERROR_NOMATCH) {
      Fail(absl::StrCat("the pattern cannot be matched: ", Pcre2Message(code)), &result);
    }
    return result;
  }

  absl::Status Validate(std::string_view pattern) {
    return Compile(pattern) ? absl::OkStatus() : InvalidInput("%s", compile_failure_);
  }

 private:
  // The last pattern is kept: the answers to a question come one after the other.
  bool Compile(std::string_view pattern) {
    if (pattern_ == pattern) return code_ != nullptr;
    pattern_ = std::string(pattern);
    code_.reset();
    if (pattern.size() > kMaxPatternBytes) {
      compile_failure_ = absl::StrCat("the pattern has ", pattern.size(), " bytes; at most ",
                                      kMaxPatternBytes, " are allowed");
      return false;
    }
    const uint32_t flags = PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED |
                           (options_.ignore_case ? PCRE2_CASELESS : 0) | PCRE2_NEVER_BACKSLASH_C;
    int error = 0;
    PCRE2_SIZE where = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), flags, &error,
                              &where, nullptr));
    if (code_ != nullptr) match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    if (code_ != nullptr && match_ != nullptr) return true;
    code_.reset();
    compile_failure_ = absl::StrCat("the pattern is wrong at byte ", where, ": ", Pcre2Message(error));
    return false;
  }

  CheckerOptions options_;
  std::unique_ptr<pcre2_match_context, FreeContext> context_;
  std::optional<std::string> pattern_;
  std::string compile_failure_;
  std::unique_ptr<pcre2_code, FreeCode> code_;
  std::unique_ptr<pcre2_match_data, FreeMatch> match_;
};

}  // namespace

absl::Status ValidatePattern(std::string_view pattern) { return RegexChecker({}).Validate(pattern); }

std::string ExtractAnswer(std::string_view response, std::string_view marker) {
  if (marker.empty()) return std::string(Trimmed(response));
  const size_t found = response.rfind(marker);
  if (found == std::string_view::npos) return "";
  const std::string_view behind = response.substr(found + marker.size());
  return std::string(Trimmed(behind.substr(0, behind.find('\n'))));
}

absl::StatusOr<std::unique_ptr<Checker>> MakeChecker(const CheckerOptions& options) {
  if (!(options.tolerance >= 0) || !std::isfinite(options.tolerance)) {
    return InvalidInput("checker: tolerance is %g; it must be a number from 0 up", options.tolerance);
  }
  switch (options.kind) {
    case CheckerOptions::Kind::kNumeric:
      return std::make_unique<NumericChecker>(options);
    case CheckerOptions::Kind::kExact:
      return std::make_unique<ExactChecker>(options);
    case CheckerOptions::Kind::kRegex:
      return std::make_unique<RegexChecker>(options);
    case CheckerOptions::Kind::kCommand:
      return MakeCommandChecker(options);
  }
  return InvalidInput("checker: unknown kind %d", static_cast<int>(options.kind));
}

}  // namespace tanren
