// What all ranks must have in common before a run begins: the program, the configuration, the run's directory
// and, near enough, the clock. Each difference is found at the start, on the rank that has it, with the line
// that mends it.
#ifndef TANREN_CORE_TRAINER_LAUNCH_AGREEMENT_H_
#define TANREN_CORE_TRAINER_LAUNCH_AGREEMENT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/comm/comm.h"
#include "core/comm/mesh.h"
#include "core/proto/config.pb.h"

namespace tanren {

// Collective. Every rank runs the same binary, by the linker's hash of it. Nothing is known of binaries that
// have none.
absl::Status AgreeBuild(Comm& world);

// Collective. Every rank read the same configuration; an error names the keys that differ and both values.
absl::Status AgreeConfig(Comm& world, const config::Config& config);
// "optimizer.learning_rate: 0.001 and not 0.003; ..." of the first few keys where `own` differs from `first`;
// empty where they are equal.
std::string DifferentKeys(const config::Config& own, const config::Config& first);

// Collective. Makes the directory on rank 0, leaves a mark in it for as long as the call lasts, and waits up
// to `patience_seconds` on each rank until it sees the mark: network file systems may show it late.
absl::Status AgreeDirectory(Comm& world, const std::string& directory, double patience_seconds = 10);

// Where a rank is.
struct RankPlace {
  std::string host;
  int pid = 0;
  std::string device;  // "GPU 0000:1B:00.0, NVIDIA H100 80GB HBM3", or its processors
  double clock = 0;    // seconds since 1970, read by all ranks at one moment (after a barrier)
};
// Collective: every rank's place, by rank, on all ranks.
std::vector<RankPlace> GatherPlaces(Comm& world, const std::string& device);
// A line a rank: number, place in the mesh, host, process, device. Of more than 64 ranks, a line a host.
std::string RankTable(const std::vector<RankPlace>& places, const MeshShape& shape);
// Sentences about clocks that differ by more than `most_seconds` from rank 0's, a host once, and about GPUs
// that several ranks share.
std::vector<std::string> PlaceWarnings(const std::vector<RankPlace>& places, double most_seconds = 2);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_LAUNCH_AGREEMENT_H_
