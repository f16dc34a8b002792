// Collectives of GPU buffers through host memory: copy down, exchange as on the CPU, copy up.
//
// Slow, and right everywhere: several ranks may share one GPU, and no NCCL is needed.
#ifndef TANREN_PARALLEL_COMM_HOST_STAGED_COMM_H_
#define TANREN_PARALLEL_COMM_HOST_STAGED_COMM_H_

#include <memory>

#include "core/comm/comm.h"

namespace tanren {

// Takes over `host`, which serves CPU memory. Calls on a CPU stream go to it as they are.
std::unique_ptr<Comm> MakeHostStagedComm(std::unique_ptr<Comm> host);

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_HOST_STAGED_COMM_H_
