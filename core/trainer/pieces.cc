#include "core/trainer/pieces.h"

namespace tanren {
namespace {

Role RoleOf(StatePiece::Role role) {
  switch (role) {
    case StatePiece::Role::kWeight:
      return Role::kWeight;
    case StatePiece::Role::kFirstMoment:
      return Role::kFirstMoment;
    case StatePiece::Role::kSecondMoment:
      return Role::kSecondMoment;
  }
  return Role::kWeight;
}

}  // namespace

std::vector<TensorPiece> ToTensorPieces(std::span<const StatePiece> pieces) {
  std::vector<TensorPiece> out;
  out.reserve(pieces.size());
  for (const StatePiece& piece : pieces) {
    out.push_back(TensorPiece{piece.model, piece.name, RoleOf(piece.role), piece.data.dtype, piece.shape,
                              Box{piece.box_begin, piece.box_size}, piece.range_begin, piece.range_end,
                              piece.data.data});
  }
  return out;
}

}  // namespace tanren
