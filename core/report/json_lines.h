// Files of one JSON object per line, each with a member "step" (an integer), that survive a crash and a
// resume.
#ifndef TANREN_CORE_REPORT_JSON_LINES_H_
#define TANREN_CORE_REPORT_JSON_LINES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/append_file.h"

namespace tanren {

class JsonLinesFile {
 public:
  // Opens or creates the file for a run that goes on after `resumed_step` (0: a run that starts), and cuts
  // off what the run is about to write again: everything from the first line of a later step on, and damaged
  // lines at the end (a crash tears the last one). A whole last line that lacks only its newline is kept.
  // Damaged lines that good ones follow are left as they are.
  static absl::StatusOr<JsonLinesFile> Open(const std::string& path, int64_t resumed_step);

  // `object`: one JSON object without a line break. On return the whole line is with the operating system;
  // after an error the file is as it was.
  absl::Status Append(std::string_view object);

  // Lines, whole or torn, that Open cut off.
  int64_t dropped_lines() const { return dropped_lines_; }

 private:
  JsonLinesFile(AppendFile file, int64_t dropped_lines)
      : file_(std::move(file)), dropped_lines_(dropped_lines) {}

  AppendFile file_;
  int64_t dropped_lines_ = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_JSON_LINES_H_
