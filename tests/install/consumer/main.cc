// Trains a tiny model through the installed headers and libraries.
#include <cstdio>

#include "core/loss/next_token.h"
#include "parallel/engine/mesh_engine.h"

int main() {
  using namespace tanren;
  const auto world = MakeSoloComm("world"), data = MakeSoloComm("data"), tensor = MakeSoloComm("tensor");
  Mesh mesh;
  mesh.world = world.get();
  mesh.data = data.get();
  mesh.tensor = tensor.get();
  ModelOptions model;
  model.shape.vocab_size = 16;
  model.shape.context_length = 32;
  model.shape.layers = 1;
  model.shape.width = 16;
  model.shape.heads = model.shape.kv_heads = 2;
  model.shape.head_dim = 8;
  model.shape.mlp_width = 32;
  EngineOptions options;
  options.models = {model};
  options.micro_batch_tokens = 128;
  const auto engine = MakeMeshEngine(options, mesh, 0);
  if (!engine.ok()) return 1;
  Unit unit;
  for (int t = 0; t < 32; ++t) {
    unit.ids.push_back(t % 5);
    unit.targets.push_back((t + 1) % 5);
    unit.mask.push_back(1);
  }
  unit.segment_lengths = {32};
  MicroBatch batch;
  if (!PackMicroBatch({unit}, 128, &batch).ok()) return 1;
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    const auto result = (*engine)->Train("policy", {&batch, 1}, NextTokenLoss(), 1e-2);
    if (!result.ok()) return 1;
    (step == 0 ? first : last) = result->loss;
  }
  std::printf("%s from %.3f to %.3f\n", last < first ? "loss fell" : "loss rose", first, last);
  return 0;
}
