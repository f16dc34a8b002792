// The file operations of a checkpoint, on open directories: no operation follows a link, opens anything but a
// regular file, or overwrites. Every error names the path. Faults are injected here (fault.h).
#ifndef TANREN_CORE_CHECKPOINT_FILE_SYSTEM_H_
#define TANREN_CORE_CHECKPOINT_FILE_SYSTEM_H_

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/fault.h"

namespace tanren {

// An open file descriptor, closed on destruction.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  int get() const { return fd_; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_ = -1;
};

// 1 to 255 of [A-Za-z0-9._-], not beginning with a dot: the only names that files of a checkpoint may have.
bool IsPlainBasename(std::string_view name);

// Control characters, quotes and backslashes as C escapes: for names that come from files.
std::string Escaped(std::string_view text);

// errno as a status: ENOSPC and EDQUOT are ResourceExhausted; EACCES, EPERM and EROFS PermissionDenied;
// EEXIST and ENOTEMPTY AlreadyExists; EMFILE, ENFILE and ENOMEM Unavailable; all else (a missing file, a
// link, an I/O error) is DataLoss.
absl::Status ErrnoStatus(int error, std::string_view operation, std::string_view path);

class Directory {
 public:
  // `path` may lead through links: it is the user's own.
  static absl::StatusOr<Directory> Open(const std::string& path);
  // The directory itself must be real, links on the way to it are the user's own. NotFound when it is
  // missing.
  static absl::StatusOr<Directory> OpenReal(const std::string& path);
  // A real directory called `name` inside this one; links are refused.
  absl::StatusOr<Directory> OpenChild(const std::string& name) const;
  absl::StatusOr<Directory> CreateChild(const std::string& name) const;

  const std::string& path() const { return path_; }
  std::string PathOf(std::string_view name) const;
  int fd() const { return fd_.get(); }

  // Names of all entries but "." and "..", sorted.
  absl::StatusOr<std::vector<std::string>> List() const;
  // Whether an entry of that name exists, of whatever kind.
  absl::StatusOr<bool> Has(const std::string& name) const;
  absl::StatusOr<bool> IsDirectory(const std::string& name) const;
  // Refuses when `to` exists.
  absl::Status Rename(const std::string& from, const std::string& to) const;
  // Replaces `to`, atomically; for small files only.
  absl::Status Replace(const std::string& from, const std::string& to) const;
  // Removes a file, a link (not what it points to) or a directory with all that is in it.
  absl::Status Remove(const std::string& name) const { return RemoveAt(name, 0); }
  absl::Status Sync() const;
  // Bytes an ordinary user may still write here.
  absl::StatusOr<int64_t> FreeBytes() const;

 private:
  absl::Status RemoveAt(const std::string& name, int depth) const;

  Descriptor fd_;
  std::string path_;
};

// A regular file open for reading.
class ReadableFile {
 public:
  static absl::StatusOr<ReadableFile> Open(const Directory& directory, const std::string& name);

  int64_t bytes() const { return bytes_; }  // at the time of opening
  const std::string& path() const { return path_; }
  // Exactly `bytes` bytes from `offset`; a shorter file is DataLoss.
  absl::Status ReadAt(int64_t offset, void* out, int64_t bytes) const;
  // The same into several places, one after the other.
  absl::Status ReadAt(int64_t offset, absl::Span<const iovec> parts) const;

 private:
  Descriptor fd_;
  std::string path_;
  int64_t bytes_ = 0;
};

// The whole of a small file; refuses one of more than `max_bytes` before reading it.
absl::StatusOr<std::string> ReadSmallFile(const Directory& directory, const std::string& name,
                                          int64_t max_bytes);

// Where faults strike during a save. One per process is enough; its counters survive from save to save.
class SaveFaults {
 public:
  explicit SaveFaults(FaultPlan plan = {}) : plan_(std::move(plan)) {}
  // The plan of TANREN_FAULT, made at the first call.
  static SaveFaults& FromEnvironment();

  void set_rank(int rank) { plan_.set_rank(rank); }
  // OK, or the injected error at a point that is not a write.
  absl::Status Point(std::string_view point, std::string_view path);
  FaultAction HitWrite() { return plan_.Hit("write"); }

 private:
  FaultPlan plan_;
};

// A new file, written front to back past the page cache where the file system allows it (O_DIRECT: on a busy
// machine the page cache costs a training run its memory, and measured writes were up to five times slower).
class NewFile {
 public:
  // O_EXCL: the name must be free. `expected_bytes` places the "write" fault at half of the file.
  static absl::StatusOr<NewFile> Create(const Directory& directory, const std::string& name,
                                        int64_t expected_bytes, SaveFaults* faults);
  NewFile(NewFile&&) = default;
  NewFile& operator=(NewFile&&) = default;

  // `data` may be reused on return.
  absl::Status Append(const void* data, int64_t bytes);
  // Everything is on the disk and the file has the size that was appended.
  absl::Status Finish();

  int64_t bytes() const { return appended_; }

 private:
  struct FreeBuffer {
    void operator()(char* buffer) const;
  };
  static constexpr int64_t kBufferBytes = 4 << 20;
  static constexpr int64_t kAlignment = 4096;

  NewFile() = default;
  absl::Status Flush();
  absl::Status WriteOut(const char* data, int64_t bytes);
  void LeaveDirectMode();

  Descriptor fd_;
  std::string path_;
  SaveFaults* faults_ = nullptr;
  std::unique_ptr<char, FreeBuffer> buffer_;
  int64_t buffered_ = 0, appended_ = 0, written_ = 0, fault_at_ = 0;
  bool direct_ = false, fault_reached_ = false;
};

// A small file in one go: created, written, on the disk.
absl::Status WriteSmallFile(const Directory& directory, const std::string& name, std::string_view contents,
                            SaveFaults* faults);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_FILE_SYSTEM_H_
