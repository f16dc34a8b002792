// Collectives of GPU buffers by NCCL, one GPU a rank.
//
// Bootstrapped over the host communicator, which also serves calls on a CPU stream. NCCL orders a reduction
// as its ring or tree goes, not by rank: the same layout gives the same bits, another number of ranks does
// not (see Comm).
//
// With TANREN_COMM_CHECK=1 every call is first compared across the ranks on the host, so that a rank that
// calls another collective is reported by name instead of hanging; it costs a host exchange a call.
#ifndef TANREN_PARALLEL_COMM_NCCL_COMM_H_
#define TANREN_PARALLEL_COMM_NCCL_COMM_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/comm/comm.h"

namespace tanren {

// False in a build without NCCL.
bool HasNccl();

// Collective over `host`. The calling thread's current device is the rank's; two ranks of one device are an
// error.
absl::StatusOr<std::unique_ptr<Comm>> MakeNcclComm(std::unique_ptr<Comm> host);

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_NCCL_COMM_H_
