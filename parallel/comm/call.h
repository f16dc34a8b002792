// What a rank says about a collective it enters, so that ranks which left the common order are named.
#ifndef TANREN_PARALLEL_COMM_CALL_H_
#define TANREN_PARALLEL_COMM_CALL_H_

#include <mpi.h>

#include <cstdint>
#include <string>

#include "core/comm/comm.h"

namespace tanren {

enum class CallKind : uint8_t {
  kNone,
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kBarrier,
  kSendRecv,
  kClose
};

// Plain bytes: it lies in shared memory and travels in messages. Names longer than the field are compared by
// their hash.
struct Call {
  uint64_t sequence = 0;
  int64_t count = 0;
  uint64_t name_hash = 0;
  int32_t root = 0;
  CallKind kind = CallKind::kNone;
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  char name[65] = {};

  static Call Make(CallKind kind, const char* name, DType dtype, int64_t count, ReduceOp op = ReduceOp::kSum,
                   int root = 0);
  bool Matches(const Call& other) const;
  // #17 'head_max' (all-reduce max, 4096 float32)
  std::string ToString() const;
};
static_assert(sizeof(Call) <= 128);

// Names the two ranks and their calls on stderr and ends the job with exit code 1.
[[noreturn]] void FailMismatch(const Comm& comm, const Call& own, int peer, const Call& theirs);

// Prints "rank R of axis 'A': <problem>" and ends the job with exit code 1.
[[noreturn]] void FailComm(const Comm& comm, const std::string& problem);

// The same line without an end.
void WarnComm(const Comm& comm, const std::string& problem);

// Ends every rank of the job: MPI_Abort where MPI runs. Never returns, and runs no destructors: peers may be
// stuck.
[[noreturn]] void EndJob(int exit_code);

// Checks what every implementation demands of a call's arguments; aborts on a caller's bug.
void ValidateCall(const Comm& comm, const Stream& stream, const char* name, ConstBuffer data, int64_t count,
                  bool reduces);

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_CALL_H_
