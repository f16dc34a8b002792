// AdamW with optimizer state partitioned over the data axis (ZeRO stage 1, Rajbhandari et al. 2020).
//
// Data rank d owns part d of every bucket of the flat parameter order: its fp32 master weights and its
// moments, in fp32 or bf16. A step sums gradients along the tensor axis where parameters are replicated
// there, reduce-scatters buckets along the data axis (last layer first), clips by the global norm, updates
// the owned parts and all-gathers the new weights. With fp32 weights the owned part of the weights is the
// master itself.
#ifndef TANREN_CORE_OPTIMIZER_SHARDED_ADAMW_H_
#define TANREN_CORE_OPTIMIZER_SHARDED_ADAMW_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/comm/mesh.h"
#include "core/model/parameters.h"
#include "core/optimizer/elastic_gradients.h"
#include "core/tensor/arena.h"
#include "core/tensor/staged.h"

namespace tanren {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // on parameters with Parameter::decay
  double clip_norm = 1;       // 0: no clipping

  // What the moments are stored in, kF32 or kBF16. In bf16 they are rounded at random (kernels/optimizer.h):
  // the same in every run of one seed, at any number of data ranks.
  DType moments = DType::kF32;
  uint64_t rounding_seed = 1;

  // Gradients are summed so that the result is the same, bit for bit, at any number of data ranks.
  bool elastic = false;
};

class ShardedAdamW {
 public:
  // A piece of an owned shard inside one parameter: elements [begin, begin + count) of the flat order.
  struct Owned {
    const Parameter* parameter = nullptr;
    int64_t begin = 0;        // flat
    int64_t count = 0;        // padding included
    int64_t shard_begin = 0;  // place in the shard-ordered buffers (master, moments)
  };

  // `parameters` must outlive this.
  ShardedAdamW(const ParameterSet& parameters, const Mesh& mesh, DType weight_dtype,
               const AdamWOptions& options);

  void Layout(Arena& arena);
  void Bind(Buffer weights, float* gradients);

  struct StepResult {
    double gradient_norm = 0;  // before clipping, of the global gradient
    bool skipped = false;      // the norm was NaN or infinite on some rank: nothing was updated, on any rank
  };
  // Consumes the accumulated gradients (they are zero afterwards) and updates the weights on every rank.
  // Elastic ones are those that elastic() has, for which RangesHold() was true.
  StepResult Step(double learning_rate);

  // After the owned masters were written (initial values or a checkpoint): rounds and all-gathers the
  // weights.
  void PublishWeights();

  // Null unless AdamWOptions::elastic.
  ElasticGradients* elastic() const { return elastic_.get(); }

  // Steps that updated the weights: the bias correction's t. Saved and restored with the moments.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

  const std::vector<Owned>& owned() const { return owned_; }
  int64_t shard_count() const { return shard_count_; }  // elements of all owned shards, padding included
  float* master(const Owned& piece) const;
  Buffer first_moment(const Owned& piece) const { return first_moment_.At(piece.shard_begin); }
  Buffer second_moment(const Owned& piece) const { return second_moment_.At(piece.shard_begin); }

 private:
  // Of gradients or their fixed-point sums, [flat count].
  void SyncTensorAxis(Buffer gradients);
  void SumOverRanks(Buffer gradients);
  double GradientNorm();
  // The data ranks' parts of the weights to all of them.
  void GatherWeights();
  int64_t StagingCount() const;

  const ParameterSet& parameters_;
  Mesh mesh_;
  DType weight_dtype_;
  AdamWOptions options_;
  std::vector<Owned> owned_;
  int64_t shard_count_ = 0;  // elements of all owned shards
  int64_t updates_ = 0;

  Buffer weights_;
  float* gradients_ = nullptr;
  float* master_ = nullptr;  // null with fp32 weights
  Buffer first_moment_, second_moment_;
  Staged<double> squares_;  // per owned piece, of its gradient
  Buffer staging_;          // tensor-axis sums
  std::unique_ptr<ElasticGradients> elastic_;
};

}  // namespace tanren

#endif  // TANREN_CORE_OPTIMIZER_SHARDED_ADAMW_H_
