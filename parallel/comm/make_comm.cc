#include "parallel/comm/make_comm.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/base/status.h"

namespace tanren {
namespace {

bool ShareOneNode(MPI_Comm group) {
  int size = 0;
  int node_size = 0;
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_size(group, &size);
  MPI_Comm_split_type(group, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &node_size);
  MPI_Comm_free(&node);
  int together = node_size == size ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &together, 1, MPI_INT, MPI_MIN, group);
  return together == 1;
}

enum Choice : int { kAutomatic, kMpi, kSharedMemory, kUnknown };

// Rank 0's environment decides, so that ranks with different environments still build the same communicator.
Choice ForcedChoice(MPI_Comm group) {
  const char* text = std::getenv("TANREN_COMM");
  const std::string_view value = text == nullptr ? "" : text;
  int choice = value.empty() ? kAutomatic : value == "mpi" ? kMpi : value == "shm" ? kSharedMemory : kUnknown;
  MPI_Bcast(&choice, 1, MPI_INT, 0, group);
  return static_cast<Choice>(choice);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Comm>> MakeComm(MPI_Comm group, std::string axis, const CommOptions& options) {
  int size = 0;
  MPI_Comm_size(group, &size);
  const Choice choice = ForcedChoice(group);
  if (choice == kUnknown) {
    const char* text = std::getenv("TANREN_COMM");
    return InvalidInput("TANREN_COMM=%s: expected mpi or shm, or no such variable",
                        text == nullptr ? "" : text);
  }
  if (size == 1) return MakeSoloComm(std::move(axis));
  if (choice == kMpi) return MakeMpiComm(group, std::move(axis), options);
  if (choice == kAutomatic && !ShareOneNode(group)) return MakeMpiComm(group, std::move(axis), options);

  auto shared = MakeSharedMemoryComm(group, axis, options);
  if (shared.ok() || choice == kSharedMemory) return shared;
  int rank = 0;
  MPI_Comm_rank(group, &rank);
  if (rank == 0) {
    std::fprintf(stderr,
                 "axis '%s': shared memory is not available (%s); using MPI messages, which are slower\n",
                 axis.c_str(), std::string(shared.status().message()).c_str());
  }
  return MakeMpiComm(group, std::move(axis), options);
}

}  // namespace tanren
