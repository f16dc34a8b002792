// Shorthands over absl::Status. A message names the place, the bad value and the way out.
#ifndef TANREN_CORE_BASE_STATUS_H_
#define TANREN_CORE_BASE_STATUS_H_

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tanren {

// Debian 12's absl::string_view is not std::string_view; these carry text across.
inline std::string_view View(absl::string_view text) { return std::string_view(text.data(), text.size()); }
inline absl::string_view View(std::string_view text) { return absl::string_view(text.data(), text.size()); }

// Bad input: wrong config, corpus, tokenizer, checkpoint or layout. The program exits with code 2.
template <class... Args>
absl::Status InvalidInput(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}

// The same status with "place: " before its message.
inline absl::Status At(std::string_view place, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(View(place), ": ", status.message()));
}

namespace internal {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* expression,
                                     const std::string& note) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s%s%s\n", file, line, expression, note.empty() ? "" : ": ",
               note.c_str());
  std::fflush(stderr);
  std::abort();
}
}  // namespace internal

}  // namespace tanren

#define TANREN_CONCAT_INNER(a, b) a##b
#define TANREN_CONCAT(a, b) TANREN_CONCAT_INNER(a, b)

#define TANREN_RETURN_IF_ERROR(expression)                                                    \
  do {                                                                                        \
    if (absl::Status tanren_status = (expression); !tanren_status.ok()) return tanren_status; \
  } while (false)

// TANREN_ASSIGN_OR_RETURN(auto value, MayFail());
#define TANREN_ASSIGN_OR_RETURN(target, expression) \
  TANREN_ASSIGN_OR_RETURN_INNER(TANREN_CONCAT(tanren_result_, __LINE__), target, expression)
#define TANREN_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                     \
  if (!result.ok()) return std::move(result).status();            \
  target = *std::move(result)

// A broken invariant is a bug of ours: it aborts with the expression. Never used for bad input.
#define TANREN_CHECK(expression)                                                             \
  do {                                                                                       \
    if (!(expression)) ::tanren::internal::CheckFailed(__FILE__, __LINE__, #expression, ""); \
  } while (false)
#define TANREN_CHECK_MSG(expression, ...)                                                            \
  do {                                                                                               \
    if (!(expression))                                                                               \
      ::tanren::internal::CheckFailed(__FILE__, __LINE__, #expression, ::absl::StrCat(__VA_ARGS__)); \
  } while (false)

#endif  // TANREN_CORE_BASE_STATUS_H_
