// The engine: named models on one mesh and one memory plan, and what can be done with them.
//
// The engine owns forward, backward, memory, parallelism and optimizer state. A stage says what to learn: it
// brings micro-batches and a Loss. Training, scoring and generation use the same weights in the same memory
// and the same kernels, so a policy ratio is exactly 1 on-policy.
//
// Every verb but Score is collective: all ranks call the same verbs in the same order, with the same model
// and options. Ranks of one tensor group pass the same micro-batches. After Create() nothing large is
// allocated.
#ifndef TANREN_CORE_ENGINE_ENGINE_H_
#define TANREN_CORE_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/comm/mesh.h"
#include "core/data/batch.h"
#include "core/loss/loss.h"
#include "core/model/decoder.h"
#include "core/model/head.h"
#include "core/model/parameters.h"
#include "core/model/shape.h"
#include "core/optimizer/sharded_adamw.h"
#include "kernels/sampling.h"

namespace tanren {

struct ModelOptions {
  std::string name = "policy";
  ModelShape shape;
  bool trainable = true;
  bool generates = false;  // may be named in Generate()
  DType dtype = DType::kF32;
  Recompute recompute = Recompute::kNone;
  AdamWOptions optimizer;
  uint64_t init_seed = 1;

  // How a checkpoint of another stage fills this model: which one (a step directory; empty: random start
  // values), by the tensors of which model in it (empty: its own name); tensors that may be missing there
  // keep their random start values, tensors that this model does not have may stay behind.
  std::string init_from;
  std::string init_model;
  std::vector<std::string> new_tensors;
  std::vector<std::string> dropped_tensors;

  // False for a frozen model that is read from `init_from` at every start instead of being kept in the run's
  // own checkpoints. Those remember the identity of what was read: a run does not go on with another
  // reference.
  bool saved = true;
};

struct EngineOptions {
  std::vector<ModelOptions> models;
  int64_t micro_batch_tokens = 0;  // capacity of a micro-batch
  int64_t head_chunk_tokens = 256;
  int64_t bucket_bytes = 64 << 20;
  int64_t decode_slots = 16;      // rows of a decode step, per data rank
  int64_t prefill_tokens = 64;    // rows of a prefill step
  int64_t generation_tokens = 0;  // longest prompt + answer; 0: no generation
  // Frozen models that do not generate keep their weights in host memory (page-locked beside a GPU) and are
  // copied into one memory of the device, which they share, when they compute. Changes no result.
  bool offload_frozen = false;
  // Plans host memory (page-locked beside a GPU) for Snapshot(): as much as the trainable models' state
  // takes.
  bool snapshots = false;
};

// The memory of one rank, exact: what the arenas will hold.
struct MemoryPlan {
  struct Entry {
    std::string arena;
    std::string label;
    int64_t bytes = 0;
  };
  std::vector<Entry> entries;  // largest first inside each arena; models that share memory are added up
  std::vector<Entry> arenas;   // the memory of each, in the order of the entries; without labels
  int64_t total_bytes = 0;     // sum of the arenas' high-water marks (buffers that share memory count once)
  int64_t host_bytes = 0;  // beside a GPU: host memory of offloaded weights and snapshots, not in the total
  std::string ToString() const;
};

struct StepResult {
  double loss = 0;              // of the global step
  std::vector<double> metrics;  // in the order of Loss::metrics(), of the global step
  Normalizers normalizers;
  double gradient_norm = 0;  // before clipping
  bool skipped = false;      // not finite: no weight was changed on any rank
  bool repeated = false;     // the micro-batches were computed twice (core/optimizer/elastic_gradients.h)
};

// What keeps an answer from repeating itself. The tokens looked at are those of the prompt and of the answer
// so far. A token that ends the answer by itself (a stop sequence of one token) is left alone by both: an
// answer must be able to end, also where its prompt holds ended turns.
struct RepetitionOptions {
  // Logits of tokens that have occurred are divided by it where they are above 0 and multiplied where they
  // are below (Keskar et al. 2019, CTRL), before the division by the temperature. 1: off.
  float penalty = 1;
  // A token that would repeat an n-gram of this length is not drawn, unless that would leave none of the
  // vocabulary. 0: off.
  int32_t no_repeat_ngram = 0;

  bool on() const { return penalty != 1 || no_repeat_ngram > 0; }
};

enum class FinishReason : uint8_t { kStop, kLength };
struct GenerationResult {
  std::vector<int32_t> tokens;
  // Of each token under the full plain distribution at the sampling temperature, whatever top_k, top_p or the
  // repetition options drew from: what Score() gives it. Where those are on, tokens do not follow it.
  std::vector<float> logp;
  FinishReason finish = FinishReason::kLength;
  int32_t stop_tokens = 0;  // how many of the last tokens are the stop sequence; 0 when cut off
};

struct GenerationRequest {
  std::vector<int32_t> prompt;       // at least one token
  int64_t max_tokens = 0;            // of the answer
  kernels::SamplingParams sampling;  // `index` is set by the engine: the token's position in its sample
  RepetitionOptions repetition;
  std::vector<std::vector<int32_t>> stop;  // token sequences that end the answer, themselves included in it
  // Where set, told of the answer after each token, on the ranks that decode it: those of one data rank, the
  // first for the first request. False ends the answer there, as kLength; those ranks must all say the same.
  std::function<bool(const GenerationResult& so_far)> watch;
};

// A tensor's place in the rank's memory, for checkpoints and exchange with other formats: elements
// [range_begin, range_end), row-major, of the box at `box_begin` with extents `box_size` of the global
// tensor.
struct StatePiece {
  enum class Role : uint8_t { kWeight, kFirstMoment, kSecondMoment };
  std::string model;
  std::string name;
  Role role = Role::kWeight;
  std::vector<int64_t> shape;  // global
  std::vector<int64_t> box_begin;
  std::vector<int64_t> box_size;
  int64_t range_begin = 0;
  int64_t range_end = 0;
  Buffer data;  // weights in fp32, moments as AdamWOptions::moments; the engine's memory (see StateAccess)
};

// The state of one model as pieces of host memory. For a model whose weights are not fp32 and that has no
// optimizer, the pieces are a temporary copy. Over all ranks the pieces cover every tensor exactly once.
class StateAccess {
 public:
  virtual ~StateAccess() = default;
  virtual std::span<const StatePiece> pieces() const = 0;
  // To be called once, by all ranks, after data was written through the pieces: rounds, distributes and packs
  // weights. Pieces of a frozen model are gone afterwards.
  virtual void Commit() = 0;
};

// Hashes of one rank's copy of the weights (kernels::Digest).
struct WeightsDigest {
  uint64_t own = 0;         // of all that it holds: the same on the data ranks of one tensor index
  uint64_t replicated = 0;  // of the parameters that every tensor rank holds whole: the same on all ranks
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual const Mesh& mesh() const = 0;
  virtual const EngineOptions& options() const = 0;
  virtual const MemoryPlan& plan() const = 0;
  virtual bool HasModel(const std::string& model) const = 0;
  virtual const ModelOptions& model(const std::string& model) const = 0;

  // One optimizer step of `model` on the global step whose part on this rank is `micro_batches` (any number,
  // also none). InvalidArgument on every rank when the global step trains no token and no segment, or when a
  // column that the loss reads is missing.
  virtual absl::StatusOr<StepResult> Train(const std::string& model,
                                           std::span<const MicroBatch> micro_batches, const Loss& loss,
                                           double learning_rate) = 0;

  // The same forward pass and loss without gradients.
  virtual absl::StatusOr<StepResult> Evaluate(const std::string& model,
                                              std::span<const MicroBatch> micro_batches,
                                              const Loss& loss) = 0;

  // Statistics of one micro-batch: the forward half of Train on the same packing, bit for bit. kValue gives
  // the values of the segments and, without `per_segment`, those of the trained tokens too. Local: ranks of
  // one tensor group call it together, data ranks need not.
  virtual absl::StatusOr<Statistics> Score(const std::string& model, const MicroBatch& batch,
                                           uint32_t statistics, bool per_segment, float temperature) = 0;

  // Answers to `requests` (the same list on every rank), in order, on every rank. An answer depends on its
  // prompt and sampling parameters only: not on the other requests, the slots or the number of data ranks.
  virtual absl::StatusOr<std::vector<GenerationResult>> Generate(
      const std::string& model, std::span<const GenerationRequest> requests) = 0;

  // Weights, and moments of a trainable model.
  virtual std::unique_ptr<StateAccess> State(const std::string& model) = 0;
  // A copy of it that later steps do not change, in planned memory: it is valid until the next Snapshot of
  // the model, and while the engine is. Only to be read. Where EngineOptions::snapshots is false, State().
  virtual std::unique_ptr<StateAccess> Snapshot(const std::string& model) = 0;
  // Optimizer updates done so far.
  virtual int64_t updates(const std::string& model) const = 0;
  virtual void set_updates(const std::string& model, int64_t updates) = 0;

  // What elastic gradients remember from step to step (ElasticGradients::SaveRanges); empty without them.
  virtual std::string gradient_ranges(const std::string& model) const = 0;
  virtual absl::Status set_gradient_ranges(const std::string& model, const std::string& ranges) = 0;

  // Of this rank's copy of the weights, as they compute. Local.
  virtual WeightsDigest DigestWeights(const std::string& model) = 0;

  // Flips one bit of the last norm's first weight in this rank's copy, or makes it not a number: what a
  // faulty memory does. Local.
  enum class Damage : uint8_t { kBit, kNaN };
  virtual void DamageWeightsForTest(const std::string& model, Damage damage) = 0;

  // A copy of the accumulated, not yet reduced gradient of the local micro-batches, for tests: [flat count].
  virtual absl::StatusOr<StepResult> GradientsForTest(const std::string& model,
                                                      std::span<const MicroBatch> micro_batches,
                                                      const Loss& loss, std::vector<float>* gradients) = 0;
  virtual const ParameterSet& parameters(const std::string& model) const = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_ENGINE_ENGINE_H_
