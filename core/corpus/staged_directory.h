// A directory that appears under its name only when it is complete.
#ifndef TANREN_CORE_CORPUS_STAGED_DIRECTORY_H_
#define TANREN_CORE_CORPUS_STAGED_DIRECTORY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

// Files are made in path(), a hidden directory beside the final one; Commit renames it. Without a Commit the
// hidden directory is removed (a killed process leaves it: nothing ever reads it).
class StagedDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<StagedDirectory>> Create(const std::string& final_path);
  ~StagedDirectory();

  const std::string& path() const { return path_; }

  // On return the final path holds what was staged. A final path that exists and is not an empty directory is
  // an error, unless `replace`: then what it held is exchanged in one step and removed.
  absl::Status Commit(bool replace);

 private:
  StagedDirectory(std::string final_path, std::string path);

  std::string final_path_;
  std::string path_;
};

// Absent, or a directory without entries.
bool IsAbsentOrEmpty(const std::string& path);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_STAGED_DIRECTORY_H_
