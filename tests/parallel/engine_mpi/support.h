// Engines on this job's mesh and, beside them, on one rank alone: the reference that every layout must match.
#ifndef TANREN_TESTS_PARALLEL_ENGINE_MPI_SUPPORT_H_
#define TANREN_TESTS_PARALLEL_ENGINE_MPI_SUPPORT_H_

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/source.h"
#include "core/engine/engine.h"
#include "parallel/engine/mesh_engine.h"
#include "parallel/runtime/runtime.h"

namespace tanren {

// The job's runtime; its mesh has the tensor size of TANREN_TEST_TENSOR.
Runtime& TestRuntime();

// A mesh of one rank, whatever the job.
class SoloMesh {
 public:
  explicit SoloMesh(const Stream& stream = Stream())
      : world_(MakeSoloComm("world")), data_(MakeSoloComm("data")), tensor_(MakeSoloComm("tensor")) {
    mesh_.stream = stream;
    mesh_.world = world_.get();
    mesh_.data = data_.get();
    mesh_.tensor = tensor_.get();
  }
  const Mesh& mesh() const { return mesh_; }

 private:
  std::unique_ptr<Comm> world_, data_, tensor_;
  Mesh mesh_;
};

// GPT-2's switches: LayerNorm, learned positions, biases, tied head.
inline ModelShape Gpt2Shape() {
  ModelShape shape;
  shape.vocab_size = 61;
  shape.context_length = 48;
  shape.layers = 2;
  shape.width = 32;
  shape.heads = shape.kv_heads = 4;
  shape.head_dim = 8;
  shape.mlp_width = 64;
  shape.norm = kernels::NormKind::kLayer;
  shape.learned_positions = true;
  shape.activation = kernels::Activation::kGeluTanh;
  shape.qkv_bias = shape.attention_output_bias = shape.mlp_bias = true;
  shape.tied_embeddings = true;
  return shape;
}

// Qwen 3's: RMSNorm, rotary, two key/value heads for four query heads, query and key norms, an untied head.
inline ModelShape Qwen3Shape() {
  ModelShape shape;
  shape.vocab_size = 67;
  shape.context_length = 48;
  shape.layers = 2;
  shape.width = 32;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 12;
  shape.mlp_width = 40;
  shape.qk_norm = true;
  return shape;
}

inline ModelOptions MakeModel(const std::string& name, const ModelShape& shape) {
  ModelOptions model;
  model.name = name;
  model.shape = shape;
  model.init_seed = 7;
  // Large enough that every part of the model matters from the first step.
  model.shape.init_std = 0.1;
  return model;
}

inline EngineOptions MakeOptions(std::vector<ModelOptions> models) {
  EngineOptions options;
  options.models = std::move(models);
  options.micro_batch_tokens = 128;
  options.head_chunk_tokens = 64;
  options.bucket_bytes = 8192;
  return options;
}

inline std::unique_ptr<Engine> MakeEngine(const EngineOptions& options, const Mesh& mesh) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = MakeMeshEngine(options, mesh, 0);
  TANREN_CHECK_MSG(engine.ok(), engine.status().message());
  return *std::move(engine);
}

// A step of `count` micro-batches of random pairs: units of two segments with columns that the toy losses
// read.
inline std::vector<MicroBatch> MakeStep(int count, int vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<MicroBatch> batches(count);
  for (MicroBatch& batch : batches) {
    std::vector<Unit> units;
    for (int64_t used = 0;;) {
      Unit unit;
      for (int s = 0; s < 2; ++s) {
        const int length = 2 + static_cast<int>(random() % 23);
        unit.segment_lengths.push_back(length);
        int token = static_cast<int>(random() % vocab);
        for (int t = 0; t < length; ++t) {
          unit.ids.push_back(token);
          token = random() % 4 ? (token * 5 + 3) % vocab : static_cast<int>(random() % vocab);
          unit.targets.push_back(t + 1 < length ? token : -1);
          unit.mask.push_back(t + 1 < length && random() % 5 != 0);
        }
      }
      if (used + unit.tokens() > 128) break;
      used += unit.tokens();
      std::uniform_real_distribution<float> uniform(-1, 1);
      for (float& value : unit.columns.Get("return", unit.tokens())) value = uniform(random);
      for (float& value : unit.columns.Get("w", unit.tokens())) value = uniform(random);
      unit.segment_columns.Get("target", 2) = {0.5f, -0.5f};
      units.push_back(std::move(unit));
    }
    TANREN_CHECK(PackMicroBatch(units, 128, &batch).ok());
  }
  return batches;
}

// This rank's part of a step.
inline std::vector<MicroBatch> Deal(const std::vector<MicroBatch>& step, const Mesh& mesh) {
  const DealtRange mine =
      DealMicroBatches(static_cast<int64_t>(step.size()), mesh.data->rank(), mesh.data->size());
  return {step.begin() + mine.begin, step.begin() + mine.end};
}

}  // namespace tanren

#endif  // TANREN_TESTS_PARALLEL_ENGINE_MPI_SUPPORT_H_
