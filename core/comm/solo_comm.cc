// The group of one. It validates as strictly as the real groups do, so that a caller's mistake shows on a
// laptop.
#include "core/base/status.h"
#include "core/comm/comm.h"
#include "kernels/device.h"

namespace tanren {
namespace {

class SoloComm final : public Comm {
 public:
  explicit SoloComm(std::string axis) : Comm(std::move(axis), 0, 1) {}

  void AllReduce(const Stream&, const char* name, Buffer data, int64_t count, ReduceOp) override {
    Validate(name, data, count);
  }

  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    Validate(name, in, count);
    Copy(stream, name, in, out, count);
  }

  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    Validate(name, in, count);
    Copy(stream, name, in, out, count);
  }

  void Broadcast(const Stream&, const char* name, Buffer data, int64_t count, int root) override {
    Validate(name, data, count);
    TANREN_CHECK_MSG(root == 0, "broadcast '", name, "' from rank ", root, " in the group of one '", axis(),
                     "'");
  }

  void Send(const Stream&, const char* name, ConstBuffer, int64_t, int to) override {
    TANREN_CHECK_MSG(false, "send '", name, "' to rank ", to, " in the group of one '", axis(), "'");
  }

  void Recv(const Stream&, const char* name, Buffer, int64_t, int from) override {
    TANREN_CHECK_MSG(false, "receive '", name, "' from rank ", from, " in the group of one '", axis(), "'");
  }

  void Barrier(const char*) override {}

 private:
  static void Validate(const char* name, ConstBuffer data, int64_t count) {
    TANREN_CHECK_MSG(count >= 0, "collective '", name, "' with count ", count);
    TANREN_CHECK_MSG(count == 0 || data, "collective '", name, "' of ", count, " elements without a buffer");
  }

  static void Copy(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) {
    TANREN_CHECK_MSG(in.dtype == out.dtype, "collective '", name, "' from ", NameOf(in.dtype), " to ",
                     NameOf(out.dtype));
    if (count == 0 || in.data == out.data) return;
    const int64_t bytes = count * SizeOf(in.dtype);
    kernels::CopyRows(stream, 1, bytes, out.data, bytes, in.data, bytes);
  }
};

}  // namespace

std::unique_ptr<Comm> MakeSoloComm(std::string axis) { return std::make_unique<SoloComm>(std::move(axis)); }

}  // namespace tanren
