#include "core/checkpoint/resume.h"

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/checkpoint/run_directory.h"

namespace tanren {
namespace {

struct Candidates {
  std::vector<std::string> steps;  // newest first
  bool has_damaged = false;        // set aside by an earlier save
};

absl::StatusOr<Candidates> ScanLocal(const std::string& run_dir) {
  Candidates found;
  const absl::StatusOr<Directory> run = Directory::Open(run_dir);
  if (absl::IsNotFound(run.status())) return found;
  TANREN_RETURN_IF_ERROR(run.status());
  TANREN_ASSIGN_OR_RETURN(found.steps, ListSteps(*run));
  TANREN_ASSIGN_OR_RETURN(found.has_damaged, HasDamagedSteps(*run));
  return found;
}

// Rank 0 looks; all ranks try the same names.
absl::StatusOr<Candidates> Scan(Comm& world, const std::string& run_dir) {
  absl::StatusOr<Candidates> found = Candidates{};
  if (world.rank() == 0) found = ScanLocal(run_dir);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_scan", found.status()));
  const std::string text =
      BroadcastString(world, "checkpoint_steps",
                      absl::StrCat(found->has_damaged ? "1" : "0", ",", absl::StrJoin(found->steps, ",")), 0);
  Candidates shared;
  shared.has_damaged = text[0] == '1';
  shared.steps = absl::StrSplit(text.substr(2), ',', absl::SkipEmpty());
  return shared;
}

absl::Status Try(Comm& world, const std::string& path, const LoadRequest& request, const BindPieces& bind,
                 LoadResult* result) {
  TANREN_ASSIGN_OR_RETURN(result->reader, CheckpointReader::Open(world, path));
  absl::StatusOr<std::vector<TensorPiece>> pieces = bind(*result->reader);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint_bind", pieces.status()));
  TANREN_ASSIGN_OR_RETURN(result->report, result->reader->Read(world, *pieces, request.read));
  return absl::OkStatus();
}

absl::StatusOr<LoadResult> LoadNewest(Comm& world, const LoadRequest& request, const Candidates& candidates,
                                      const BindPieces& bind) {
  constexpr size_t kTries = 2;
  LoadResult result;
  for (size_t i = 0; i < candidates.steps.size() && i < kTries; ++i) {
    const std::string path = absl::StrCat(request.run_dir, "/", candidates.steps[i]);
    const absl::Status status = Try(world, path, request, bind, &result);
    if (status.ok()) return result;
    if (!absl::IsDataLoss(status)) return status;
    result.reader.reset();
    result.warnings.push_back(
        absl::StrCat("checkpoint ", path, " is damaged and passed over: ", status.message()));
  }
  return absl::DataLossError(absl::StrCat(
      request.run_dir, " has checkpoints, but none of the newest ", std::min(kTries, candidates.steps.size()),
      " is valid; resume from an older one with its path, or start in another run directory\n  ",
      absl::StrJoin(result.warnings, "\n  ")));
}

}  // namespace

absl::StatusOr<LoadResult> LoadCheckpoint(Comm& world, const LoadRequest& request, const BindPieces& bind) {
  if (request.resume != "auto" && request.resume != "none") {
    LoadResult result;
    const absl::Status status = Try(world, request.resume, request, bind, &result);
    if (!status.ok()) return At("resume from " + request.resume, status);
    return result;
  }
  TANREN_ASSIGN_OR_RETURN(const Candidates candidates, Scan(world, request.run_dir));
  if (candidates.steps.empty() && !candidates.has_damaged) return LoadResult{};
  if (request.resume == "none") {
    return absl::FailedPreconditionError(
        absl::StrCat(request.run_dir, " already has checkpoints (",
                     candidates.steps.empty() ? "damaged ones only" : candidates.steps.front(),
                     "); resume with \"auto\" or choose another run directory"));
  }
  return LoadNewest(world, request, candidates, bind);
}

}  // namespace tanren
