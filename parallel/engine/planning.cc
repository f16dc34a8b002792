#include "parallel/engine/planning.h"

#include "core/base/status.h"

namespace tanren {
namespace {

class PaperComm final : public Comm {
 public:
  PaperComm(std::string axis, int rank, int size) : Comm(std::move(axis), rank, size) {}
  void AllReduce(const Stream&, const char* name, Buffer, int64_t, ReduceOp) override { Refuse(name); }
  void ReduceScatter(const Stream&, const char* name, ConstBuffer, Buffer, int64_t) override { Refuse(name); }
  void AllGather(const Stream&, const char* name, ConstBuffer, Buffer, int64_t) override { Refuse(name); }
  void Broadcast(const Stream&, const char* name, Buffer, int64_t, int) override { Refuse(name); }
  void Send(const Stream&, const char* name, ConstBuffer, int64_t, int) override { Refuse(name); }
  void Recv(const Stream&, const char* name, Buffer, int64_t, int) override { Refuse(name); }
  void Barrier(const char* name) override { Refuse(name); }

 private:
  void Refuse(const char* name) {
    TANREN_CHECK_MSG(false, "collective ", name, " on a mesh that exists on paper only");
  }
};

}  // namespace

PaperMesh::PaperMesh(const MeshShape& shape, int rank)
    : world_(std::make_unique<PaperComm>("world", rank, shape.world())),
      data_(std::make_unique<PaperComm>("data", rank / shape.tensor, shape.data)),
      tensor_(std::make_unique<PaperComm>("tensor", rank % shape.tensor, shape.tensor)) {
  mesh_.shape = shape;
  mesh_.world = world_.get();
  mesh_.data = data_.get();
  mesh_.tensor = tensor_.get();
}

}  // namespace tanren
