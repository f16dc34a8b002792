// Strict JSON for files of the tokenizer and corpus formats. Internal: for .cc files that handle JSON.
#ifndef TANREN_CORE_TOKENIZER_JSON_FILE_H_
#define TANREN_CORE_TOKENIZER_JSON_FILE_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tanren {

struct JsonLimits {
  int64_t file_bytes = int64_t{64} << 20;
  int64_t values = 4'000'000;  // numbers, strings, arrays, ... : what bounds the memory of the parsed tree
  int depth = 32;
};

// Errors name path:line:column. Duplicate keys, trailing text, bytes that are not UTF-8, numbers that no
// double holds, and whatever exceeds a limit are errors.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& path,
                                         const JsonLimits& limits = {});
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, const JsonLimits& limits = {});

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_JSON_FILE_H_
