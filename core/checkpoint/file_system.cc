#include "core/checkpoint/file_system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "core/activity/activity.h"
#include "core/base/status.h"

namespace tanren {

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.Release();
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

bool IsPlainBasename(std::string_view name) {
  if (name.empty() || name.size() > 255 || name[0] == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

std::string Escaped(std::string_view text) { return absl::CEscape(View(text)); }

absl::Status ErrnoStatus(int error, std::string_view operation, std::string_view path) {
  const std::string text =
      absl::StrCat(View(operation), " ", Escaped(path), ": ", strerror(error), " (errno ", error, ")");
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case EEXIST:
    case ENOTEMPTY:
      return absl::AlreadyExistsError(text);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::UnavailableError(text);
    case ELOOP:
      return absl::DataLossError(absl::StrCat(text, "; links are not followed"));
    default:
      return absl::DataLossError(text);
  }
}

absl::StatusOr<Directory> Directory::Open(const std::string& path) {
  Directory directory;
  directory.fd_ = Descriptor(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd_.get() < 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      return absl::NotFoundError(absl::StrCat(path, ": no such directory"));
    return ErrnoStatus(errno, "open directory", path);
  }
  directory.path_ = path;
  while (directory.path_.size() > 1 && directory.path_.back() == '/') directory.path_.pop_back();
  return directory;
}

absl::StatusOr<Directory> Directory::OpenReal(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const size_t slash = trimmed.rfind('/');
  const std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty()) return Open(path);
  TANREN_ASSIGN_OR_RETURN(const Directory parent, Open(slash == std::string::npos ? "."
                                                       : slash == 0               ? "/"
                                                                    : trimmed.substr(0, slash)));
  TANREN_ASSIGN_OR_RETURN(const bool there, parent.Has(name));
  if (!there) return absl::NotFoundError(absl::StrCat(path, ": no such directory"));
  TANREN_ASSIGN_OR_RETURN(Directory directory, parent.OpenChild(name));
  directory.path_ = trimmed;
  return directory;
}

absl::StatusOr<Directory> Directory::OpenChild(const std::string& name) const {
  Directory child;
  child.path_ = PathOf(name);
  child.fd_ = Descriptor(openat(fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (child.fd_.get() < 0) return ErrnoStatus(errno, "open directory", child.path_);
  return child;
}

absl::StatusOr<Directory> Directory::CreateChild(const std::string& name) const {
  if (mkdirat(fd(), name.c_str(), 0777) != 0) return ErrnoStatus(errno, "create directory", PathOf(name));
  return OpenChild(name);
}

std::string Directory::PathOf(std::string_view name) const { return absl::StrCat(path_, "/", View(name)); }

absl::StatusOr<std::vector<std::string>> Directory::List() const {
  // A descriptor of its own: fdopendir takes it over, and the read position is shared by duplicates.
  const int copy = openat(fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return ErrnoStatus(errno, "list", path_);
  DIR* stream = fdopendir(copy);
  if (stream == nullptr) {
    const int error = errno;
    close(copy);
    return ErrnoStatus(error, "list", path_);
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  const int error = errno;
  closedir(stream);
  if (error != 0) return ErrnoStatus(error, "list", path_);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<bool> Directory::Has(const std::string& name) const {
  struct stat info;
  if (fstatat(fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return true;
  if (errno == ENOENT) return false;
  return ErrnoStatus(errno, "stat", PathOf(name));
}

absl::StatusOr<bool> Directory::IsDirectory(const std::string& name) const {
  struct stat info;
  if (fstatat(fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return S_ISDIR(info.st_mode);
  if (errno == ENOENT) return false;
  return ErrnoStatus(errno, "stat", PathOf(name));
}

absl::Status Directory::Rename(const std::string& from, const std::string& to) const {
  if (renameat2(fd(), from.c_str(), fd(), to.c_str(), RENAME_NOREPLACE) == 0) return absl::OkStatus();
  if (errno == EINVAL || errno == ENOSYS) {
    // A file system without RENAME_NOREPLACE (NFS). The run lock keeps other writers out, and a rename onto a
    // directory that is not empty fails by itself, so looking first is enough.
    TANREN_ASSIGN_OR_RETURN(const bool taken, Has(to));
    if (taken) return ErrnoStatus(EEXIST, "rename", PathOf(from));
    if (renameat(fd(), from.c_str(), fd(), to.c_str()) == 0) return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("rename to ", to, ":"), PathOf(from));
}

absl::Status Directory::Replace(const std::string& from, const std::string& to) const {
  if (renameat(fd(), from.c_str(), fd(), to.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("rename to ", to, ":"), PathOf(from));
}

absl::Status Directory::RemoveAt(const std::string& name, int depth) const {
  constexpr int kMaxDepth = 8;
  if (unlinkat(fd(), name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
  if (errno != EISDIR && errno != EPERM) return ErrnoStatus(errno, "remove", PathOf(name));
  if (depth == kMaxDepth)
    return absl::FailedPreconditionError(absl::StrCat(PathOf(name), ": nested too deep"));
  TANREN_ASSIGN_OR_RETURN(const Directory child, OpenChild(name));
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> names, child.List());
  for (const std::string& inner : names) TANREN_RETURN_IF_ERROR(child.RemoveAt(inner, depth + 1));
  if (unlinkat(fd(), name.c_str(), AT_REMOVEDIR) != 0) return ErrnoStatus(errno, "remove", PathOf(name));
  return absl::OkStatus();
}

absl::Status Directory::Sync() const {
  if (fsync(fd()) != 0) return ErrnoStatus(errno, "fsync", path_);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Directory::FreeBytes() const {
  struct statvfs info;
  if (fstatvfs(fd(), &info) != 0) return ErrnoStatus(errno, "statvfs", path_);
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

absl::StatusOr<ReadableFile> ReadableFile::Open(const Directory& directory, const std::string& name) {
  ReadableFile file;
  file.path_ = directory.PathOf(name);
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  file.fd_ = Descriptor(openat(directory.fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file.fd_.get() < 0) return ErrnoStatus(errno, "open", file.path_);
  struct stat info;
  if (fstat(file.fd_.get(), &info) != 0) return ErrnoStatus(errno, "stat", file.path_);
  if (!S_ISREG(info.st_mode)) return absl::DataLossError(absl::StrCat(file.path_, ": not a regular file"));
  file.bytes_ = info.st_size;
  return file;
}

absl::Status ReadableFile::ReadAt(int64_t offset, void* out, int64_t bytes) const {
  auto* next = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = pread(fd_.get(), next, static_cast<size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "read", path_);
    Activity::Own().Tick();
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset, ", ", bytes, " bytes short"));
    }
    next += got;
    offset += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

absl::Status ReadableFile::ReadAt(int64_t offset, absl::Span<const iovec> parts) const {
  size_t done = 0;
  const ssize_t got = preadv(fd_.get(), parts.data(), static_cast<int>(parts.size()), offset);
  if (got > 0) done = static_cast<size_t>(got);
  // What one call did not read, if anything, comes part by part.
  for (const iovec& part : parts) {
    const size_t have = std::min(done, part.iov_len);
    done -= have;
    TANREN_RETURN_IF_ERROR(ReadAt(offset + static_cast<int64_t>(have),
                                  static_cast<char*>(part.iov_base) + have,
                                  static_cast<int64_t>(part.iov_len - have)));
    offset += static_cast<int64_t>(part.iov_len);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallFile(const Directory& directory, const std::string& name,
                                          int64_t max_bytes) {
  TANREN_ASSIGN_OR_RETURN(const ReadableFile file, ReadableFile::Open(directory, name));
  if (file.bytes() > max_bytes) {
    return absl::DataLossError(
        absl::StrCat(file.path(), ": ", file.bytes(), " bytes, at most ", max_bytes, " are read"));
  }
  std::string contents(static_cast<size_t>(file.bytes()), '\0');
  TANREN_RETURN_IF_ERROR(file.ReadAt(0, contents.data(), file.bytes()));
  return contents;
}

}  // namespace tanren
