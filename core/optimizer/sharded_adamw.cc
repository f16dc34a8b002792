#include "core/optimizer/sharded_adamw.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/status.h"
#include "kernels/device.h"
#include "kernels/optimizer.h"
#include "kernels/random.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

// Elements that a parameter takes in the tensor-axis exchange. A key/value shard held by a few ranks of the
// axis is exchanged at its place in the global tensor, so one all-reduce of the axis sums each subgroup.
int64_t StagedElements(const Parameter& parameter) {
  if (parameter.sync == TensorSync::kSum) return parameter.count;
  if (parameter.sync == TensorSync::kSubgroup) return ElementCount(parameter.shape);
  return 0;
}

int64_t StagedOffset(const Parameter& parameter) {
  if (parameter.sync != TensorSync::kSubgroup) return 0;
  return parameter.begin * (parameter.count / parameter.local_shape[0]);
}

// Of one parameter's moments: the same on all ranks that hold the same part of it, whose copies must stay
// equal, and another for each other part.
uint64_t RoundingSeed(const Parameter& parameter, uint64_t seed) {
  return kernels::RandomBits(seed, StreamOfName(parameter.name), static_cast<uint64_t>(parameter.begin));
}

}  // namespace

ShardedAdamW::ShardedAdamW(const ParameterSet& parameters, const Mesh& mesh, DType weight_dtype,
                           const AdamWOptions& options)
    : parameters_(parameters), mesh_(mesh), weight_dtype_(weight_dtype), options_(options) {
  if (options.elastic) elastic_ = std::make_unique<ElasticGradients>(parameters, mesh);
  for (const Bucket& bucket : parameters.buckets()) {
    const Bucket shard = parameters.Shard(bucket, mesh.data->rank());
    for (const Parameter& parameter : parameters.all()) {
      const int64_t begin = std::max(shard.begin, parameter.offset);
      const int64_t end = std::min(shard.end, parameter.offset + parameter.count);
      if (begin >= end) continue;
      owned_.push_back({&parameter, begin, end - begin, shard_count_ + begin - shard.begin});
    }
    shard_count_ += shard.end - shard.begin;
  }
}

int64_t ShardedAdamW::StagingCount() const {
  if (mesh_.tensor->size() == 1) return 0;
  int64_t count = 0;
  for (const Parameter& parameter : parameters_.all()) count += StagedElements(parameter);
  return count;
}

void ShardedAdamW::Layout(Arena& arena) {
  if (weight_dtype_ != DType::kF32) master_ = arena.Take<float>("master weights", shard_count_);
  first_moment_ = arena.Take("first moments", options_.moments, shard_count_);
  second_moment_ = arena.Take("second moments", options_.moments, shard_count_);
  staging_ = arena.Take("tensor-axis gradient sums", elastic_ ? DType::kI64 : DType::kF32, StagingCount());
  if (elastic_) elastic_->Layout(arena);
  squares_.Layout(arena, "gradient norm", static_cast<int64_t>(owned_.size()));
}

void ShardedAdamW::Bind(Buffer weights, float* gradients) {
  weights_ = weights;
  gradients_ = gradients;
  if (elastic_) elastic_->Bind(gradients);
}

float* ShardedAdamW::master(const Owned& piece) const {
  return master_ ? master_ + piece.shard_begin : weights_.as<float>() + piece.begin;
}

void ShardedAdamW::SyncTensorAxis(Buffer gradients) {
  const int64_t count = StagingCount();
  if (count == 0) return;
  const int64_t width = SizeOf(gradients.dtype);
  kernels::Fill(mesh_.stream, count * width, 0, staging_.data);
  const auto for_each = [&](const auto& body) {
    int64_t at = 0;
    for (const Parameter& parameter : parameters_.all()) {
      const int64_t elements = StagedElements(parameter);
      if (elements == 0) continue;
      body(staging_.At(at + StagedOffset(parameter)), gradients.At(parameter.offset), parameter.count);
      at += elements;
    }
  };
  const auto copy = [&](Buffer to, Buffer from, int64_t n) {
    kernels::CopyRows(mesh_.stream, 1, n * width, to.data, n * width, from.data, n * width);
  };
  for_each(copy);
  mesh_.tensor->AllReduce(mesh_.stream, "replicated gradients", staging_, count, ReduceOp::kSum);
  for_each([&](Buffer staged, Buffer gradient, int64_t n) { copy(gradient, staged, n); });
}

void ShardedAdamW::SumOverRanks(Buffer gradients) {
  SyncTensorAxis(gradients);
  if (mesh_.data->size() == 1) return;
  const std::vector<Bucket>& buckets = parameters_.buckets();
  for (size_t b = buckets.size(); b-- > 0;) {
    const Bucket shard = parameters_.Shard(buckets[b], mesh_.data->rank());
    mesh_.data->ReduceScatter(mesh_.stream, "gradient bucket", gradients.At(buckets[b].begin),
                              gradients.At(shard.begin), shard.end - shard.begin);
  }
}

double ShardedAdamW::GradientNorm() {
  if (elastic_) {
    if (!elastic_->finite()) return std::numeric_limits<double>::quiet_NaN();
    for (const Owned& piece : owned_) {
      elastic_->ToGradients(*piece.parameter, piece.begin, piece.count, piece.parameter->owner);
    }
    return elastic_->Norm();
  }
  const auto counts = [&](size_t i) { return owned_[i].parameter->owner; };
  for (size_t i = 0; i < owned_.size(); ++i) {
    if (!counts(i)) continue;
    kernels::SumOfSquares(mesh_.stream, gradients_ + owned_[i].begin, owned_[i].count, squares_.device() + i);
  }
  squares_.ToHost(mesh_.stream, squares_.count());
  double total = 0;
  for (size_t i = 0; i < owned_.size(); ++i) {
    if (counts(i)) total += squares_.host()[i];
  }
  mesh_.world->AllReduce(Stream(), "gradient norm", Buffer(&total), 1, ReduceOp::kSum);
  return std::sqrt(total);
}

ShardedAdamW::StepResult ShardedAdamW::Step(double learning_rate) {
  // Sums of what is not finite mean nothing; the ranks agree that they are not.
  if (!elastic_ || elastic_->finite()) SumOverRanks(elastic_ ? elastic_->sums() : Buffer(gradients_));
  StepResult result;
  result.gradient_norm = GradientNorm();
  result.skipped = !std::isfinite(result.gradient_norm);
  if (!result.skipped) {
    ++updates_;
    kernels::AdamWArgs args;
    args.learning_rate = static_cast<float>(learning_rate);
    args.beta1 = static_cast<float>(options_.beta1);
    args.beta2 = static_cast<float>(options_.beta2);
    args.epsilon = static_cast<float>(options_.epsilon);
    args.step = updates_;
    if (options_.clip_norm > 0 && result.gradient_norm > options_.clip_norm) {
      args.gradient_scale = static_cast<float>(options_.clip_norm / result.gradient_norm);
    }
    for (const Owned& piece : owned_) {
      args.count = piece.count;
      args.weight_decay = piece.parameter->decay ? static_cast<float>(options_.weight_decay) : 0;
      args.rounding_seed = RoundingSeed(*piece.parameter, options_.rounding_seed);
      args.first_index = piece.begin - piece.parameter->offset;
      kernels::AdamW(mesh_.stream, args, gradients_ + piece.begin, master(piece), first_moment(piece),
                     second_moment(piece), master_ ? weights_.At(piece.begin) : Buffer());
    }
    GatherWeights();
  }
  kernels::Fill(mesh_.stream, parameters_.flat_count() * int64_t{sizeof(float)}, 0, gradients_);
  if (elastic_) elastic_->Clear();
  return result;
}

void ShardedAdamW::PublishWeights() {
  if (master_) {
    for (const Owned& piece : owned_) {
      kernels::Cast(mesh_.stream, piece.count, ConstBuffer(master(piece)), weights_.At(piece.begin));
    }
  }
  GatherWeights();
}

void ShardedAdamW::GatherWeights() {
  if (mesh_.data->size() == 1) return;
  for (const Bucket& bucket : parameters_.buckets()) {
    const Bucket shard = parameters_.Shard(bucket, mesh_.data->rank());
    mesh_.data->AllGather(mesh_.stream, "weight bucket", weights_.At(shard.begin), weights_.At(bucket.begin),
                          shard.end - shard.begin);
  }
}

}  // namespace tanren
