#include "parallel/engine/model.h"

#include <algorithm>

#include "core/base/status.h"
#include "kernels/device.h"
#include "kernels/digest.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

ParameterSet::Options ParameterOptions(const EngineOptions& engine, const Mesh& mesh) {
  return {mesh.tensor->rank(), mesh.tensor->size(), mesh.data->size(), engine.bucket_bytes};
}

DecoderOptions MakeDecoderOptions(const ModelOptions& model, const EngineOptions& engine) {
  DecoderOptions options;
  options.dtype = model.dtype;
  options.trainable = model.trainable;
  options.recompute = model.recompute;
  options.capacity_tokens = engine.micro_batch_tokens;
  if (model.generates) {
    options.decode_slots = engine.decode_slots;
    options.prefill_tokens = engine.prefill_tokens;
  }
  return options;
}

int64_t ScoreOffset(const ParameterSet& parameters) {
  const Parameter* score = parameters.Find("score.weight");
  return score == nullptr ? -1 : score->offset;
}

}  // namespace

Model::Model(const ModelOptions& model_options, const EngineOptions& engine, const Mesh& the_mesh)
    : options(model_options),
      mesh(the_mesh),
      parameters(model_options.shape, ParameterOptions(engine, the_mesh)),
      decoder(model_options.shape, parameters, the_mesh, MakeDecoderOptions(model_options, engine)),
      head(decoder, engine.head_chunk_tokens, ScoreOffset(parameters)),
      offloads_(engine.offload_frozen && !model_options.trainable && !model_options.generates) {
  if (options.trainable) {
    optimizer = std::make_unique<ShardedAdamW>(parameters, mesh, options.dtype, options.optimizer);
  }
}

void Model::LayoutState(StateArenas& arenas) {
  decoder.LayoutTables(arenas.weights);
  Arena& arena = offloads_ ? arenas.shared.arena : arenas.weights;
  const int64_t mark = arena.Mark();
  weights = arena.Take("weights", options.dtype, parameters.flat_count());
  digest.Layout(arenas.weights, "digest", 1 + static_cast<int64_t>(parameters.all().size()));
  decoder.LayoutWeights(arena);
  if (offloads_) {
    arena.Release(mark);  // for the next offloaded model
    shared_ = &arenas.shared;
    host_weights_ =
        arenas.offloaded.Take("offloaded weights", options.dtype, parameters.flat_count()).as<char>();
  }
  if (!options.trainable) return;
  gradients = arenas.gradients.Take<float>("gradients", parameters.flat_count());
  optimizer->Layout(arenas.optimizer);
}

void Model::LayoutActivations(Arena& arena) {
  decoder.LayoutActivations(arena);
  head.LayoutActivations(arena);
}

void Model::LayoutGeneration(Arena& arena, const EngineOptions& engine) {
  if (!options.generates) return;
  decoder.LayoutCache(arena, engine.decode_slots, engine.generation_tokens, &cache);
  decoder.LayoutGeneration(arena);
  const int64_t count = engine.decode_slots * decoder.local().vocab;
  const int64_t tensor_size = mesh.tensor->size();
  logits_local = arena.Take<float>("sampling", count);
  logits = logits_local;
  if (tensor_size > 1) {
    logits_gathered = arena.Take<float>("sampling", count * tensor_size);
    logits = arena.Take<float>("sampling", count * tensor_size);
  }
  sample_rows = arena.Take("sampling", options.dtype, engine.decode_slots * options.shape.width);
  sampling.Layout(arena, "sampling", engine.decode_slots);
  samples.Layout(arena, "sampling", engine.decode_slots);
  const int64_t distinct = std::min(engine.generation_tokens, options.shape.vocab_size);
  penalties.Layout(arena, "sampling", engine.decode_slots * distinct);
  plain_logits = arena.Take<float>("sampling", engine.decode_slots * distinct);
}

void Model::LayoutSnapshot(Arena& arena) {
  if (!optimizer) return;  // its pieces are copies in any case
  const int64_t count = optimizer->shard_count();
  snapshot.master = arena.Take(kSnapshotLabel, DType::kF32, count);
  snapshot.first_moment = arena.Take(kSnapshotLabel, options.optimizer.moments, count);
  snapshot.second_moment = arena.Take(kSnapshotLabel, options.optimizer.moments, count);
}

void Model::Start() {
  decoder.Bind(weights, gradients);
  head.Bind(weights, gradients);
  if (optimizer) optimizer->Bind(weights, gradients);
  // Now, and not when the run waits for its first save, the system finds the memory of a snapshot.
  for (const Buffer& part : {snapshot.master, snapshot.first_moment, snapshot.second_moment}) {
    if (part) kernels::Fill(Stream(), optimizer->shard_count() * SizeOf(part.dtype), 0, part.data);
  }
  InitializeWeights();
  WeightsChanged();
}

void Model::WriteWeights(const Parameter& parameter, const float* values) {
  const int64_t width = SizeOf(options.dtype);
  if (offloaded()) {
    kernels::Synchronize(mesh.stream);  // a copy to the device may still read them
    kernels::Cast(Stream(), parameter.count, ConstBuffer(values),
                  Buffer(host_weights_ + parameter.offset * width, options.dtype));
    return;
  }
  std::vector<char> rounded(parameter.count * width);
  kernels::Cast(Stream(), parameter.count, ConstBuffer(values), Buffer(rounded.data(), options.dtype));
  kernels::CopyToDevice(mesh.stream, static_cast<char*>(weights.data) + parameter.offset * width,
                        rounded.data(), parameter.count * width);
}

void Model::ReadWeights(const Parameter& parameter, float* values) const {
  const int64_t width = SizeOf(options.dtype);
  if (offloaded()) {
    kernels::Cast(Stream(), parameter.count,
                  ConstBuffer(host_weights_ + parameter.offset * width, options.dtype), Buffer(values));
    return;
  }
  std::vector<char> rounded(parameter.count * width);
  kernels::CopyToHost(mesh.stream, rounded.data(),
                      static_cast<const char*>(weights.data) + parameter.offset * width,
                      parameter.count * width);
  kernels::Cast(Stream(), parameter.count, ConstBuffer(rounded.data(), options.dtype), Buffer(values));
}

void Model::WeightsChanged() {
  if (!offloaded()) return decoder.PackWeights();
  if (shared_->resident == this) shared_->resident = nullptr;
}

void Model::BringWeights() {
  if (!offloaded() || shared_->resident == this) return;
  kernels::CopyToDevice(mesh.stream, weights.data, host_weights_, weight_bytes());
  decoder.PackWeights();
  shared_->resident = this;
}

WeightsDigest Model::DigestWeights() {
  BringWeights();
  const int64_t width = SizeOf(options.dtype);
  uint64_t* next = digest.device();
  kernels::Digest(mesh.stream, weight_bytes(), weights.data, next++);
  if (mesh.tensor->size() > 1) {
    for (const Parameter& parameter : parameters.all()) {
      if (parameter.sync != TensorSync::kComplete && parameter.sync != TensorSync::kSum) continue;
      kernels::Digest(mesh.stream, parameter.count * width, weights.as<char>() + parameter.offset * width,
                      next++);
    }
  }
  const int64_t count = next - digest.device();
  digest.ToHost(mesh.stream, count);
  WeightsDigest out;
  out.own = digest.host()[0];
  for (int64_t i = 1; i < count; ++i) out.replicated += kernels::DigestWord(digest.host()[i], i);
  return out;
}

void Model::DamageWeights(Engine::Damage damage) {
  const Parameter* norm = parameters.Find("final_norm.weight");
  TANREN_CHECK(norm != nullptr && !offloaded());
  const int64_t width = SizeOf(options.dtype);
  char* weight = weights.as<char>() + norm->offset * width;
  std::vector<unsigned char> bytes(width);
  kernels::CopyToHost(mesh.stream, bytes.data(), weight, width);
  bytes[0] ^= 1;
  if (damage == Engine::Damage::kNaN) std::ranges::fill(bytes, 0xff);  // in each floating-point format
  kernels::CopyToDevice(mesh.stream, weight, bytes.data(), width);
  WeightsChanged();
}

void Model::InitializeWeights() {
  // Parameter by parameter, so that a model in bf16 needs no fp32 copy of the whole.
  std::vector<float> values;
  for (const Parameter& parameter : parameters.all()) {
    values.assign(parameter.count, 0);
    InitializeParameter(parameter, options.init_seed, values.data());
    WriteWeights(parameter, values.data());
    if (!optimizer || options.dtype == DType::kF32) continue;
    for (const ShardedAdamW::Owned& piece : optimizer->owned()) {
      if (piece.parameter != &parameter) continue;
      kernels::CopyToDevice(mesh.stream, optimizer->master(piece),
                            values.data() + (piece.begin - parameter.offset),
                            piece.count * int64_t{sizeof(float)});
    }
  }
}

}  // namespace tanren
