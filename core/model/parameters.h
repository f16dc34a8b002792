// The parameters of one model as one tensor rank holds them.
//
// Every parameter has a canonical name, a global shape and a place in one flat buffer; weights, gradients and
// optimizer state share that order. Fused matrices (query|key|value, gate|up) are neighbours in the buffer,
// so a fused product is a view and no layout change can interleave them wrongly.
//
// The flat order is cut into buckets of whole parameters, each padded so that the data axis divides it: data
// rank d owns part d of every bucket (ZeRO stage 1, Rajbhandari et al. 2020).
#ifndef TANREN_CORE_MODEL_PARAMETERS_H_
#define TANREN_CORE_MODEL_PARAMETERS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/shape.h"
#include "kernels/types.h"

namespace tanren {

enum class Init : uint8_t { kNormal, kZeros, kOnes };

// What must happen to a parameter's gradient along the tensor axis before the data axis is reduced.
enum class TensorSync : uint8_t {
  kNone,      // each rank holds its own shard
  kComplete,  // replicated, and every rank computes the whole gradient
  kSum,       // replicated, each rank has the share of its tokens or heads: sum over the axis
  kSubgroup,  // a key/value shard held by several ranks, each with the share of its query heads: sum over
              // them
};

// Elements of a tensor of this shape.
int64_t ElementCount(const std::vector<int64_t>& shape);

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;        // global
  std::vector<int64_t> local_shape;  // this rank's box, padding included
  int shard_axis = -1;               // -1: replicated along the tensor axis
  int64_t begin = 0;                 // the box along shard_axis, in global coordinates
  int64_t valid = 0;                 // real extent along shard_axis (= local extent without padding)
  int64_t offset = 0;                // into the flat buffer, elements
  int64_t count = 0;                 // local elements, padding included
  TensorSync sync = TensorSync::kNone;
  bool owner = true;  // this tensor rank writes it to checkpoints and counts it in norms
  bool decay = false;
  Init init = Init::kZeros;
  float init_std = 0;

  // Real elements, which are the first of the local box (only axis 0 is ever padded).
  int64_t valid_count() const { return shard_axis == 0 ? count / local_shape[0] * valid : count; }
};

struct Bucket {
  int64_t begin = 0;  // flat elements
  int64_t end = 0;    // padded: (end - begin) is a multiple of data_size * kBucketMultiple
};

class ParameterSet {
 public:
  static constexpr int64_t kBucketMultiple = 16;  // elements: shards stay 64-byte aligned

  struct Options {
    int tensor_rank = 0;
    int tensor_size = 1;
    int data_size = 1;
    int64_t bucket_bytes = 64 << 20;  // of fp32 gradient
  };
  ParameterSet(const ModelShape& shape, const Options& options);

  const std::vector<Parameter>& all() const { return parameters_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  int64_t flat_count() const { return flat_count_; }  // padding included
  int64_t global_count() const { return global_count_; }

  // The parameter, or null.
  const Parameter* Find(std::string_view name) const;
  // The parameter's place in the flat buffer; aborts when there is none of that name.
  int64_t Offset(std::string_view name) const;

  // Data rank `rank`'s part of a bucket.
  Bucket Shard(const Bucket& bucket, int rank) const;

 private:
  void AddTrunk(const ModelShape& shape, const LocalShape& local);
  void AddLayer(const ModelShape& shape, const LocalShape& local, int64_t layer);
  void Norm(const std::string& name, const ModelShape& shape, int64_t width);
  Parameter& Add(std::string name, std::vector<int64_t> shape, bool fused_with_previous);
  void ShardAxis(Parameter& parameter, int axis, int64_t begin, int64_t valid, int64_t extent);
  void Place(const Options& options);

  Options options_;
  std::vector<Parameter> parameters_;
  std::vector<bool> fused_with_previous_;
  std::vector<Bucket> buckets_;
  int64_t flat_count_ = 0;
  int64_t global_count_ = 0;
};

// Fills `out` (fp32, parameter.count elements, zero on entry) with the start values of this rank's box. An
// element depends on the seed, the parameter's name and its global index only, so every layout starts equal.
void InitializeParameter(const Parameter& parameter, uint64_t seed, float* out);

// FNV-1a: the random stream of a name.
uint64_t StreamOfName(std::string_view name);

}  // namespace tanren

#endif  // TANREN_CORE_MODEL_PARAMETERS_H_
