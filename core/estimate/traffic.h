// What the ranks of a training step send each other, counted from the shapes: nothing runs.
//
// The counts are those of this engine's collectives, call by call; engine_mpi/traffic_test.cc compares them
// with a real step's. Bytes sent are those of a ring: a gather or scatter of a tensor over n ranks sends (n -
// 1) / n of it from each rank, an all-reduce twice that (Patarasuk and Yuan 2009).
#ifndef TANREN_CORE_ESTIMATE_TRAFFIC_H_
#define TANREN_CORE_ESTIMATE_TRAFFIC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/comm/mesh.h"
#include "core/engine/engine.h"

namespace tanren {

// Calls of one name on one axis, in one optimizer step of one rank.
struct Traffic {
  std::string axis;  // "data" or "tensor"
  std::string name;  // the collective's
  int64_t calls = 0;
  int64_t tensor_bytes = 0;  // of the whole tensors, all calls together
  bool all_reduce = false;

  // That a rank sends to its neighbour, with `size` ranks on the axis.
  double SentBytes(int size) const {
    return (all_reduce ? 2.0 : 1.0) * static_cast<double>(tensor_bytes) * (size - 1) / size;
  }
};

// What a step consists of, for one rank.
struct StepShape {
  int64_t micro_batches = 0;   // that this rank computes
  int64_t tokens = 0;          // rows of each, with padding
  int64_t trained_tokens = 0;  // of each, whose logits are made
};

// One step of Engine::Train on a trainable model: tensors only, not the few numbers that ranks agree on.
std::vector<Traffic> TrainTraffic(const ModelOptions& model, const EngineOptions& engine,
                                  const MeshShape& mesh, const StepShape& step);
// One forward pass of each micro-batch with the statistics of its trained tokens.
std::vector<Traffic> ScoreTraffic(const ModelOptions& model, const EngineOptions& engine,
                                  const MeshShape& mesh, const StepShape& step);

}  // namespace tanren

#endif  // TANREN_CORE_ESTIMATE_TRAFFIC_H_
