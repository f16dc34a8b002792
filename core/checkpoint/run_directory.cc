#include "core/checkpoint/run_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/checkpoint/manifest.h"

namespace tanren {
namespace {

constexpr char kLockName[] = "run.lock";

// Whether `name` is a step's name followed by `mark` and more.
bool IsMarkedStep(std::string_view name, std::string_view mark) {
  const size_t dot = name.find('.');
  return dot != std::string_view::npos && ParseStepName(name.substr(0, dot)) >= 0 &&
         name.substr(dot).starts_with(mark);
}

std::string OwnerRecord(const std::string& owner) {
  char host[256] = "?";
  gethostname(host, sizeof(host) - 1);
  char started[32] = "?";
  const time_t now = time(nullptr);
  struct tm utc;
  if (gmtime_r(&now, &utc) != nullptr) strftime(started, sizeof(started), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return absl::StrCat("host ", host, ", process ", getpid(), ", since ", started, owner.empty() ? "" : ", ",
                      owner, "\n");
}

std::string ReadOwner(int fd) {
  char text[512];
  const ssize_t count = pread(fd, text, sizeof(text), 0);
  std::string owner = count > 0 ? std::string(text, static_cast<size_t>(count)) : "an unknown owner";
  while (!owner.empty() && owner.back() == '\n') owner.pop_back();
  return Escaped(owner);
}

absl::Status WriteOwner(int fd, const std::string& record, const std::string& path) {
  if (ftruncate(fd, 0) != 0) return ErrnoStatus(errno, "truncate", path);
  if (pwrite(fd, record.data(), record.size(), 0) != static_cast<ssize_t>(record.size())) {
    return ErrnoStatus(errno, "write", path);
  }
  return absl::OkStatus();
}

}  // namespace

std::string StepName(int64_t step) { return absl::StrFormat("step-%08d", step); }

int64_t ParseStepName(std::string_view name) {
  int64_t step = -1;
  if (!name.starts_with("step-") || !absl::SimpleAtoi(View(name.substr(5)), &step) || step < 0) return -1;
  return StepName(step) == name ? step : -1;
}

std::string RandomSuffix() {
  unsigned char bytes[16];
  TANREN_CHECK(getrandom(bytes, sizeof(bytes), 0) == static_cast<ssize_t>(sizeof(bytes)));
  std::string text;
  for (unsigned char byte : bytes) absl::StrAppend(&text, absl::Hex(byte, absl::kZeroPad2));
  return text;
}

absl::StatusOr<std::vector<std::string>> ListSteps(const Directory& run) {
  TANREN_ASSIGN_OR_RETURN(std::vector<std::string> names, run.List());
  std::erase_if(names, [](const std::string& name) { return ParseStepName(name) < 0; });
  std::sort(names.begin(), names.end(),
            [](const std::string& a, const std::string& b) { return ParseStepName(a) > ParseStepName(b); });
  return names;
}

absl::StatusOr<bool> HasDamagedSteps(const Directory& run) {
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> names, run.List());
  return std::any_of(names.begin(), names.end(),
                     [](const auto& name) { return IsMarkedStep(name, ".damaged-"); });
}

bool LooksCommitted(const Directory& run, const std::string& step_name) {
  const absl::StatusOr<Directory> step = run.OpenChild(step_name);
  if (!step.ok()) return false;
  const absl::StatusOr<std::string> commit = ReadSmallFile(*step, "COMMIT", 65);
  const absl::StatusOr<std::string> manifest = ReadSmallFile(*step, "manifest.pb", kMaxManifestBytes);
  return commit.ok() && manifest.ok() && *commit == Sha256Hex(*manifest) + "\n";
}

absl::StatusOr<std::string> FindStep(const std::string& path) {
  const std::string trimmed = path.substr(0, path.find_last_not_of('/') + 1);
  if (ParseStepName(trimmed.substr(trimmed.find_last_of('/') + 1)) >= 0) return path;
  TANREN_ASSIGN_OR_RETURN(const Directory run, Directory::Open(path));
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> steps, ListSteps(run));
  for (const std::string& step : steps) {
    if (LooksCommitted(run, step)) return trimmed + "/" + step;
  }
  if (steps.empty()) return path;  // perhaps a step directory under another name
  return absl::NotFoundError(
      absl::StrCat(path, " has ", steps.size(), " steps and none of them is committed"));
}

absl::StatusOr<std::unique_ptr<RunLock>> RunLock::Acquire(const std::string& run_dir,
                                                          const std::string& owner) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  if (error) return ErrnoStatus(error.value(), "create directory", run_dir);
  TANREN_ASSIGN_OR_RETURN(Directory run, Directory::Open(run_dir));
  const std::string path = run.PathOf(kLockName);
  Descriptor file(openat(run.fd(), kLockName, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
  if (file.get() < 0) return ErrnoStatus(errno, "open", path);
  struct stat info;
  if (fstat(file.get(), &info) != 0) return ErrnoStatus(errno, "stat", path);
  if (!S_ISREG(info.st_mode))
    return absl::FailedPreconditionError(absl::StrCat(path, ": not a regular file"));
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "lock", path);
    return absl::FailedPreconditionError(absl::StrCat(run.path(), " is in use by ", ReadOwner(file.get()),
                                                      "; stop that job or choose another run directory"));
  }
  TANREN_RETURN_IF_ERROR(WriteOwner(file.get(), OwnerRecord(owner), path));
  return std::unique_ptr<RunLock>(new RunLock(std::move(run), std::move(file)));
}

absl::StatusOr<std::unique_ptr<RunLock>> RunLock::AcquireForJob(Comm& world, const std::string& run_dir,
                                                                const std::string& owner) {
  std::unique_ptr<RunLock> lock;
  absl::Status status;
  if (world.rank() == 0) {
    absl::StatusOr<std::unique_ptr<RunLock>> acquired = Acquire(run_dir, owner);
    status = acquired.status();
    if (acquired.ok()) lock = *std::move(acquired);
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "run_lock", status));
  return lock;
}

RunLock::~RunLock() {
  // The record goes first: an unlocked file with an owner would only confuse a person.
  (void)!ftruncate(file_.get(), 0);
}

absl::StatusOr<std::vector<std::string>> SweepLeftovers(const RunLock& lock) {
  TANREN_ASSIGN_OR_RETURN(std::vector<std::string> names, lock.run().List());
  std::erase_if(names, [](const std::string& name) {
    return !IsMarkedStep(name, ".tmp-") && !std::string_view(name).starts_with("LATEST.tmp-");
  });
  for (const std::string& name : names) TANREN_RETURN_IF_ERROR(lock.run().Remove(name));
  if (!names.empty()) TANREN_RETURN_IF_ERROR(lock.run().Sync());
  return names;
}

absl::StatusOr<std::vector<std::string>> ApplyRetention(const Directory& run, const Retention& retention,
                                                        SaveFaults* faults) {
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> steps, ListSteps(run));
  std::vector<std::string> removable;
  int kept = 0;
  const int keep_last = std::max(2, retention.keep_last);
  for (const std::string& name : steps) {
    const bool stays = retention.keep_every > 0 && ParseStepName(name) % retention.keep_every == 0;
    if (stays && kept >= keep_last) continue;  // without reading it: a long run has many
    if (LooksCommitted(run, name) && kept++ >= keep_last) removable.push_back(name);
  }
  std::reverse(removable.begin(), removable.end());
  for (const std::string& name : removable) {
    const std::string doomed = absl::StrCat(name, ".tmp-", RandomSuffix());
    TANREN_RETURN_IF_ERROR(run.Rename(name, doomed));
    if (faults != nullptr) TANREN_RETURN_IF_ERROR(faults->Point("prune", run.PathOf(doomed)));
    TANREN_RETURN_IF_ERROR(run.Remove(doomed));
  }
  if (!removable.empty()) TANREN_RETURN_IF_ERROR(run.Sync());
  return removable;
}

}  // namespace tanren
