#include "core/comm/watched_comm.h"

#include <utility>

#include "core/activity/activity.h"

namespace tanren {
namespace {

class WatchedComm final : public Comm {
 public:
  WatchedComm(std::unique_ptr<Comm> comm, int group)
      : Comm(comm->axis(), comm->rank(), comm->size()),
        comm_(std::move(comm)),
        slot_(Activity::Own().AddAxis(axis(), group)) {}
  // To close is a meeting too.
  ~WatchedComm() override {
    const Inside inside(slot_, "close");
    comm_.reset();
  }

  void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) override {
    const Inside inside(slot_, name);
    comm_->AllReduce(stream, name, data, count, op);
  }
  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    const Inside inside(slot_, name);
    comm_->ReduceScatter(stream, name, in, out, count);
  }
  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    const Inside inside(slot_, name);
    comm_->AllGather(stream, name, in, out, count);
  }
  void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) override {
    const Inside inside(slot_, name);
    comm_->Broadcast(stream, name, data, count, root);
  }
  void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) override {
    const Inside inside(slot_, name, /*counted=*/false);
    comm_->Send(stream, name, data, count, to);
  }
  void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) override {
    const Inside inside(slot_, name, /*counted=*/false);
    comm_->Recv(stream, name, data, count, from);
  }
  void Barrier(const char* name) override {
    const Inside inside(slot_, name);
    comm_->Barrier(name);
  }

 private:
  struct Inside {
    Inside(int slot, const char* name, bool counted = true) : slot(slot) {
      Activity::Own().Enter(slot, name, counted);
    }
    ~Inside() { Activity::Own().Leave(slot); }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    int slot;
  };

  std::unique_ptr<Comm> comm_;
  int slot_;
};

}  // namespace

std::unique_ptr<Comm> MakeWatchedComm(std::unique_ptr<Comm> comm, int group) {
  if (comm->size() == 1) return comm;
  return std::make_unique<WatchedComm>(std::move(comm), group);
}

}  // namespace tanren
