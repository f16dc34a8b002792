// What each rank has to say: RUN/logs/rank_00003.log, of bounded size, and for rank 0 standard error too.
//
//   2026-11-22T04:54:06.123Z W the data window of step 12 was skipped
#ifndef TANREN_CORE_REPORT_RANK_LOG_H_
#define TANREN_CORE_REPORT_RANK_LOG_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/append_file.h"
#include "core/report/console.h"

namespace tanren {

enum class Severity : uint8_t { kInfo, kWarning, kError };

struct RankLogOptions {
  int64_t max_bytes = 16 << 20;  // of the two files of a rank together
  int error_fd = 2;              // where lines are shown; not owned
  Console* console = nullptr;    // whose bar makes way for lines; may be null
};

// Thread-safe; each line is one write. Text is untrusted: control characters, line breaks and bytes that are
// not UTF-8 are escaped, and of more than 16 KiB only the beginning is kept.
//
// Nothing that goes wrong with the log ends a run: lines that a full disk refuses are counted, and the count
// is written when the disk takes lines again.
class RankLog {
 public:
  // Makes RUN/logs and continues the rank's file. When it has reached half of max_bytes it becomes
  // rank_00003.log.1, in place of an older one, and a new one begins.
  static absl::StatusOr<std::unique_ptr<RankLog>> Open(const std::string& run_directory, int rank,
                                                       const RankLogOptions& options = {});

  // Rank 0 shows every line on standard error; the other ranks show errors only, with their rank.
  void Log(Severity severity, std::string_view text);

 private:
  RankLog(AppendFile file, int rank, const RankLogOptions& options)
      : file_(std::move(file)), rank_(rank), options_(options) {}

  void Store(const std::string& line);
  void Rotate();

  std::mutex mutex_;
  AppendFile file_;
  int rank_;
  RankLogOptions options_;
  int64_t lost_lines_ = 0;
};

// The process's own log. Before OpenLog, and after CloseLog, Log writes to standard error only.
absl::Status OpenLog(const std::string& run_directory, int rank);
void CloseLog();
void Log(Severity severity, std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_RANK_LOG_H_
