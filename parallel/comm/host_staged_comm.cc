#include "parallel/comm/host_staged_comm.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"
#include "kernels/device.h"

namespace tanren {
namespace {

// Page-locked memory that grows to the largest collective.
class Staging {
 public:
  Staging() = default;
  ~Staging() { kernels::FreePinned(data_); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  char* Get(int64_t bytes) {
    if (bytes > bytes_) {
      kernels::FreePinned(data_);
      bytes_ = std::max(bytes, int64_t{1} << 20);
      data_ = kernels::AllocatePinned(bytes_);
      TANREN_CHECK_MSG(data_ != nullptr, "no page-locked memory of ", bytes_, " bytes for collectives");
    }
    return static_cast<char*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

class HostStagedComm final : public Comm {
 public:
  explicit HostStagedComm(std::unique_ptr<Comm> host)
      : Comm(host->axis(), host->rank(), host->size()), host_(std::move(host)) {}

  void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) override {
    if (stream.device == Device::kCpu) return host_->AllReduce(stream, name, data, count, op);
    const Buffer staged = Down(stream, data, count);
    host_->AllReduce(Stream(), name, staged, count, op);
    Up(stream, staged, data, count);
  }

  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    if (stream.device == Device::kCpu) return host_->ReduceScatter(stream, name, in, out, count);
    const Buffer staged = Down(stream, in, count * size());
    const Buffer own = At(staged, rank() * count);
    host_->ReduceScatter(Stream(), name, staged, own, count);
    Up(stream, own, out, count);
  }

  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    if (stream.device == Device::kCpu) return host_->AllGather(stream, name, in, out, count);
    const Buffer all(staging_.Get(count * size() * SizeOf(in.dtype)), in.dtype);
    const Buffer own = At(all, rank() * count);
    kernels::CopyToHost(stream, own.data, in.data, count * SizeOf(in.dtype));
    host_->AllGather(Stream(), name, own, all, count);
    Up(stream, all, out, count * size());
  }

  void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) override {
    if (stream.device == Device::kCpu) return host_->Broadcast(stream, name, data, count, root);
    const Buffer staged = Down(stream, data, count);
    host_->Broadcast(Stream(), name, staged, count, root);
    if (rank() != root) Up(stream, staged, data, count);
  }

  void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) override {
    if (stream.device == Device::kCpu) return host_->Send(stream, name, data, count, to);
    host_->Send(Stream(), name, Down(stream, data, count), count, to);
  }

  void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) override {
    if (stream.device == Device::kCpu) return host_->Recv(stream, name, data, count, from);
    const Buffer staged(staging_.Get(count * SizeOf(data.dtype)), data.dtype);
    host_->Recv(Stream(), name, staged, count, from);
    Up(stream, staged, data, count);
  }

  void Barrier(const char* name) override { host_->Barrier(name); }

 private:
  static Buffer At(Buffer buffer, int64_t element) {
    return Buffer(buffer.as<char>() + element * SizeOf(buffer.dtype), buffer.dtype);
  }

  Buffer Down(const Stream& stream, ConstBuffer data, int64_t count) {
    const int64_t bytes = count * SizeOf(data.dtype);
    char* staged = staging_.Get(bytes);
    kernels::CopyToHost(stream, staged, data.data, bytes);
    return Buffer(staged, data.dtype);
  }

  // Waits, so that the staging memory may be used again.
  static void Up(const Stream& stream, Buffer staged, Buffer data, int64_t count) {
    kernels::CopyToDevice(stream, data.data, staged.data, count * SizeOf(data.dtype));
    kernels::Synchronize(stream);
  }

  std::unique_ptr<Comm> host_;
  Staging staging_;
};

}  // namespace

std::unique_ptr<Comm> MakeHostStagedComm(std::unique_ptr<Comm> host) {
  return std::make_unique<HostStagedComm>(std::move(host));
}

}  // namespace tanren
