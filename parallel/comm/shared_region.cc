#include "parallel/comm/shared_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <utility>

#include "core/base/status.h"

namespace tanren {
namespace {

// What rank 0 tells the others. The cookie stands at the start of the file: on another node, or in another
// PID namespace, the same pid and descriptor may well be somebody else's file.
struct Invitation {
  int64_t bytes = 0;
  uint64_t cookie = 0;
  int32_t pid = 0;
  int32_t file = -1;
};

class FileDescriptor {
 public:
  explicit FileDescriptor(int file) : file_(file) {}
  ~FileDescriptor() {
    if (file_ >= 0) close(file_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return file_; }

 private:
  int file_;
};

absl::Status SystemError(const std::string& what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

absl::StatusOr<std::byte*> Map(int file, int64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) return SystemError(absl::StrCat("mmap of ", bytes, " shared bytes"));
  return static_cast<std::byte*>(data);
}

absl::StatusOr<std::byte*> Open(const Invitation& invitation) {
  if (invitation.file < 0) return absl::UnavailableError("rank 0 of the group could not create the memory");
  const std::string path = absl::StrCat("/proc/", invitation.pid, "/fd/", invitation.file);
  const FileDescriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) return SystemError(path);
  if (lseek(file.get(), 0, SEEK_END) != invitation.bytes) {
    return absl::UnavailableError(
        absl::StrCat(path, " is another file: the ranks do not share one PID namespace"));
  }
  uint64_t cookie = 0;
  if (pread(file.get(), &cookie, sizeof(cookie), 0) != sizeof(cookie) || cookie != invitation.cookie) {
    return absl::UnavailableError(
        absl::StrCat(path, " is another file: the ranks do not share one PID namespace"));
  }
  return Map(file.get(), invitation.bytes);
}

// The error of the lowest failing rank on all ranks. core's AgreeStatus needs a communicator, which is being
// made.
absl::Status Agree(MPI_Comm group, const absl::Status& local) {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(group, &rank);
  MPI_Comm_size(group, &size);
  int first_failing = local.ok() ? size : rank;
  MPI_Allreduce(MPI_IN_PLACE, &first_failing, 1, MPI_INT, MPI_MIN, group);
  if (first_failing == size) return absl::OkStatus();
  char text[256] = {};
  if (rank == first_failing) std::strncpy(text, std::string(local.message()).c_str(), sizeof(text) - 1);
  MPI_Bcast(text, sizeof(text), MPI_CHAR, first_failing, group);
  return absl::UnavailableError(absl::StrCat("rank ", first_failing, ": ", text));
}

}  // namespace

absl::StatusOr<SharedRegion> SharedRegion::Create(MPI_Comm group, int64_t bytes) {
  int rank = 0;
  MPI_Comm_rank(group, &rank);
  Invitation invitation;
  const FileDescriptor own(rank == 0 ? memfd_create("tanren-comm", MFD_CLOEXEC) : -1);
  absl::StatusOr<std::byte*> data = absl::UnavailableError("not mapped");
  if (rank == 0) {
    std::random_device random;
    invitation = {bytes, (uint64_t{random()} << 32) | random(), getpid(), own.get()};
    if (own.get() < 0) {
      data = SystemError("memfd_create");
    } else if (ftruncate(own.get(), bytes) != 0) {
      data = SystemError(absl::StrCat("ftruncate to ", bytes, " shared bytes"));
    } else if (pwrite(own.get(), &invitation.cookie, sizeof(invitation.cookie), 0) !=
               sizeof(invitation.cookie)) {
      data = SystemError("writing shared memory");
    } else {
      data = Map(own.get(), bytes);
    }
    if (!data.ok()) invitation.file = -1;
  }
  MPI_Bcast(&invitation, sizeof(invitation), MPI_BYTE, 0, group);
  if (rank != 0) data = Open(invitation);

  const absl::Status agreed = Agree(group, data.status());
  if (!agreed.ok()) {
    if (data.ok()) munmap(*data, invitation.bytes);
    return agreed;
  }
  return SharedRegion(*data, invitation.bytes);
}

SharedRegion::~SharedRegion() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

SharedRegion::SharedRegion(SharedRegion&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

SharedRegion& SharedRegion::operator=(SharedRegion&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace tanren
