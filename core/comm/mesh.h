// Where this process stands: the named axes of the job and the communicators along them.
//
// Axes, outermost first: pipe, data, context, tensor. Ranks of one tensor group are adjacent, so that they
// share a node: rank = data_rank * tensor_size + tensor_rank. Pipe and context are named and must be 1.
#ifndef TANREN_CORE_COMM_MESH_H_
#define TANREN_CORE_COMM_MESH_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "core/comm/comm.h"

namespace tanren {

struct MeshShape {
  int pipe = 1;
  int data = 1;
  int context = 1;
  int tensor = 1;

  int world() const { return pipe * data * context * tensor; }
  std::string ToString() const { return absl::StrCat("data ", data, " x tensor ", tensor); }
  bool operator==(const MeshShape&) const = default;
};

// Non-owning: the communicators belong to the parallel floor's runtime and outlive every user of the mesh.
struct Mesh {
  MeshShape shape;
  Stream stream;           // the device and stream on which this rank computes
  Comm* world = nullptr;   // all ranks; also the group for agreement on errors
  Comm* data = nullptr;    // ranks with the same tensor coordinate
  Comm* tensor = nullptr;  // ranks with the same data coordinate

  int data_rank() const { return data->rank(); }
  int tensor_rank() const { return tensor->rank(); }
};

}  // namespace tanren

#endif  // TANREN_CORE_COMM_MESH_H_
