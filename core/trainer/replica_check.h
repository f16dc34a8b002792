// Whether the ranks that hold the same weights hold the same bits.
//
// Data ranks of one tensor index hold the same weights, and all ranks the parameters that the tensor axis
// replicates. They are made the same by every step's all-gather and by gradients that are reduced to the same
// bits; where they are not, a memory, a link or a kernel is at fault, and every later step mixes the damage
// into the model.
#ifndef TANREN_CORE_TRAINER_REPLICA_CHECK_H_
#define TANREN_CORE_TRAINER_REPLICA_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/engine/engine.h"

namespace tanren {

// What one rank holds.
struct ReplicaDigest {
  int64_t tensor_rank = 0;
  WeightsDigest digest;
};

// The ranks whose weights differ from those of most of their peers: `digests` in the order of the world's
// ranks. Empty when all agree. Where no more than half of the peers agree, all of them are named.
std::vector<int> DeviatingRanks(const std::vector<ReplicaDigest>& digests);

// Compares the weights of each trainable model of the engine over all ranks. Internal, and the same on every
// rank, where they differ: it names the model, the ranks and their hosts. Collective.
absl::Status CheckReplicas(Engine& engine);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_REPLICA_CHECK_H_
