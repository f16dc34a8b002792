// Reads text files, plain or compressed with gzip or zstd (known by their first bytes), line by line in
// bounded memory.
#ifndef TANREN_CORE_CORPUS_INPUT_STREAM_H_
#define TANREN_CORE_CORPUS_INPUT_STREAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

class InputStream {
 public:
  virtual ~InputStream() = default;

  // Up to `limit` bytes; 0 at the end. A damaged or truncated compressed file is an error.
  virtual absl::StatusOr<int64_t> Read(char* to, int64_t limit) = 0;
  // Bytes of the file read so far, compressed as they are on disk; for progress.
  virtual int64_t file_bytes_read() const = 0;

  static absl::StatusOr<std::unique_ptr<InputStream>> Open(const std::string& path);
};

struct FileDigest {
  std::string sha256;
  int64_t bytes = 0;
};

// Of the bytes on disk, compressed or not.
absl::StatusOr<FileDigest> DigestFile(const std::string& path,
                                      absl::FunctionRef<void(int64_t bytes)> progress);

// A longer line of a JSON file is damage.
inline constexpr int64_t kLineLimitBytes = int64_t{64} << 20;

class LineReader {
 public:
  LineReader(std::unique_ptr<InputStream> stream, int64_t line_limit_bytes);

  struct Line {
    std::string_view text;  // with its line feed, if it has one; valid until the next call
    int64_t number = 0;     // from 1
    bool too_long = false;  // beyond the limit: the text was skipped and is empty
  };
  // False at the end.
  absl::StatusOr<bool> Next(Line* line);

  int64_t file_bytes_read() const { return stream_->file_bytes_read(); }

 private:
  absl::Status Fill();

  std::unique_ptr<InputStream> stream_;
  int64_t line_limit_bytes_;
  std::string buffer_;
  size_t begin_ = 0;  // of what is not yet given out
  bool at_end_ = false;
  int64_t number_ = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_INPUT_STREAM_H_
