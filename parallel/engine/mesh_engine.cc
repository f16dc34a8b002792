#include "parallel/engine/mesh_engine.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <set>
#include <utility>

#include "core/activity/activity.h"
#include "core/base/exact_sum.h"
#include "core/base/status.h"
#include "kernels/device.h"
#include "kernels/reduce.h"
#include "parallel/engine/generator.h"
#include "parallel/engine/model.h"

namespace tanren {
namespace {

absl::Status CheckOptions(const EngineOptions& options, const Mesh& mesh) {
  const int64_t tensor = mesh.tensor->size();
  if (options.micro_batch_tokens <= 0 || options.micro_batch_tokens % tensor != 0) {
    return InvalidInput("batch.micro_batch_tokens: %d is not a positive multiple of the tensor size %d",
                        options.micro_batch_tokens, tensor);
  }
  std::set<std::string> names;
  for (const ModelOptions& model : options.models) {
    if (!names.insert(model.name).second) return InvalidInput("two models are named %s", model.name);
    TANREN_RETURN_IF_ERROR(At(model.name, CheckTensorParallel(model.shape, static_cast<int>(tensor))));
    if (model.generates && (options.decode_slots < 1 || options.prefill_tokens < 1)) {
      return InvalidInput(
          "model %s: generation needs at least one slot and one prefill row; %d and %d were given",
          model.name, options.decode_slots, options.prefill_tokens);
    }
    if (model.generates && options.generation_tokens > model.shape.context_length) {
      return InvalidInput("model %s: generation of %d tokens exceeds its context_length of %d", model.name,
                          options.generation_tokens, model.shape.context_length);
    }
    if (model.generates && (!model.shape.vocabulary_head || options.generation_tokens <= 0)) {
      return InvalidInput(
          "model %s cannot generate: it needs a vocabulary head and generation_tokens above 0", model.name);
    }
  }
  if (options.models.empty()) return InvalidInput("an engine needs at least one model");
  if (options.head_chunk_tokens <= 0) {
    return InvalidInput("train.head_chunk_tokens: %d; it must be at least 1", options.head_chunk_tokens);
  }
  return absl::OkStatus();
}

// What the loss reads must be there: heads on the model, columns on every micro-batch that has units.
absl::Status CheckLoss(const ModelOptions& model, std::span<const MicroBatch> micro_batches,
                       const Loss& loss) {
  if ((loss.statistics() & kValue) && !model.shape.scalar_head) {
    return InvalidInput("the loss reads values, and model %s has no scalar head", model.name);
  }
  if ((loss.statistics() & (kLogp | kLse | kEntropy)) && !model.shape.vocabulary_head) {
    return InvalidInput("the loss reads log-probabilities, and model %s has no vocabulary head", model.name);
  }
  for (const MicroBatch& batch : micro_batches) {
    if (batch.units() <= 0) continue;
    for (const std::string& name : loss.columns()) {
      if (batch.columns.Find(name) == nullptr)
        return InvalidInput("the loss reads column %s, which the batch lacks", name);
    }
    for (const std::string& name : loss.segment_columns()) {
      if (batch.segment_columns.Find(name) == nullptr) {
        return InvalidInput("the loss reads segment column %s, which the batch lacks", name);
      }
    }
  }
  return absl::OkStatus();
}

// A token, target or position that no table holds would be read from beyond it.
absl::Status CheckBatch(const MicroBatch& batch, const ModelShape& shape, int64_t capacity) {
  if (batch.capacity != capacity) {
    return InvalidInput("a micro-batch of %d tokens does not match the engine's capacity of %d",
                        batch.capacity, capacity);
  }
  for (int64_t t = 0; t < batch.used_tokens; ++t) {
    if (batch.ids[t] < 0 || batch.ids[t] >= shape.vocab_size || batch.targets[t] >= shape.vocab_size) {
      return InvalidInput("token %d of a micro-batch is %d with target %d; the model's vocabulary has %d", t,
                          batch.ids[t], batch.targets[t], shape.vocab_size);
    }
    if (batch.positions[t] >= shape.context_length) {
      return InvalidInput("a segment of a micro-batch is longer than model.context_length %d",
                          shape.context_length);
    }
  }
  return absl::OkStatus();
}

class MeshEngine final : public Engine {
 public:
  MeshEngine(const EngineOptions& options, const Mesh& mesh) : options_(options), mesh_(mesh) {
    for (const ModelOptions& model : options.models) {
      models_.push_back(std::make_unique<Model>(model, options, mesh));
    }
    Layout();
    MakePlan();
  }

  void Start() {
    for (Arena* arena : Arenas()) arena->Commit();
    Layout();
    for (auto& model : models_) model->Start();
  }

  const Mesh& mesh() const override { return mesh_; }
  const EngineOptions& options() const override { return options_; }
  const MemoryPlan& plan() const override { return plan_; }
  bool HasModel(const std::string& name) const override { return Lookup(name) != nullptr; }
  const ModelOptions& model(const std::string& name) const override { return Find(name).options; }
  const ParameterSet& parameters(const std::string& name) const override { return Find(name).parameters; }

  absl::StatusOr<StepResult> Train(const std::string& name, std::span<const MicroBatch> micro_batches,
                                   const Loss& loss, double learning_rate) override {
    Model& model = Find(name);
    if (!model.optimizer) return InvalidInput("model %s is frozen and cannot be trained", name);
    TANREN_ASSIGN_OR_RETURN(StepResult result, Run(model, micro_batches, loss, Gradients::kSummed));
    const Doing updating(Work::kUpdate);
    const ShardedAdamW::StepResult step = model.optimizer->Step(learning_rate);
    result.gradient_norm = step.gradient_norm;
    result.skipped = step.skipped;
    if (!step.skipped) model.WeightsChanged();
    return result;
  }

  absl::StatusOr<StepResult> Evaluate(const std::string& name, std::span<const MicroBatch> micro_batches,
                                      const Loss& loss) override {
    return Run(Find(name), micro_batches, loss, Gradients::kNone);
  }

  absl::StatusOr<StepResult> GradientsForTest(const std::string& name,
                                              std::span<const MicroBatch> micro_batches, const Loss& loss,
                                              std::vector<float>* gradients) override {
    Model& model = Find(name);
    if (!model.optimizer) return InvalidInput("model %s is frozen and has no gradients", name);
    TANREN_ASSIGN_OR_RETURN(StepResult result, Run(model, micro_batches, loss, Gradients::kLocal));
    const int64_t count = model.parameters.flat_count();
    gradients->resize(count);
    kernels::CopyToHost(mesh_.stream, gradients->data(), model.gradients, count * int64_t{sizeof(float)});
    kernels::Fill(mesh_.stream, count * int64_t{sizeof(float)}, 0, model.gradients);
    return result;
  }

  absl::StatusOr<Statistics> Score(const std::string& name, const MicroBatch& batch, uint32_t statistics,
                                   bool per_segment, float temperature) override {
    Model& model = Find(name);
    TANREN_RETURN_IF_ERROR(CheckBatch(batch, model.options.shape, options_.micro_batch_tokens));
    if ((statistics & ~uint32_t{kValue}) && !model.options.shape.vocabulary_head) {
      return InvalidInput("model %s has no vocabulary head, whose statistics are asked for", name);
    }
    if ((statistics & kValue) && !model.options.shape.scalar_head) {
      return InvalidInput("model %s has no scalar head, whose values are asked for", name);
    }
    Statistics out;
    if (!(temperature > 0)) return InvalidInput("a temperature of %g; it must be above 0", temperature);
    const Doing scoring(Work::kForward);
    model.BringWeights();
    model.head.Score(batch, model.decoder.Forward(batch), statistics, per_segment, temperature, &out);
    return out;
  }

  absl::StatusOr<std::vector<GenerationResult>> Generate(
      const std::string& name, std::span<const GenerationRequest> requests) override {
    Model& model = Find(name);
    if (!model.options.generates) return InvalidInput("model %s was not declared to generate", name);
    return GenerateOnMesh(model, options_, mesh_, requests);
  }

  std::unique_ptr<StateAccess> State(const std::string& name) override { return AccessState(Find(name)); }
  std::unique_ptr<StateAccess> Snapshot(const std::string& name) override {
    return SnapshotState(Find(name));
  }
  WeightsDigest DigestWeights(const std::string& name) override { return Find(name).DigestWeights(); }
  void DamageWeightsForTest(const std::string& name, Damage damage) override {
    Find(name).DamageWeights(damage);
  }
  int64_t updates(const std::string& name) const override {
    const Model& model = Find(name);
    return model.optimizer ? model.optimizer->updates() : 0;
  }
  void set_updates(const std::string& name, int64_t updates) override {
    Model& model = Find(name);
    if (model.optimizer) model.optimizer->set_updates(updates);
  }
  std::string gradient_ranges(const std::string& name) const override {
    const ElasticGradients* elastic = Elastic(Find(name));
    return elastic == nullptr ? "" : elastic->SaveRanges();
  }
  absl::Status set_gradient_ranges(const std::string& name, const std::string& ranges) override {
    ElasticGradients* elastic = Elastic(Find(name));
    return elastic == nullptr ? absl::OkStatus() : At(name, elastic->RestoreRanges(ranges));
  }

 private:
  std::vector<Arena*> Arenas() {
    return {&weights_,     &shared_.arena, &gradients_, &optimizer_,
            &activations_, &generation_,   &offloaded_, &snapshots_};
  }

  void Layout() {
    StateArenas state{weights_, gradients_, optimizer_, offloaded_, shared_};
    for (auto& model : models_) model->LayoutState(state);
    // One model computes at a time, so they share the memory of a micro-batch.
    for (auto& model : models_) {
      const int64_t mark = activations_.Mark();
      model->LayoutActivations(activations_);
      activations_.Release(mark);
    }
    for (auto& model : models_) model->LayoutGeneration(generation_, options_);
    if (!options_.snapshots) return;
    for (auto& model : models_) model->LayoutSnapshot(snapshots_);
  }

  void MakePlan() {
    for (Arena* arena : Arenas()) {
      for (const Arena::Item& item : arena->Items())
        plan_.entries.push_back({arena->name(), item.label, item.bytes});
      plan_.arenas.push_back({arena->name(), "", arena->high_water_bytes()});
      const bool beside_device = arena->device() != mesh_.stream.device;
      (beside_device ? plan_.host_bytes : plan_.total_bytes) += arena->high_water_bytes();
    }
  }

  Model* Lookup(const std::string& name) const {
    for (const auto& model : models_) {
      if (model->options.name == name) return model.get();
    }
    return nullptr;
  }
  Model& Find(const std::string& name) const {
    Model* model = Lookup(name);
    TANREN_CHECK_MSG(model != nullptr, "the engine has no model ", name);
    return *model;
  }

  static ElasticGradients* Elastic(const Model& model) {
    return model.optimizer ? model.optimizer->elastic() : nullptr;
  }

  // Of the global step.
  struct Counts {
    int64_t micro_batches = 0;
    Normalizers normalizers;
  };
  Counts Count(std::span<const MicroBatch> micro_batches);
  // kLocal: those of the rank's micro-batches are left in the gradient buffer; kSummed: ready for the
  // optimizer, which for elastic ones means in their own sums.
  enum class Gradients : uint8_t { kNone, kLocal, kSummed };
  absl::StatusOr<StepResult> Run(Model& model, std::span<const MicroBatch> micro_batches, const Loss& loss,
                                 Gradients gradients);
  // Forward and, with gradients, backward passes. `sums`: of each micro-batch, the loss and its metrics.
  void Compute(Model& model, std::span<const MicroBatch> micro_batches, const Loss& loss,
               const Normalizers& normalizers, Gradients gradients, std::vector<ExactSum>* sums);

  EngineOptions options_;
  Mesh mesh_;
  Arena weights_{"weights", mesh_.stream.device};
  SharedWeights shared_{Arena("shared frozen weights", mesh_.stream.device)};
  Arena offloaded_{"offloaded weights", Device::kCpu, /*pinned=*/mesh_.stream.device != Device::kCpu};
  Arena snapshots_{"snapshots", Device::kCpu, /*pinned=*/mesh_.stream.device != Device::kCpu};
  Arena gradients_{"gradients", mesh_.stream.device};
  Arena optimizer_{"optimizer", mesh_.stream.device};
  Arena activations_{"activations", mesh_.stream.device};
  Arena generation_{"generation", mesh_.stream.device};
  MemoryPlan plan_;
  std::vector<std::unique_ptr<Model>> models_;
};

MeshEngine::Counts MeshEngine::Count(std::span<const MicroBatch> micro_batches) {
  // All integers, so that no order of adding them matters: four counts, and the sum of the weights.
  int64_t counts[4 + ExactSum::kWords] = {};
  ExactSum weights;
  for (const MicroBatch& batch : micro_batches) {
    ++counts[0];
    counts[1] += static_cast<int64_t>(batch.trained.size());
    counts[2] += batch.segments();
    counts[3] += batch.units();
    const std::vector<float>* weight = batch.columns.Find("weight");
    if (weight == nullptr) weights.Add(static_cast<double>(batch.trained.size()));
    for (int32_t t : batch.trained) {
      if (weight != nullptr) weights.Add((*weight)[t]);
    }
  }
  std::copy_n(weights.words(), ExactSum::kWords, counts + 4);
  mesh_.data->AllReduce(Stream(), "normalizers", Buffer(counts), std::size(counts), ReduceOp::kSum);
  std::copy_n(counts + 4, ExactSum::kWords, weights.words());
  Counts out;
  out.micro_batches = counts[0];
  out.normalizers.trained_tokens = static_cast<double>(counts[1]);
  out.normalizers.trained_weight = weights.Round();
  out.normalizers.segments = static_cast<double>(counts[2]);
  out.normalizers.units = static_cast<double>(counts[3]);
  return out;
}

absl::StatusOr<StepResult> MeshEngine::Run(Model& model, std::span<const MicroBatch> micro_batches,
                                           const Loss& loss, Gradients gradients) {
  absl::Status local = CheckLoss(model.options, micro_batches, loss);
  for (const MicroBatch& batch : micro_batches) {
    local.Update(CheckBatch(batch, model.options.shape, options_.micro_batch_tokens));
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*mesh_.world, "step check", local));
  StepResult result;
  const Counts counts = Count(micro_batches);
  result.normalizers = counts.normalizers;
  const bool reads_tokens = loss.coupling() == Coupling::kToken || (loss.statistics() & ~uint32_t{kValue});
  if (result.normalizers.trained_tokens == 0 && reads_tokens) {
    return InvalidInput("the step has no trained token: every loss mask is empty");
  }
  for (const std::string& column : loss.columns()) {
    if (column == "weight" && !(result.normalizers.trained_weight > 0)) {
      return InvalidInput("the weights of the step's trained tokens sum to %g; they must sum to more than 0",
                          result.normalizers.trained_weight);
    }
  }
  if (result.normalizers.units == 0) return InvalidInput("the step has no unit to learn from");
  ElasticGradients* elastic = gradients == Gradients::kSummed ? Elastic(model) : nullptr;
  if (elastic != nullptr && counts.micro_batches * mesh_.tensor->size() > ElasticGradients::kMostTerms) {
    return InvalidInput(
        "the step has %d micro-batches; with train.determinism: elastic it may have %d at most, over "
        "parallel.tensor",
        counts.micro_batches, ElasticGradients::kMostTerms);
  }
  std::vector<ExactSum> sums;
  Compute(model, micro_batches, loss, result.normalizers, gradients, &sums);
  if (elastic != nullptr && !elastic->RangesHold(counts.micro_batches)) {
    result.repeated = true;
    Compute(model, micro_batches, loss, result.normalizers, gradients, &sums);
    TANREN_CHECK(elastic->RangesHold(counts.micro_batches));
  }
  std::vector<int64_t> words;
  for (ExactSum& sum : sums) words.insert(words.end(), sum.words(), sum.words() + ExactSum::kWords);
  mesh_.data->AllReduce(Stream(), "loss sums", Buffer(words.data()), static_cast<int64_t>(words.size()),
                        ReduceOp::kSum);
  for (size_t s = 0; s < sums.size(); ++s) {
    std::copy_n(words.begin() + static_cast<int64_t>(s) * ExactSum::kWords, ExactSum::kWords,
                sums[s].words());
  }
  result.loss = sums[0].Round();
  for (size_t s = 1; s < sums.size(); ++s) result.metrics.push_back(sums[s].Round());
  return result;
}

void MeshEngine::Compute(Model& model, std::span<const MicroBatch> micro_batches, const Loss& loss,
                         const Normalizers& normalizers, Gradients gradients, std::vector<ExactSum>* sums) {
  sums->assign(1 + loss.metrics().size(), ExactSum());
  std::vector<double> of_batch(sums->size());
  model.BringWeights();
  for (const MicroBatch& batch : micro_batches) {
    std::fill(of_batch.begin(), of_batch.end(), 0.0);
    const Doing forward(Work::kForward);
    const ConstBuffer hidden = model.decoder.Forward(batch);
    model.head.Run(batch, hidden, loss, normalizers, gradients != Gradients::kNone, of_batch.data());
    for (size_t s = 0; s < sums->size(); ++s) (*sums)[s].Add(of_batch[s]);
    if (gradients == Gradients::kNone) continue;
    const Doing backward(Work::kBackward);
    model.decoder.Backward(model.head.dhidden());
    ElasticGradients* elastic = gradients == Gradients::kSummed ? Elastic(model) : nullptr;
    if (elastic != nullptr) elastic->AddMicroBatch();
  }
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(const EngineOptions& options, const Mesh& mesh) {
  TANREN_RETURN_IF_ERROR(CheckOptions(options, mesh));
  return MeshEngine(options, mesh).plan();
}

absl::Status CheckMemory(const MemoryPlan& plan, int64_t limit_bytes, int64_t host_limit_bytes) {
  if (host_limit_bytes > 0 && plan.host_bytes > host_limit_bytes) {
    return InvalidInput(
        "the plan needs %.1f MiB of page-locked host memory on this rank and %.1f MiB are left; set "
        "checkpoint.async: false (no copy of the state) or init.offload: false (frozen models on the GPU), "
        "or "
        "use more nodes",
        plan.host_bytes / 1048576.0, host_limit_bytes / 1048576.0);
  }
  if (limit_bytes <= 0 || plan.total_bytes <= limit_bytes) return absl::OkStatus();
  std::vector<MemoryPlan::Entry> largest = plan.entries;
  std::stable_sort(largest.begin(), largest.end(),
                   [](const MemoryPlan::Entry& a, const MemoryPlan::Entry& b) { return a.bytes > b.bytes; });
  std::string consumers;
  for (size_t i = 0; i < std::min<size_t>(3, largest.size()); ++i) {
    absl::StrAppendFormat(&consumers, "%s%s %.1f MiB", i ? ", " : "", largest[i].label,
                          largest[i].bytes / 1048576.0);
  }
  const bool snapshots = std::ranges::any_of(
      plan.entries, [](const MemoryPlan::Entry& entry) { return entry.label == kSnapshotLabel; });
  return InvalidInput(
      "the plan needs %.1f MiB on this rank and %.1f MiB are allowed (largest: %s); lower "
      "batch.micro_batch_tokens or set train.recompute: full%s, or use more ranks (parallel.tensor, "
      "parallel.data)",
      plan.total_bytes / 1048576.0, limit_bytes / 1048576.0, consumers,
      snapshots ? " or checkpoint.async: false" : "");
}

absl::StatusOr<std::unique_ptr<Engine>> MakeMeshEngine(const EngineOptions& options, const Mesh& mesh,
                                                       int64_t limit_bytes, int64_t host_limit_bytes) {
  TANREN_RETURN_IF_ERROR(AgreeStatus(*mesh.world, "engine options", CheckOptions(options, mesh)));
  auto engine = std::make_unique<MeshEngine>(options, mesh);
  TANREN_RETURN_IF_ERROR(
      AgreeStatus(*mesh.world, "memory plan", CheckMemory(engine->plan(), limit_bytes, host_limit_bytes)));
  engine->Start();
  return engine;
}

}  // namespace tanren
