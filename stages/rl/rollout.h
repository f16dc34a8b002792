// The answers of one rollout with everything that is learnt from them: what PPO's epochs go over.
//
// Rank-free: every rank holds the whole rollout, so it is saved and restored at any layout, and figures over
// all of it (whitening, groups) are the same everywhere. What is expensive, the passes through the models, is
// dealt to data ranks micro-batch by micro-batch and gathered.
#ifndef TANREN_STAGES_RL_ROLLOUT_H_
#define TANREN_STAGES_RL_ROLLOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/comm/mesh.h"
#include "core/data/batch.h"

namespace tanren {

// One sampled answer. The unit is one segment of prompt and answer, all tokens being inputs; the answer's
// tokens are the trained targets.
struct RolloutAnswer {
  Unit unit;
  int64_t group = 0;   // answers to one prompt share it
  bool ended = false;  // with an end of turn; else cut off
  int64_t prompt_tokens = 0;

  int64_t trained_tokens() const { return unit.tokens() - prompt_tokens; }
};

struct Rollout {
  std::vector<RolloutAnswer> answers;
  std::vector<std::vector<int32_t>> micro_batches;  // indices of answers: first fit in order

  // Cuts the answers into micro-batches. InvalidArgument when one exceeds the capacity.
  absl::Status Pack(int64_t capacity);
  // The micro-batch `index`, with the columns that the answers' units have now.
  absl::StatusOr<MicroBatch> Make(int32_t index, int64_t capacity) const;

  std::string SaveState() const;
  // InvalidArgument for bytes that are no rollout.
  static absl::StatusOr<Rollout> FromState(const std::string& state);
};

// A unit from a prompt and its answer.
RolloutAnswer MakeAnswer(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer, bool ended,
                         int64_t group);

// Minibatches of one epoch: the micro-batches in an order drawn from (seed, stream), divided as evenly as
// possible into at most `count` groups that are not empty.
std::vector<std::vector<int32_t>> DivideEpoch(int64_t micro_batches, int64_t count, uint64_t seed,
                                              uint64_t stream);

}  // namespace tanren

#endif  // TANREN_STAGES_RL_ROLLOUT_H_
