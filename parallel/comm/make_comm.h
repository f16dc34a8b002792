// Communicators for CPU memory over an MPI communicator, and the choice between them.
#ifndef TANREN_PARALLEL_COMM_MAKE_COMM_H_
#define TANREN_PARALLEL_COMM_MAKE_COMM_H_

#include <mpi.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/comm/comm.h"
#include "parallel/comm/wait.h"

namespace tanren {

struct CommOptions {
  // The ranks of this node outnumber its cores: wait politely.
  bool crowded = false;
  // OpenMP threads one rank may use for copies and sums of large buffers.
  int threads = 1;
  WaitLimits limits = WaitLimits::FromEnvironment();
};

// All of these are collective over `group`, which the result duplicates; the caller keeps `group`. Destroying
// a communicator is collective too, and must happen before MPI_Finalize.

// Serves ranks on any nodes.
std::unique_ptr<Comm> MakeMpiComm(MPI_Comm group, std::string axis, const CommOptions& options);

// Serves ranks of one node through a shared anonymous file (memfd: nothing to clean up after kill -9, and
// independent of the size of /dev/shm). An error, the same on all ranks, when the ranks cannot map it: they
// are on several nodes, or in separate PID namespaces.
absl::StatusOr<std::unique_ptr<Comm>> MakeSharedMemoryComm(MPI_Comm group, std::string axis,
                                                           const CommOptions& options);

// A group of one needs nothing; ranks that share a node use shared memory; others MPI. The environment
// variable TANREN_COMM=mpi|shm forces one. Shared memory that was not forced and is not to be had falls back
// to MPI with a line on stderr.
absl::StatusOr<std::unique_ptr<Comm>> MakeComm(MPI_Comm group, std::string axis, const CommOptions& options);

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_MAKE_COMM_H_
