#include "core/tokenizer/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "core/base/status.h"

namespace tanren {
namespace {

struct Descriptor {
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd;
};

absl::Status FileError(const std::string& path, const char* verb) {
  return InvalidInput("%s: cannot %s: %s", path, verb, std::strerror(errno));
}

absl::Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(path, "write");
    content.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(fd) != 0) return FileError(path, "write to disk");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t limit_bytes) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return FileError(path, "open");
  struct stat info;
  if (fstat(file.fd, &info) != 0) return FileError(path, "stat");
  if (!S_ISREG(info.st_mode)) return InvalidInput("%s: not a regular file", path);
  if (info.st_size > limit_bytes) {
    return InvalidInput("%s: %d bytes, more than the %d that such a file may have", path, info.st_size,
                        limit_bytes);
  }
  std::string content(static_cast<size_t>(info.st_size), '\0');
  size_t have = 0;
  while (have < content.size()) {
    const ssize_t got = read(file.fd, content.data() + have, content.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path, "read");
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  content.resize(have);
  return content;
}

absl::Status WriteSmallFile(const std::string& path, std::string_view content) {
  const std::string temporary = absl::StrCat(path, ".tmp-", getpid());
  unlink(temporary.c_str());
  absl::Status status;
  {
    Descriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (file.fd < 0) return FileError(temporary, "create");
    status = WriteAll(file.fd, content, path);
  }
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) status = FileError(path, "replace");
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return InvalidInput("%s: cannot make this directory: %s", path, error.message());
  return absl::OkStatus();
}

std::string Quoted(std::string_view text) {
  constexpr size_t kShownBytes = 60;
  size_t shown = text.size();
  if (shown > kShownBytes) {
    shown = kShownBytes;
    while (shown > kShownBytes - 3 && (static_cast<unsigned char>(text[shown]) & 0xC0) == 0x80) --shown;
  }
  return absl::StrCat("\"", absl::Utf8SafeCEscape(View(text.substr(0, shown))),
                      shown < text.size() ? "\"..." : "\"");
}

}  // namespace tanren
