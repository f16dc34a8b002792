#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/activity/activity.h"
#include "core/base/status.h"
#include "core/checkpoint/file_system.h"

namespace tanren {

SaveFaults& SaveFaults::FromEnvironment() {
  static SaveFaults faults{FaultPlan::FromEnvironment()};
  return faults;
}

absl::Status SaveFaults::Point(std::string_view point, std::string_view path) {
  switch (plan_.Hit(point)) {
    case FaultAction::kNone:
    case FaultAction::kPartial:
    case FaultAction::kDelay:
    case FaultAction::kFlip:
    case FaultAction::kNaN:
    case FaultAction::kKill:
      return absl::OkStatus();
    case FaultAction::kEnospc:
      return ErrnoStatus(ENOSPC, absl::StrCat(View(point), " (injected)"), path);
    case FaultAction::kShort:
    case FaultAction::kEio:
      return ErrnoStatus(EIO, absl::StrCat(View(point), " (injected)"), path);
  }
  return absl::OkStatus();
}

void NewFile::FreeBuffer::operator()(char* buffer) const { free(buffer); }

absl::StatusOr<NewFile> NewFile::Create(const Directory& directory, const std::string& name,
                                        int64_t expected_bytes, SaveFaults* faults) {
  NewFile file;
  file.path_ = directory.PathOf(name);
  file.faults_ = faults;
  file.fault_at_ = expected_bytes / 2;
  if (faults != nullptr) TANREN_RETURN_IF_ERROR(faults->Point("open", file.path_));
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int fd = -1;
  if (expected_bytes >= kBufferBytes) {
    fd = openat(directory.fd(), name.c_str(), kFlags | O_DIRECT, 0666);
    file.direct_ = fd >= 0;
  }
  if (fd < 0 && (expected_bytes < kBufferBytes || errno == EINVAL)) {
    // Some kernels create the file before they find that O_DIRECT is not served; it is ours and empty.
    if (expected_bytes >= kBufferBytes) unlinkat(directory.fd(), name.c_str(), 0);
    fd = openat(directory.fd(), name.c_str(), kFlags, 0666);
  }
  if (fd < 0) return ErrnoStatus(errno, "create", file.path_);
  file.fd_ = Descriptor(fd);
  file.buffer_.reset(static_cast<char*>(aligned_alloc(kAlignment, kBufferBytes)));
  if (file.buffer_ == nullptr) return ErrnoStatus(ENOMEM, "buffer for", file.path_);
  return file;
}

void NewFile::LeaveDirectMode() {
  if (!direct_) return;
  direct_ = false;
  fcntl(fd_.get(), F_SETFL, fcntl(fd_.get(), F_GETFL) & ~O_DIRECT);
}

absl::Status NewFile::Append(const void* data, int64_t bytes) {
  auto* next = static_cast<const char*>(data);
  appended_ += bytes;
  while (bytes > 0) {
    const int64_t count = std::min(bytes, kBufferBytes - buffered_);
    memcpy(buffer_.get() + buffered_, next, static_cast<size_t>(count));
    buffered_ += count;
    next += count;
    bytes -= count;
    if (buffered_ == kBufferBytes) TANREN_RETURN_IF_ERROR(Flush());
  }
  return absl::OkStatus();
}

absl::Status NewFile::Flush() {
  Activity::Own().Tick();
  // The point "write" lies at half of the file: what comes before it is stored first.
  const bool reached = faults_ != nullptr && !fault_reached_ && written_ + buffered_ >= fault_at_;
  int64_t done = 0;
  if (reached) {
    fault_reached_ = true;
    done = std::clamp<int64_t>((fault_at_ - written_) / kAlignment * kAlignment, 0, buffered_);
    TANREN_RETURN_IF_ERROR(WriteOut(buffer_.get(), done));
    switch (faults_->HitWrite()) {
      case FaultAction::kNone:
      case FaultAction::kDelay:
      case FaultAction::kFlip:
      case FaultAction::kNaN:
      case FaultAction::kKill:
        break;
      case FaultAction::kEio:
        return ErrnoStatus(EIO, "write (injected)", path_);
      case FaultAction::kEnospc:
        return ErrnoStatus(ENOSPC, "write (injected)", path_);
      case FaultAction::kShort:
        TANREN_RETURN_IF_ERROR(WriteOut(buffer_.get() + done, (buffered_ - done) / 2));
        return absl::DataLossError(
            absl::StrCat("write (injected) ", path_, ": no progress at byte ", written_));
      case FaultAction::kPartial: {
        const int64_t half = (buffered_ - done) / 2;
        TANREN_RETURN_IF_ERROR(WriteOut(buffer_.get() + done, half));
        done += half;
        break;
      }
    }
  }
  TANREN_RETURN_IF_ERROR(WriteOut(buffer_.get() + done, buffered_ - done));
  buffered_ = 0;
  return absl::OkStatus();
}

absl::Status NewFile::WriteOut(const char* data, int64_t bytes) {
  while (bytes > 0) {
    // Direct writes need aligned memory, file position and length; the tail of a file is none of it.
    const bool aligned = bytes % kAlignment == 0 && written_ % kAlignment == 0 &&
                         reinterpret_cast<uintptr_t>(data) % kAlignment == 0;
    if (!aligned) LeaveDirectMode();
    const ssize_t count = write(fd_.get(), data, static_cast<size_t>(bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EINVAL && direct_) {
      LeaveDirectMode();
      continue;
    }
    if (count < 0) return ErrnoStatus(errno, "write", path_);
    if (count == 0)
      return absl::DataLossError(absl::StrCat("write ", path_, ": no progress at byte ", written_));
    data += count;
    bytes -= count;
    written_ += count;
  }
  return absl::OkStatus();
}

absl::Status NewFile::Finish() {
  TANREN_RETURN_IF_ERROR(Flush());
  if (faults_ != nullptr) TANREN_RETURN_IF_ERROR(faults_->Point("fsync", path_));
  if (fsync(fd_.get()) != 0) return ErrnoStatus(errno, "fsync", path_);
  struct stat info;
  if (fstat(fd_.get(), &info) != 0) return ErrnoStatus(errno, "stat", path_);
  if (info.st_size != appended_) {
    return absl::DataLossError(
        absl::StrCat(path_, ": ", info.st_size, " bytes on disk, ", appended_, " written"));
  }
  // close() may report a delayed write error (NFS).
  if (close(fd_.Release()) != 0) return ErrnoStatus(errno, "close", path_);
  return absl::OkStatus();
}

absl::Status WriteSmallFile(const Directory& directory, const std::string& name, std::string_view contents,
                            SaveFaults* faults) {
  const int64_t bytes = static_cast<int64_t>(contents.size());
  TANREN_ASSIGN_OR_RETURN(NewFile file, NewFile::Create(directory, name, bytes, faults));
  TANREN_RETURN_IF_ERROR(file.Append(contents.data(), bytes));
  return file.Finish();
}

}  // namespace tanren
