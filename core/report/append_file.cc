#include "core/report/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "core/base/status.h"
#include "core/checkpoint/run_directory.h"

namespace tanren {

absl::StatusOr<AppendFile> AppendFile::Open(const std::string& path) {
  Descriptor fd(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644));
  if (fd.get() < 0) {
    if (errno == ELOOP)
      return InvalidInput("%s: a link stands where a file is to be written: remove it", path);
    return ErrnoStatus(errno, "open", path);
  }
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(errno, "stat", path);
  if (!S_ISREG(status.st_mode)) return InvalidInput("%s: not a regular file: move it away", path);
  return AppendFile(std::move(fd), path, status.st_size);
}

absl::Status AppendFile::Append(std::string_view record) {
  size_t written = 0;
  while (written < record.size()) {
    const ssize_t count = write(fd_.get(), record.data() + written, record.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      // Half a record must not stay: the next one would be appended to it. If even this fails, the reader's
      // rule for a torn line applies.
      if (written > 0 && ftruncate(fd_.get(), bytes_) != 0) bytes_ += static_cast<int64_t>(written);
      return ErrnoStatus(error, "append", path_);
    }
    written += static_cast<size_t>(count);
  }
  bytes_ += static_cast<int64_t>(record.size());
  return absl::OkStatus();
}

absl::Status AppendFile::Truncate(int64_t bytes) {
  if (ftruncate(fd_.get(), bytes) != 0) return ErrnoStatus(errno, "truncate", path_);
  bytes_ = bytes;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> AppendFile::ReadAt(int64_t offset, char* out, int64_t capacity) const {
  int64_t done = 0;
  while (done < capacity) {
    const ssize_t count = pread(fd_.get(), out + done, static_cast<size_t>(capacity - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, "read", path_);
    if (count == 0) break;
    done += count;
  }
  return done;
}

absl::Status ReplaceSmallFile(const std::string& path, std::string_view content) {
  const std::filesystem::path target(path);
  const std::string folder = target.has_parent_path() ? target.parent_path().string() : ".";
  TANREN_ASSIGN_OR_RETURN(const Directory directory, Directory::Open(folder));
  const std::string temporary = absl::StrCat(target.filename().string(), ".tmp-", RandomSuffix());
  absl::Status status = WriteSmallFile(directory, temporary, content, /*faults=*/nullptr);
  if (status.ok()) status = directory.Replace(temporary, target.filename().string());
  if (!status.ok()) {
    directory.Remove(temporary).IgnoreError();
    return status;
  }
  return directory.Sync();
}

}  // namespace tanren
