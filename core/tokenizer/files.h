// Whole small files (vocabularies, manifests): read with a limit, written so that no half file is ever seen.
#ifndef TANREN_CORE_TOKENIZER_FILES_H_
#define TANREN_CORE_TOKENIZER_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

// The bytes of a regular file. Directories, pipes and devices, and files above `limit_bytes`, are refused
// before anything is read.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t limit_bytes);

// On return `path` holds exactly `content` on disk (fsync), or, after an error, what it held before.
absl::Status WriteSmallFile(const std::string& path, std::string_view content);

// Makes the directory and its parents; no error when it is there.
absl::Status MakeDirectories(const std::string& path);

// Untrusted text for a message: quoted, escaped, cut at 60 bytes.
std::string Quoted(std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_FILES_H_
