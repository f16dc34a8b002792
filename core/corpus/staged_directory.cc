#include "core/corpus/staged_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;

absl::Status Rename(const std::string& from, const std::string& to, unsigned flags) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0) return absl::OkStatus();
  return InvalidInput("%s: cannot be put in its place: %s", to, std::strerror(errno));
}

void SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace

bool IsAbsentOrEmpty(const std::string& path) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return true;
  return fs::is_directory(path, error) && fs::is_empty(path, error) && !error;
}

absl::StatusOr<std::unique_ptr<StagedDirectory>> StagedDirectory::Create(const std::string& final_path) {
  fs::path target = fs::absolute(final_path).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "dir/"
  if (!target.has_filename()) return InvalidInput("%s: not a directory that can be made", Quoted(final_path));
  TANREN_RETURN_IF_ERROR(MakeDirectories(target.parent_path().string()));
  const std::string prefix =
      (target.parent_path() / absl::StrCat(".", target.filename().string(), ".tmp-", getpid(), "-")).string();
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::string path = absl::StrCat(prefix, attempt);
    if (mkdir(path.c_str(), 0755) == 0) {
      return std::unique_ptr<StagedDirectory>(new StagedDirectory(target.string(), path));
    }
    if (errno != EEXIST) break;
  }
  return InvalidInput("%s0: cannot make this directory: %s", prefix, std::strerror(errno));
}

StagedDirectory::StagedDirectory(std::string final_path, std::string path)
    : final_path_(std::move(final_path)), path_(std::move(path)) {}

StagedDirectory::~StagedDirectory() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

absl::Status StagedDirectory::Commit(bool replace) {
  SyncDirectory(path_);
  if (IsAbsentOrEmpty(final_path_)) {
    rmdir(final_path_.c_str());
    TANREN_RETURN_IF_ERROR(Rename(path_, final_path_, RENAME_NOREPLACE));
    path_.clear();
  } else {
    if (!replace) return InvalidInput("%s: is there already", final_path_);
    // Afterwards path_ holds what was there before, and the destructor removes it.
    TANREN_RETURN_IF_ERROR(Rename(path_, final_path_, RENAME_EXCHANGE));
  }
  SyncDirectory(fs::path(final_path_).parent_path().string());
  return absl::OkStatus();
}

}  // namespace tanren
