#include "core/config/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace tanren::config {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::string ReadSmallFile(const std::string& path, size_t max_bytes, std::string* text) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) return absl::StrCat("cannot be opened: ", std::strerror(errno));
  struct stat status;
  if (fstat(file.get(), &status) != 0) return absl::StrCat("cannot be read: ", std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return S_ISDIR(status.st_mode) ? "is a directory" : "is not a regular file";
  const std::string too_long = absl::StrCat("longer than ", max_bytes, " bytes");
  if (static_cast<size_t>(status.st_size) > max_bytes)
    return absl::StrCat(too_long, " (", status.st_size, ")");
  text->clear();
  char buffer[1 << 14];
  while (true) {
    const ssize_t count = read(file.get(), buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::StrCat("cannot be read: ", std::strerror(errno));
    if (count == 0) return "";
    text->append(buffer, static_cast<size_t>(count));
    if (text->size() > max_bytes) return too_long;  // it grew, or its size was a lie (/proc)
  }
}

}  // namespace tanren::config
