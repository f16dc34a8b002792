#include "core/trainer/replica_check.h"

#include <algorithm>
#include <map>

#include "core/base/status.h"
#include "core/report/machine_info.h"

namespace tanren {
namespace {

// Adds to `deviating` the members whose value is not that of more than half of them.
void FindDeviating(const std::vector<std::pair<int, uint64_t>>& members, std::vector<int>* deviating) {
  std::map<uint64_t, size_t> counts;
  for (const auto& [rank, value] : members) ++counts[value];
  if (counts.size() == 1) return;
  const auto most = std::ranges::max_element(counts, {}, &std::pair<const uint64_t, size_t>::second);
  const bool clear = most->second * 2 > members.size();
  for (const auto& [rank, value] : members) {
    if (!clear || value != most->first) deviating->push_back(rank);
  }
}

}  // namespace

std::vector<int> DeviatingRanks(const std::vector<ReplicaDigest>& digests) {
  std::map<int64_t, std::vector<std::pair<int, uint64_t>>> of_tensor_rank;
  std::vector<std::pair<int, uint64_t>> replicated;
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    const ReplicaDigest& one = digests[rank];
    of_tensor_rank[one.tensor_rank].emplace_back(rank, one.digest.own);
    replicated.emplace_back(rank, one.digest.replicated);
  }
  std::vector<int> deviating;
  FindDeviating(replicated, &deviating);
  for (const auto& [tensor_rank, members] : of_tensor_rank) FindDeviating(members, &deviating);
  std::ranges::sort(deviating);
  const auto repeated = std::ranges::unique(deviating);
  deviating.erase(repeated.begin(), repeated.end());
  return deviating;
}

absl::Status CheckReplicas(Engine& engine) {
  Comm& world = *engine.mesh().world;
  for (const ModelOptions& model : engine.options().models) {
    if (!model.trainable) continue;
    const ReplicaDigest own{engine.mesh().tensor_rank(), engine.DigestWeights(model.name)};
    std::vector<ReplicaDigest> all(world.size());
    world.AllGather(Stream(), "replica digests", ConstBuffer(&own, DType::kU8),
                    Buffer(all.data(), DType::kU8), sizeof(ReplicaDigest));
    const std::vector<int> deviating = DeviatingRanks(all);
    if (deviating.empty()) continue;
    const std::vector<std::string> hosts = AllGatherStrings(world, "hosts", HostName());
    std::string who;
    for (const int rank : deviating) {
      absl::StrAppend(&who, who.empty() ? "" : ", ", "rank ", rank, " on ", hosts[rank]);
    }
    return absl::InternalError(absl::StrCat(
        "the weights of model ", model.name,
        " are not the same on the ranks that hold them; not as on most: ", who,
        ". A memory or a link is faulty, or a kernel does not repeat its results. Nothing of this is saved: "
        "run again, without that host, to go on from the newest commit"));
  }
  return absl::OkStatus();
}

}  // namespace tanren
