// A part of a global tensor in this rank's memory: what is saved, and what is to be filled on load.
#ifndef TANREN_CORE_CHECKPOINT_PIECE_H_
#define TANREN_CORE_CHECKPOINT_PIECE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/region.h"

namespace tanren {

// Elements [range_begin, range_end), counted row-major, of `box`, at `data` in host memory. A tensor-parallel
// shard is a box (offset at the rank's first row or column, padding cut off); a ZeRO piece is a range of that
// box; a piece with no elements is allowed and only says that the tensor exists. Saving reads `data`, loading
// writes it; the memory stays the caller's.
struct TensorPiece {
  std::string model;
  std::string name;
  Role role = Role::kWeight;
  DType dtype = DType::kF32;
  std::vector<int64_t> global_shape;
  Box box;
  int64_t range_begin = 0;
  int64_t range_end = 0;
  void* data = nullptr;

  // The whole tensor, or a whole box of it.
  static TensorPiece Whole(std::string model, std::string name, Role role, DType dtype,
                           std::vector<int64_t> shape, void* data) {
    Box box = Box::Whole(shape);
    return OfBox(std::move(model), std::move(name), role, dtype, std::move(shape), std::move(box), data);
  }
  static TensorPiece OfBox(std::string model, std::string name, Role role, DType dtype,
                           std::vector<int64_t> shape, Box box, void* data) {
    const int64_t elements = box.elements();
    return TensorPiece{
        std::move(model), std::move(name), role, dtype, std::move(shape), std::move(box), 0, elements, data};
  }

  TensorInfo info() const { return TensorInfo{model, name, role, dtype, global_shape}; }
  Region region() const { return Region{box, range_begin, range_end}; }
  int64_t elements() const { return range_end - range_begin; }
  int64_t bytes() const { return elements() * SizeOf(dtype); }
};

// Writes the elements of `part`, a range of a piece whose own `data` is null, to part.data: the way out for
// tensors that are not in host memory. `part` holds at most kStagingBytes.
using ProducePart = std::function<absl::Status(const TensorPiece& part)>;
inline constexpr int64_t kStagingBytes = int64_t{32} << 20;

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_PIECE_H_
