// A mesh that exists on paper: to plan the memory of any rank of any layout in one process.
#ifndef TANREN_PARALLEL_ENGINE_PLANNING_H_
#define TANREN_PARALLEL_ENGINE_PLANNING_H_

#include <memory>

#include "core/comm/mesh.h"

namespace tanren {

// Owns the communicators of a mesh on paper. They have a rank and a size and abort on any collective.
class PaperMesh {
 public:
  // `rank` of shape.world().
  PaperMesh(const MeshShape& shape, int rank);

  const Mesh& mesh() const { return mesh_; }

 private:
  std::unique_ptr<Comm> world_;
  std::unique_ptr<Comm> data_;
  std::unique_ptr<Comm> tensor_;
  Mesh mesh_;
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_ENGINE_PLANNING_H_
