#include "core/model/parameters.h"

#include <algorithm>
#include <cmath>

#include "core/base/round.h"
#include "core/base/status.h"
#include "kernels/random.h"

namespace tanren {
namespace {}  // namespace

ParameterSet::ParameterSet(const ModelShape& shape, const Options& options) : options_(options) {
  const LocalShape local = MakeLocalShape(shape, options.tensor_rank, options.tensor_size);
  AddTrunk(shape, local);
  // Padded extents and replicas do not change the global size.
  for (const Parameter& parameter : parameters_) global_count_ += ElementCount(parameter.shape);
  Place(options);
}

Parameter& ParameterSet::Add(std::string name, std::vector<int64_t> shape, bool fused_with_previous) {
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.local_shape = shape;
  parameter.shape = std::move(shape);
  parameter.valid = parameter.shape[0];
  parameter.owner = options_.tensor_rank == 0;
  parameter.sync = TensorSync::kComplete;
  parameter.count = ElementCount(parameter.local_shape);
  parameters_.push_back(std::move(parameter));
  fused_with_previous_.push_back(fused_with_previous);
  return parameters_.back();
}

void ParameterSet::ShardAxis(Parameter& parameter, int axis, int64_t begin, int64_t valid, int64_t extent) {
  parameter.shard_axis = axis;
  parameter.begin = begin;
  parameter.valid = valid;
  parameter.local_shape[axis] = extent;
  parameter.count = ElementCount(parameter.local_shape);
  parameter.owner = true;
  parameter.sync = TensorSync::kNone;
}

void ParameterSet::Norm(const std::string& name, const ModelShape& shape, int64_t width) {
  Parameter& weight = Add(name + ".weight", {width}, false);
  weight.init = Init::kOnes;
  weight.sync = TensorSync::kSum;
  if (shape.layer_norm()) Add(name + ".bias", {width}, false).sync = TensorSync::kSum;
}

void ParameterSet::AddTrunk(const ModelShape& shape, const LocalShape& local) {
  Parameter& embedding = Add("embedding.weight", {shape.vocab_size, shape.width}, false);
  embedding.init = Init::kNormal;
  embedding.init_std = static_cast<float>(shape.init_std);
  embedding.decay = true;
  ShardAxis(embedding, 0, local.vocab_begin, local.vocab_valid, local.vocab);
  if (shape.learned_positions) {
    Parameter& positions = Add("positions.weight", {shape.context_length, shape.width}, false);
    positions.init = Init::kNormal;
    positions.init_std = static_cast<float>(shape.init_std);
    positions.decay = true;
    positions.sync = TensorSync::kSum;
  }
  for (int64_t layer = 0; layer < shape.layers; ++layer) AddLayer(shape, local, layer);
  Norm("final_norm", shape, shape.width);
  if (shape.vocabulary_head && !shape.tied_embeddings) {
    Parameter& head = Add("head.weight", {shape.vocab_size, shape.width}, false);
    head.init = Init::kNormal;
    head.init_std = static_cast<float>(shape.init_std);
    head.decay = true;
    ShardAxis(head, 0, local.vocab_begin, local.vocab_valid, local.vocab);
  }
  if (shape.scalar_head) {
    Parameter& score = Add("score.weight", {1, shape.width}, false);
    score.init = Init::kNormal;
    // A score starts near zero: the features it reads are normalised to unit size.
    score.init_std = static_cast<float>(1.0 / (shape.width + 1.0));
    score.decay = true;
    score.sync = TensorSync::kSum;
  }
}

void ParameterSet::AddLayer(const ModelShape& shape, const LocalShape& local, int64_t layer) {
  const std::string prefix = absl::StrCat("layers.", layer, ".");
  const int64_t tensor_size = options_.tensor_size;
  const double residual_scale = shape.scale_residual_init ? 1 / std::sqrt(2.0 * shape.layers) : 1;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns, int axis, int64_t begin,
                          int64_t extent, double scale, bool fused) -> Parameter& {
    Parameter& parameter = Add(prefix + name, {rows, columns}, fused);
    parameter.init = Init::kNormal;
    parameter.init_std = static_cast<float>(shape.init_std * scale);
    parameter.decay = true;
    ShardAxis(parameter, axis, begin, extent, extent);
    return parameter;
  };
  // With more tensor ranks than key/value heads, each head is held by `copies` neighbours; the first writes
  // it.
  const int64_t copies = std::max<int64_t>(1, tensor_size / shape.kv_heads);
  const int64_t query_begin = options_.tensor_rank * local.heads * shape.head_dim;
  const int64_t key_begin = options_.tensor_rank / copies * local.kv_heads * shape.head_dim;
  const auto key_value = [&](Parameter& parameter) {
    if (copies == 1) return;
    parameter.sync = TensorSync::kSubgroup;
    parameter.owner = options_.tensor_rank % copies == 0;
  };

  Norm(prefix + "attention_norm", shape, shape.width);
  const int64_t query_rows = local.heads * shape.head_dim;
  const int64_t key_rows = local.kv_heads * shape.head_dim;
  matrix("attention.query.weight", shape.heads * shape.head_dim, shape.width, 0, query_begin, query_rows, 1,
         false);
  for (const char* name : {"attention.key.weight", "attention.value.weight"}) {
    key_value(matrix(name, shape.kv_heads * shape.head_dim, shape.width, 0, key_begin, key_rows, 1, true));
  }
  if (shape.qkv_bias) {
    ShardAxis(Add(prefix + "attention.query.bias", {shape.heads * shape.head_dim}, false), 0, query_begin,
              query_rows, query_rows);
    for (const char* name : {"attention.key.bias", "attention.value.bias"}) {
      Parameter& bias = Add(prefix + name, {shape.kv_heads * shape.head_dim}, true);
      ShardAxis(bias, 0, key_begin, key_rows, key_rows);
      key_value(bias);
    }
  }
  if (shape.qk_norm) {
    for (const char* name : {"attention.query_norm.weight", "attention.key_norm.weight"}) {
      Parameter& weight = Add(prefix + name, {shape.head_dim}, false);
      weight.init = Init::kOnes;
      weight.sync = TensorSync::kSum;
    }
  }
  matrix("attention.output.weight", shape.width, shape.heads * shape.head_dim, 1, query_begin, query_rows,
         residual_scale, false);
  if (shape.attention_output_bias) Add(prefix + "attention.output.bias", {shape.width}, false);

  Norm(prefix + "mlp_norm", shape, shape.width);
  const int64_t mlp_begin = options_.tensor_rank * local.mlp_width;
  if (shape.gated()) {
    matrix("mlp.gate.weight", shape.mlp_width, shape.width, 0, mlp_begin, local.mlp_width, 1, false);
  }
  matrix("mlp.up.weight", shape.mlp_width, shape.width, 0, mlp_begin, local.mlp_width, 1, shape.gated());
  if (shape.mlp_bias) {
    if (shape.gated()) {
      ShardAxis(Add(prefix + "mlp.gate.bias", {shape.mlp_width}, false), 0, mlp_begin, local.mlp_width,
                local.mlp_width);
    }
    ShardAxis(Add(prefix + "mlp.up.bias", {shape.mlp_width}, shape.gated()), 0, mlp_begin, local.mlp_width,
              local.mlp_width);
  }
  matrix("mlp.down.weight", shape.width, shape.mlp_width, 1, mlp_begin, local.mlp_width, residual_scale,
         false);
  if (shape.mlp_bias) Add(prefix + "mlp.down.bias", {shape.width}, false);
}

void ParameterSet::Place(const Options& options) {
  const int64_t multiple = options.data_size * kBucketMultiple;
  const int64_t bucket_elements = std::max<int64_t>(1, options.bucket_bytes / 4);
  int64_t offset = 0;
  Bucket bucket;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = parameters_[i];
    if (!fused_with_previous_[i]) {
      offset = RoundUp(offset, kBucketMultiple);
      if (offset - bucket.begin >= bucket_elements) {
        bucket.end = bucket.begin + RoundUp(offset - bucket.begin, multiple);
        buckets_.push_back(bucket);
        offset = bucket.begin = bucket.end;
      }
    }
    parameter.offset = offset;
    offset += parameter.count;
  }
  bucket.end = bucket.begin + RoundUp(offset - bucket.begin, multiple);
  buckets_.push_back(bucket);
  flat_count_ = bucket.end;
}

const Parameter* ParameterSet::Find(std::string_view name) const {
  for (const Parameter& parameter : parameters_) {
    if (parameter.name == name) return &parameter;
  }
  return nullptr;
}

int64_t ParameterSet::Offset(std::string_view name) const {
  const Parameter* parameter = Find(name);
  TANREN_CHECK_MSG(parameter != nullptr, "no parameter ", View(name));
  return parameter->offset;
}

Bucket ParameterSet::Shard(const Bucket& bucket, int rank) const {
  const int64_t size = (bucket.end - bucket.begin) / options_.data_size;
  return {bucket.begin + rank * size, bucket.begin + (rank + 1) * size};
}

int64_t ElementCount(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

uint64_t StreamOfName(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

void InitializeParameter(const Parameter& parameter, uint64_t seed, float* out) {
  if (parameter.init == Init::kZeros) return;
  if (parameter.init == Init::kOnes) {
    std::fill_n(out, parameter.count, 1.0f);
    return;
  }
  const uint64_t stream_id = StreamOfName(parameter.name);
  const int64_t columns = parameter.shape.back();
  const int64_t local_columns = parameter.local_shape.back();
  const int64_t first_row = parameter.shard_axis == 0 ? parameter.begin : 0;
  const int64_t first_column = parameter.shard_axis == 1 ? parameter.begin : 0;
  const int64_t rows = parameter.shard_axis == 0 ? parameter.valid : parameter.local_shape[0];
  for (int64_t row = 0; row < rows; ++row) {
    kernels::FillNormal(Stream(), seed, stream_id, (first_row + row) * columns + first_column, local_columns,
                        parameter.init_std, out + row * local_columns);
  }
}

}  // namespace tanren
