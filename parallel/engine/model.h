// One named model of the engine with everything it owns.
#ifndef TANREN_PARALLEL_ENGINE_MODEL_H_
#define TANREN_PARALLEL_ENGINE_MODEL_H_

#include <memory>
#include <vector>

#include "core/engine/engine.h"
#include "core/tensor/arena.h"
#include "core/tensor/staged.h"
#include "kernels/sampling.h"

namespace tanren {

class Model;

// The device memory that offloaded models share, and which of them is in it.
struct SharedWeights {
  Arena arena;
  const Model* resident = nullptr;
};

inline constexpr char kSnapshotLabel[] = "snapshot of weights and moments";

// Where models keep their state. Weights of offloaded models: `offloaded` on the host, `shared` while in use.
struct StateArenas {
  Arena& weights;
  Arena& gradients;
  Arena& optimizer;
  Arena& offloaded;
  SharedWeights& shared;
};

class Model {
 public:
  Model(const ModelOptions& options, const EngineOptions& engine, const Mesh& mesh);

  // Each is called while planning and again after the commit of the arena. Activations share one memory among
  // the models.
  void LayoutState(StateArenas& arenas);
  void LayoutActivations(Arena& arena);
  void LayoutGeneration(Arena& arena, const EngineOptions& engine);
  void LayoutSnapshot(Arena& arena);

  // After all arenas are committed: connects the parts and sets the start values.
  void Start();

  // A parameter's weights [count], rounded to the model's dtype, from and to host memory in fp32.
  void WriteWeights(const Parameter& parameter, const float* values);
  void ReadWeights(const Parameter& parameter, float* values) const;

  // Of the weights on this rank, brought there if they are offloaded.
  WeightsDigest DigestWeights();

  // See Engine::DamageWeightsForTest().
  void DamageWeights(Engine::Damage damage);

  // Makes the decoder see weights that changed: packs them.
  void WeightsChanged();

  // To be called before the model computes: brings offloaded weights to the device, in place of another
  // model's.
  void BringWeights();
  bool offloaded() const { return offloads_; }

  ModelOptions options;
  Mesh mesh;
  ParameterSet parameters;
  Decoder decoder;
  Head head;
  std::unique_ptr<ShardedAdamW> optimizer;  // null when frozen
  Buffer weights;                           // [flat count]
  float* gradients = nullptr;               // [flat count]; null when frozen

  // Of a trainable model, host memory in the order of the optimizer's shards; without data where no snapshots
  // are planned.
  struct Snapshot {
    Buffer master, first_moment, second_moment;
  };
  Snapshot snapshot;

  Staged<uint64_t> digest;  // [1 + parameters]

  // Generation.
  KeyValueCache cache;
  float* logits_local = nullptr;     // [slots, local vocabulary]
  float* logits_gathered = nullptr;  // [tensor size, slots, local vocabulary]; null on one tensor rank
  float* logits = nullptr;           // [slots, tensor size * local vocabulary]
  Buffer sample_rows;                // [slots, width]
  Staged<kernels::SamplingParams> sampling;  // [slots]
  Staged<kernels::SampleResult> samples;     // [slots]
  Staged<kernels::TokenPenalty> penalties;   // [slots * different tokens of a sequence]
  float* plain_logits = nullptr;             // as many: what the penalties changed

 private:
  void InitializeWeights();
  int64_t weight_bytes() const { return parameters.flat_count() * SizeOf(options.dtype); }

  bool offloads_ = false;
  SharedWeights* shared_ = nullptr;
  char* host_weights_ = nullptr;  // of an offloaded model: the weights themselves
};

// The pieces of the model's state on this rank: the optimizer's shards, or a copy in fp32 for a frozen model.
std::unique_ptr<StateAccess> AccessState(Model& model);
// A copy of them in the model's snapshot memory; the same as AccessState() where there is none.
std::unique_ptr<StateAccess> SnapshotState(Model& model);

}  // namespace tanren

#endif  // TANREN_PARALLEL_ENGINE_MODEL_H_
