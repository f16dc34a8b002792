// Faults on demand: the seam through which tests break a save or a step at a named point.
//
// TANREN_FAULT="AREA:POINT:ACTION[:rank=R][:hit=N]", several joined by commas. Of AREA save, POINT is one of
//   open  write  fsync  manifest  commit  rename  parent  latest  prune
// ("write" is reached when half of a shard file is written). ACTION is one of
//   kill     the process ends by SIGKILL, as from outside
//   eio      the operation fails with EIO
//   enospc   the operation fails with ENOSPC
//   short    the operation (a write) stores half of its bytes and then makes no progress
//   partial  the operation (a write) stores half of its bytes once; a correct writer goes on
//   fsync    the same as eio, for the point "fsync"
//   delay    the operation comes 0.3 s later, so that steps go on beside a save
// Of AREA step there is the point "replica", reached behind each step, with the action
//   flip     one bit of this rank's copy of the weights of the first model changes
//   nan      one of them is not a number any more
// and, with the action kill, where the rank begins each of
//   forward  backward  optimizer  rollout  collective
// With rank=R only that rank of the world is hit; with hit=N (from 1) only the Nth time the point is reached,
// else every time.
#ifndef TANREN_CORE_CHECKPOINT_FAULT_H_
#define TANREN_CORE_CHECKPOINT_FAULT_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

enum class FaultAction { kNone, kKill, kEio, kEnospc, kShort, kPartial, kDelay, kFlip, kNaN };

class FaultPlan {
 public:
  FaultPlan() = default;
  static absl::StatusOr<FaultPlan> Parse(std::string_view text);
  // The plan in TANREN_FAULT; a malformed one ends the process, so that no test passes for want of its fault.
  static FaultPlan FromEnvironment();

  void set_rank(int rank) { rank_ = rank; }
  bool empty() const { return faults_.empty(); }

  // Called at each point. Does not return for kKill.
  FaultAction Hit(std::string_view point);

 private:
  struct Fault {
    std::string point;
    FaultAction action = FaultAction::kNone;
    int rank = -1;
    int hit = 0;
    int seen = 0;
  };
  std::vector<Fault> faults_;
  int rank_ = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_FAULT_H_
