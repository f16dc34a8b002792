#include "core/estimate/traffic.h"

#include <algorithm>

#include "core/base/round.h"
#include "core/base/status.h"

namespace tanren {
namespace {

class Counter {
 public:
  Counter(const ModelOptions& model, const MeshShape& mesh, const StepShape& step)
      : model_(model), mesh_(mesh), step_(step) {}

  // `times` exchanges of a micro-batch's hidden states in each micro-batch.
  void Hidden(const char* name, int64_t times) {
    if (mesh_.tensor == 1) return;
    const int64_t bytes = step_.tokens * model_.shape.width * SizeOf(model_.dtype);
    Add({"tensor", name, times * step_.micro_batches, times * step_.micro_batches * bytes});
  }

  void Forward() {
    Hidden("embedding", 1);
    for (const char* name :
         {"attention input", "attention output", "feed-forward input", "feed-forward output"}) {
      Hidden(name, model_.shape.layers);
    }
    Hidden("final hidden states", 1);
  }

  // The maximum and three sums of each row of logits, fp32, in chunks of rows as the head makes them.
  void Statistics(const EngineOptions& engine) {
    if (mesh_.tensor == 1 || step_.trained_tokens == 0) return;
    const int64_t chunk = std::min(RoundUp(engine.head_chunk_tokens, kHeadRowMultiple),
                                   RoundUp(engine.micro_batch_tokens, kHeadRowMultiple));
    const int64_t chunks = (step_.trained_tokens + chunk - 1) / chunk;
    const int64_t rows = RoundUp(step_.trained_tokens, kHeadRowMultiple);
    const int64_t bytes = rows * int64_t{sizeof(float)} * step_.micro_batches;
    Add({"tensor", "logit maximum", chunks * step_.micro_batches, bytes, true});
    Add({"tensor", "logit sums", chunks * step_.micro_batches, 3 * bytes, true});
  }

  void Backward() {
    const int64_t layers = model_.shape.layers;
    Hidden("gradient of hidden states", 1);
    for (const char* name :
         {"gradient of feed-forward output", "feed-forward input", "gradient of feed-forward input",
          "gradient of attention output", "attention input", "gradient of attention input"}) {
      Hidden(name, layers);
    }
    // The layers' forward pass once more, but for its last product.
    if (model_.recompute == Recompute::kFull) {
      for (const char* name : {"attention input", "attention output", "feed-forward input"})
        Hidden(name, layers);
    }
    Hidden("gradient of embedding", 1);
  }

  void Update(const EngineOptions& engine) {
    ParameterSet::Options options;
    options.tensor_size = mesh_.tensor;
    options.data_size = mesh_.data;
    options.bucket_bytes = engine.bucket_bytes;
    const ParameterSet parameters(model_.shape, options);
    const int64_t gradient_bytes = SizeOf(model_.optimizer.elastic ? DType::kI64 : DType::kF32);
    int64_t replicated = 0;
    for (const Parameter& parameter : parameters.all()) {
      if (parameter.sync == TensorSync::kSum) replicated += parameter.count;
      if (parameter.sync == TensorSync::kSubgroup) replicated += ElementCount(parameter.shape);
    }
    if (mesh_.tensor > 1 && replicated > 0) {
      Add({"tensor", "replicated gradients", 1, replicated * gradient_bytes, true});
    }
    if (mesh_.data == 1) return;
    const int64_t buckets = static_cast<int64_t>(parameters.buckets().size());
    int64_t elements = 0;
    for (const Bucket& bucket : parameters.buckets()) elements += bucket.end - bucket.begin;
    Add({"data", "gradient bucket", buckets, elements * gradient_bytes});
    Add({"data", "weight bucket", buckets, elements * SizeOf(model_.dtype)});
  }

  std::vector<Traffic> Take() { return std::move(traffic_); }

 private:
  void Add(const Traffic& more) {
    for (Traffic& one : traffic_) {
      if (one.axis != more.axis || one.name != more.name) continue;
      one.calls += more.calls;
      one.tensor_bytes += more.tensor_bytes;
      return;
    }
    traffic_.push_back(more);
  }

  const ModelOptions& model_;
  const MeshShape& mesh_;
  const StepShape& step_;
  std::vector<Traffic> traffic_;
};

}  // namespace

std::vector<Traffic> TrainTraffic(const ModelOptions& model, const EngineOptions& engine,
                                  const MeshShape& mesh, const StepShape& step) {
  TANREN_CHECK(model.trainable);
  Counter counter(model, mesh, step);
  counter.Forward();
  if (model.shape.vocabulary_head) counter.Statistics(engine);
  counter.Backward();
  counter.Update(engine);
  return counter.Take();
}

std::vector<Traffic> ScoreTraffic(const ModelOptions& model, const EngineOptions& engine,
                                  const MeshShape& mesh, const StepShape& step) {
  Counter counter(model, mesh, step);
  counter.Forward();
  if (model.shape.vocabulary_head) counter.Statistics(engine);
  return counter.Take();
}

}  // namespace tanren
