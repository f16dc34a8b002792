#include "core/report/rank_log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <utility>

#include "core/base/status.h"
#include "core/config/text.h"

namespace tanren {
namespace {

constexpr size_t kMaxTextBytes = 16 << 10;

char Letter(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return 'I';
    case Severity::kWarning:
      return 'W';
    case Severity::kError:
      return 'E';
  }
  return '?';
}

std::string FormatLine(Severity severity, std::string_view text) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const std::time_t seconds = milliseconds / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char date[32];
  std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts);
  return absl::StrFormat("%s.%03dZ %c %s\n", date, milliseconds % 1000, Letter(severity), text);
}

// What a person at the screen reads: no time, and a word where something is wrong.
std::string FormatShown(Severity severity, int rank, std::string_view text) {
  const char* word = severity == Severity::kError     ? "error: "
                     : severity == Severity::kWarning ? "warning: "
                                                      : "";
  return absl::StrCat(rank > 0 ? absl::StrCat("rank ", rank, ": ") : "", word, View(text), "\n");
}

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

std::mutex process_log_mutex;

std::unique_ptr<RankLog>& ProcessLog() {
  static std::unique_ptr<RankLog> log;
  return log;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankLog>> RankLog::Open(const std::string& run_directory, int rank,
                                                       const RankLogOptions& options) {
  const std::string folder = run_directory + "/logs";
  if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, "make directory", folder);
  TANREN_ASSIGN_OR_RETURN(AppendFile file,
                          AppendFile::Open(absl::StrFormat("%s/rank_%05d.log", folder, rank)));
  return std::unique_ptr<RankLog>(new RankLog(std::move(file), rank, options));
}

void RankLog::Log(Severity severity, std::string_view text) {
  const std::string printable = config::Printable(text, kMaxTextBytes);
  const std::lock_guard lock(mutex_);
  Store(FormatLine(severity, printable));
  if (rank_ != 0 && severity != Severity::kError) return;
  const std::string shown = FormatShown(severity, rank_, printable);
  if (options_.console != nullptr) {
    options_.console->AroundBar([&] { WriteAll(options_.error_fd, shown); });
  } else {
    WriteAll(options_.error_fd, shown);
  }
}

void RankLog::Store(const std::string& line) {
  const int64_t bytes = static_cast<int64_t>(line.size());
  if (file_.bytes() > 0 && file_.bytes() + bytes > options_.max_bytes / 2) Rotate();
  if (lost_lines_ > 0) {
    const std::string note =
        FormatLine(Severity::kWarning, absl::StrCat(lost_lines_, " lines could not be written"));
    if (file_.Append(note).ok()) lost_lines_ = 0;
  }
  if (!file_.Append(line).ok()) ++lost_lines_;
}

void RankLog::Rotate() {
  const std::string path = file_.path();
  if (rename(path.c_str(), (path + ".1").c_str()) == 0) {
    absl::StatusOr<AppendFile> next = AppendFile::Open(path);
    if (next.ok()) {
      file_ = *std::move(next);
      return;
    }
  }
  // No new file can be made. The bound holds all the same: the old lines go.
  file_.Truncate(0).IgnoreError();
}

absl::Status OpenLog(const std::string& run_directory, int rank) {
  RankLogOptions options;
  options.console = &Console::Standard();
  TANREN_ASSIGN_OR_RETURN(auto log, RankLog::Open(run_directory, rank, options));
  const std::lock_guard lock(process_log_mutex);
  ProcessLog() = std::move(log);
  return absl::OkStatus();
}

void CloseLog() {
  const std::lock_guard lock(process_log_mutex);
  ProcessLog().reset();
}

void Log(Severity severity, std::string_view text) {
  const std::lock_guard lock(process_log_mutex);
  if (RankLog* log = ProcessLog().get(); log != nullptr) {
    log->Log(severity, text);
    return;
  }
  const std::string shown = FormatShown(severity, /*rank=*/0, config::Printable(text, kMaxTextBytes));
  Console::Standard().AroundBar([&] { WriteAll(STDERR_FILENO, shown); });
}

}  // namespace tanren
