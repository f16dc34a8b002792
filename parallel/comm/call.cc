#include "parallel/comm/call.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "core/base/status.h"
#include "parallel/watchdog/watchdog.h"

namespace tanren {
namespace {

const char* NameOf(CallKind kind) {
  switch (kind) {
    case CallKind::kNone:
      return "nothing";
    case CallKind::kAllReduce:
      return "all-reduce";
    case CallKind::kReduceScatter:
      return "reduce-scatter";
    case CallKind::kAllGather:
      return "all-gather";
    case CallKind::kBroadcast:
      return "broadcast";
    case CallKind::kBarrier:
      return "barrier";
    case CallKind::kSendRecv:
      return "send and receive";
    case CallKind::kClose:
      return "close";
  }
  return "?";
}

const char* NameOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
  }
  return "?";
}

// FNV-1a, 64 bits.
uint64_t HashName(const char* name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *name != '\0'; ++name) hash = (hash ^ static_cast<uint8_t>(*name)) * 0x100000001b3u;
  return hash;
}

}  // namespace

Call Call::Make(CallKind kind, const char* name, DType dtype, int64_t count, ReduceOp op, int root) {
  Call call;
  call.kind = kind;
  call.dtype = dtype;
  call.op = op;
  call.root = root;
  call.count = count;
  call.name_hash = HashName(name);
  std::strncpy(call.name, name, sizeof(call.name) - 1);
  return call;
}

bool Call::Matches(const Call& other) const {
  return sequence == other.sequence && count == other.count && name_hash == other.name_hash &&
         root == other.root && kind == other.kind && dtype == other.dtype && op == other.op;
}

std::string Call::ToString() const {
  if (kind == CallKind::kNone) return "nothing yet";
  std::string text = absl::StrFormat("#%d '%s' (%s", sequence, name, NameOf(kind));
  if (kind == CallKind::kAllReduce) absl::StrAppend(&text, " ", NameOf(op));
  if (kind == CallKind::kBroadcast) absl::StrAppend(&text, " from rank ", root);
  if (kind != CallKind::kBarrier && kind != CallKind::kClose) {
    absl::StrAppend(&text, ", ", count, " ", tanren::NameOf(dtype));
  }
  return text + ")";
}

void EndJob(int exit_code) {
  std::fflush(stdout);
  std::fflush(stderr);
  AnnounceEndToWatchdog();
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized != 0 && finalized == 0) MPI_Abort(MPI_COMM_WORLD, exit_code);
  _exit(exit_code);
}

void WarnComm(const Comm& comm, const std::string& problem) {
  // One write per line, so that lines of several ranks do not mix.
  const std::string line = absl::StrFormat("rank %d of axis '%s': %s\n", comm.rank(), comm.axis(), problem);
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

void FailComm(const Comm& comm, const std::string& problem) {
  WarnComm(comm, problem);
  EndJob(1);
}

void FailMismatch(const Comm& comm, const Call& own, int peer, const Call& theirs) {
  FailComm(comm,
           absl::StrCat("collective ", own.ToString(), " but rank ", peer, " called ", theirs.ToString()));
}

void ValidateCall(const Comm& comm, const Stream& stream, const char* name, ConstBuffer data, int64_t count,
                  bool reduces) {
  TANREN_CHECK_MSG(stream.device == Device::kCpu, "collective '", name, "' of axis '", comm.axis(),
                   "' got a device buffer, but this group serves CPU memory");
  TANREN_CHECK_MSG(count >= 0, "collective '", name, "' of axis '", comm.axis(), "' with count ", count);
  TANREN_CHECK_MSG(count == 0 || data, "collective '", name, "' of axis '", comm.axis(),
                   "' without a buffer");
  TANREN_CHECK_MSG(!reduces || data.dtype != DType::kF16, "collective '", name, "' of axis '", comm.axis(),
                   "' reduces float16, which has no sum here; use bfloat16 or float32");
}

}  // namespace tanren
