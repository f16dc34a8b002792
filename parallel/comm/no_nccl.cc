#include "core/base/status.h"
#include "parallel/comm/nccl_comm.h"

namespace tanren {

bool HasNccl() { return false; }

absl::StatusOr<std::unique_ptr<Comm>> MakeNcclComm(std::unique_ptr<Comm>) {
  return absl::UnimplementedError("this binary was built without NCCL");
}

}  // namespace tanren
