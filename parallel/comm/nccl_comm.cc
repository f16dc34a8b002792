#include "parallel/comm/nccl_comm.h"

#include <nccl.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "kernels/device.h"
#include "parallel/comm/call.h"

namespace tanren {
namespace {

ncclDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kF16:
      return ncclFloat16;
    case DType::kF64:
      return ncclFloat64;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
    case DType::kU8:
      return ncclUint8;
  }
  return ncclUint8;
}

ncclRedOp_t OperationOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMax:
      return ncclMax;
    case ReduceOp::kMin:
      return ncclMin;
  }
  return ncclSum;
}

cudaStream_t HandleOf(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle); }

class NcclComm final : public Comm {
 public:
  NcclComm(std::unique_ptr<Comm> host, ncclComm_t nccl)
      : Comm(host->axis(), host->rank(), host->size()), host_(std::move(host)), nccl_(nccl) {
    const char* check = std::getenv("TANREN_COMM_CHECK");
    checks_ = check != nullptr && check[0] == '1';
  }
  ~NcclComm() override { ncclCommDestroy(nccl_); }

  void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) override {
    if (stream.device == Device::kCpu) return host_->AllReduce(stream, name, data, count, op);
    Begin(Call::Make(CallKind::kAllReduce, name, data.dtype, count, op));
    End(ncclAllReduce(data.data, data.data, count, TypeOf(data.dtype), OperationOf(op), nccl_,
                      HandleOf(stream)));
  }

  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    if (stream.device == Device::kCpu) return host_->ReduceScatter(stream, name, in, out, count);
    Begin(Call::Make(CallKind::kReduceScatter, name, in.dtype, count));
    End(ncclReduceScatter(in.data, out.data, count, TypeOf(in.dtype), ncclSum, nccl_, HandleOf(stream)));
  }

  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    if (stream.device == Device::kCpu) return host_->AllGather(stream, name, in, out, count);
    Begin(Call::Make(CallKind::kAllGather, name, in.dtype, count));
    End(ncclAllGather(in.data, out.data, count, TypeOf(in.dtype), nccl_, HandleOf(stream)));
  }

  void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) override {
    if (stream.device == Device::kCpu) return host_->Broadcast(stream, name, data, count, root);
    Begin(Call::Make(CallKind::kBroadcast, name, data.dtype, count, ReduceOp::kSum, root));
    End(ncclBroadcast(data.data, data.data, count, TypeOf(data.dtype), root, nccl_, HandleOf(stream)));
  }

  void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) override {
    if (stream.device == Device::kCpu) return host_->Send(stream, name, data, count, to);
    call_ = Call::Make(CallKind::kSendRecv, name, data.dtype, count);
    End(ncclSend(data.data, count, TypeOf(data.dtype), to, nccl_, HandleOf(stream)));
  }

  void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) override {
    if (stream.device == Device::kCpu) return host_->Recv(stream, name, data, count, from);
    call_ = Call::Make(CallKind::kSendRecv, name, data.dtype, count);
    End(ncclRecv(data.data, count, TypeOf(data.dtype), from, nccl_, HandleOf(stream)));
  }

  void Barrier(const char* name) override { host_->Barrier(name); }

 private:
  void Begin(const Call& call) {
    call_ = call;
    call_.sequence = ++sequence_;
    if (!checks_) return;
    std::vector<uint8_t> all(sizeof(Call) * size());
    host_->AllGather(Stream(), "call check", ConstBuffer(reinterpret_cast<const uint8_t*>(&call_)),
                     Buffer(all.data()), sizeof(Call));
    const Call* calls = reinterpret_cast<const Call*>(all.data());
    for (int peer = 0; peer < size(); ++peer) {
      if (!call_.Matches(calls[peer])) FailMismatch(*this, call_, peer, calls[peer]);
    }
  }

  void End(ncclResult_t result) {
    if (result == ncclSuccess) return;
    FailComm(*this, absl::StrCat("collective ", call_.ToString(), " failed in NCCL: ",
                                 ncclGetErrorString(result), "; ", ncclGetLastError(nccl_)));
  }

  std::unique_ptr<Comm> host_;
  ncclComm_t nccl_;
  bool checks_ = false;
  uint64_t sequence_ = 0;
  Call call_;
};

}  // namespace

bool HasNccl() { return true; }

absl::StatusOr<std::unique_ptr<Comm>> MakeNcclComm(std::unique_ptr<Comm> host) {
  ncclUniqueId id = {};
  absl::Status made;
  if (host->rank() == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) {
      made = absl::InternalError(
          absl::StrCat("ncclGetUniqueId: ", ncclGetErrorString(result), "; ", ncclGetLastError(nullptr)));
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*host, "NCCL start", made));
  host->Broadcast(Stream(), "NCCL id", Buffer(reinterpret_cast<uint8_t*>(&id)), sizeof(id), 0);
  ncclComm_t nccl = nullptr;
  const ncclResult_t result = ncclCommInitRank(&nccl, host->size(), id, host->rank());
  if (result != ncclSuccess) {
    made = absl::InternalError(absl::StrCat("axis '", host->axis(),
                                            "': NCCL cannot start: ", ncclGetErrorString(result), "; ",
                                            ncclGetLastError(nullptr), " (NCCL_DEBUG=INFO shows more)"));
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*host, "NCCL start", made));
  return std::make_unique<NcclComm>(std::move(host), nccl);
}

}  // namespace tanren
