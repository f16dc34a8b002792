// Post-training data sets: JSONL, plain or .gz or .zst, recognised by content.
#ifndef TANREN_CORE_EXAMPLES_READ_EXAMPLES_H_
#define TANREN_CORE_EXAMPLES_READ_EXAMPLES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/corpus/input_stream.h"
#include "core/examples/example.h"

namespace tanren {

struct ExampleOptions {
  std::optional<ExampleFormat> format;  // nothing: recognised, record by record
  // Lines that are no example may be at most this share of a file; beyond it the file is refused with the
  // first ten of them, "path:line: what is wrong".
  double max_damaged_fraction = 0.01;
  int64_t line_limit_bytes = kLineLimitBytes;
};

struct ExampleReport {
  int64_t lines = 0;
  int64_t damaged = 0;  // left out
  std::map<std::string, int64_t>
      reasons;                        // "equal sides", "no permutation", "empty response", "not JSON", ...
  std::vector<std::string> examples;  // the first ten, "path:line: what is wrong"
  std::map<std::string, int64_t> formats;  // records by NameOf(format)
  std::string ToString() const;            // a line or a few, for the log
};

// One record. InvalidArgument says which field is missing, of the wrong type or senseless: a preference
// without both sides or with equal sides, a ranking that does not rank each response or has one text at two
// ranks, fewer than two responses or a ranking without any preference, an empty answer, a bad role, text with
// NUL or invalid UTF-8.
absl::StatusOr<Example> ParseExample(std::string_view json, std::optional<ExampleFormat> format);

// All examples of a file, in order. NotFound, or InvalidArgument when there is none or too many lines are
// damaged.
absl::StatusOr<std::vector<Example>> ReadExamples(const std::string& path, const ExampleOptions& options,
                                                  ExampleReport* report);

}  // namespace tanren

#endif  // TANREN_CORE_EXAMPLES_READ_EXAMPLES_H_
