// The engine's state as the checkpoint's pieces.
#ifndef TANREN_CORE_TRAINER_PIECES_H_
#define TANREN_CORE_TRAINER_PIECES_H_

#include <span>
#include <vector>

#include "core/checkpoint/piece.h"
#include "core/engine/engine.h"

namespace tanren {

// The same memory under the checkpoint's names.
std::vector<TensorPiece> ToTensorPieces(std::span<const StatePiece> pieces);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_PIECES_H_
