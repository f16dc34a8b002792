// What a run starts from.
#ifndef TANREN_CORE_CHECKPOINT_RESUME_H_
#define TANREN_CORE_CHECKPOINT_RESUME_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/reader.h"

namespace tanren {

struct LoadRequest {
  std::string run_dir;
  // "auto": the newest commit, or a fresh start where the run directory has no checkpoint; falls back one
  // commit when the newest is damaged. "none": a fresh start, refused where the run directory has
  // checkpoints. Else a step directory: that one and no other.
  std::string resume = "auto";
  ReadOptions read;
};

struct LoadResult {
  std::unique_ptr<CheckpointReader> reader;  // null: a fresh start
  ReadReport report;
  std::vector<std::string> warnings;  // what was damaged and passed over
};

// Opens the checkpoint that `request` chooses and fills the pieces that `bind` names, with all data read
// once. Collective; the outcome and the choice are the same on all ranks. `bind` is called on every rank for
// each checkpoint that is tried (twice at most) and returns this rank's pieces; it may look at the reader's
// manifest and state, and must not act on them yet. Damage found while reading falls back just as damage
// found while opening. A run directory that has checkpoints but none valid among the newest two is an error,
// never a fresh start; so are errors that are not damage (a shape that differs, a permission, a later
// schema).
using BindPieces = std::function<absl::StatusOr<std::vector<TensorPiece>>(const CheckpointReader& reader)>;
absl::StatusOr<LoadResult> LoadCheckpoint(Comm& world, const LoadRequest& request, const BindPieces& bind);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_RESUME_H_
