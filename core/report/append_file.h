// A file that grows by whole records: what is in it at any moment, after a crash or on a full disk, is a
// sequence of whole records, but perhaps for one torn at the very end by a crash of the machine.
#ifndef TANREN_CORE_REPORT_APPEND_FILE_H_
#define TANREN_CORE_REPORT_APPEND_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/file_system.h"

namespace tanren {

// One writer at a time; not thread-safe.
class AppendFile {
 public:
  // Opens the regular file, or creates it. A link or anything but a regular file is refused: InvalidArgument.
  static absl::StatusOr<AppendFile> Open(const std::string& path);

  // On return the record is with the operating system: it outlives this process, however that ends. After an
  // error (a full disk) the file holds what it held before.
  absl::Status Append(std::string_view record);

  // Keeps the first `bytes` bytes.
  absl::Status Truncate(int64_t bytes);

  // Up to `capacity` bytes from `offset`; fewer only at the end of the file.
  absl::StatusOr<int64_t> ReadAt(int64_t offset, char* out, int64_t capacity) const;

  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  AppendFile(Descriptor fd, std::string path, int64_t bytes)
      : fd_(std::move(fd)), path_(std::move(path)), bytes_(bytes) {}

  Descriptor fd_;
  std::string path_;
  int64_t bytes_ = 0;
};

// On return `path` holds exactly `content`, on the disk, or, after an error, what it held before.
absl::Status ReplaceSmallFile(const std::string& path, std::string_view content);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_APPEND_FILE_H_
