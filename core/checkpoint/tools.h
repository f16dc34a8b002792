// Looking at whole checkpoints, and rewriting them. One process, bounded memory, any layout.
#ifndef TANREN_CORE_CHECKPOINT_TOOLS_H_
#define TANREN_CORE_CHECKPOINT_TOOLS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/reader.h"
#include "core/checkpoint/save.h"

namespace tanren {

// Called with bytes done since the last call.
using Progress = std::function<void(int64_t bytes)>;

struct Difference {
  std::string name;         // a tensor's key, or "state KEY"
  std::string what;         // "only in A", "float32 [2, 3] and float32 [3, 2]", "3 of 100 elements differ"
  bool has_values = false;  // the next two are set
  int64_t elements = 0;     // that differ in any bit
  double max_abs_difference = 0;  // NaN where an element is NaN on one side only, or with other bits
};

// Bit by bit, whatever the two layouts. Empty: tensors and state are equal.
absl::StatusOr<std::vector<Difference>> DiffCheckpoints(const CheckpointReader& a, const CheckpointReader& b,
                                                        const Progress& progress);

// Writes the same tensors, whole, state and files to the new directory `out`, in `files` pairs of shard files
// of like size; committed by the protocol of a save. Every block read is checked. AlreadyExists when `out`
// holds something else.
absl::StatusOr<SaveReport> ReshardCheckpoint(const CheckpointReader& reader, const std::string& out,
                                             int files, const Progress& progress);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_TOOLS_H_
