// The growing file of one annotator's decisions: JSONL, one record a decision.
#ifndef TANREN_LAUNCH_ANNOTATION_FILE_H_
#define TANREN_LAUNCH_ANNOTATION_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/file_system.h"
#include "core/examples/example.h"

namespace tanren {

// What a decision is about, whatever the order of the responses: equal for the same prompt with the same
// ones.
std::string AnnotationKey(const Example& example);

// Holds an exclusive lock while it is open, so that two people cannot write into one file.
class AnnotationFile {
 public:
  // Opens or makes the file at `path` and reads the decisions that are there. A last line that was not
  // written whole, by a crash or a full disk, is cut off. InvalidArgument when a line is no record of
  // `format` (kRanking or kLabelled), or is by another annotator ("annotator", none counting as ""), or when
  // another process has the file open.
  static absl::StatusOr<AnnotationFile> Open(const std::string& path, ExampleFormat format,
                                             const std::string& annotator);

  // Keys of the decisions, in the order of the lines.
  const std::vector<std::string>& keys() const { return keys_; }
  // Bytes of a line that was cut off at the start.
  int64_t cut_bytes() const { return cut_bytes_; }

  // On return the record is on disk. InvalidArgument, with nothing written, for a record that training could
  // not read; after another error (a full disk) the file is as it was.
  absl::Status Append(const std::string& record);
  // Takes the last decision back. There must be one.
  absl::Status RemoveLast();

 private:
  AnnotationFile(std::string path, Descriptor file, ExampleFormat format)
      : path_(std::move(path)), file_(std::move(file)), format_(format) {}
  absl::Status ReadLines(const std::string& text, const std::string& annotator);
  absl::Status CutTo(int64_t bytes);
  absl::Status Write(std::string_view text);

  std::string path_;
  Descriptor file_;
  ExampleFormat format_;
  std::vector<std::string> keys_;
  std::vector<int64_t> begins_;  // offset of each decision's line
  int64_t end_ = 0;              // of the file
  int64_t cut_bytes_ = 0;
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_ANNOTATION_FILE_H_
