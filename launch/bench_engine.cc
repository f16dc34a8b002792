// Whole steps: training and decoding of a model of the given shape with random weights and tokens.
#include <cstdio>

#include "absl/strings/str_join.h"
#include "core/comm/mesh.h"
#include "core/config/config.h"
#include "core/loss/next_token.h"
#include "core/proto/config.pb.h"
#include "core/trainer/setup.h"
#include "launch/bench_decode_parts.h"
#include "launch/bench_support.h"
#include "launch/bench_verb.h"
#include "parallel/engine/mesh_engine.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

struct Bench {
  config::Config config;
  EngineOptions engine;
  std::unique_ptr<Runtime> runtime;
};

absl::StatusOr<Bench> Prepare(const BenchOptions& options, std::vector<std::string> overrides = {}) {
  Bench bench;
  overrides.push_back(absl::StrCat("parallel.device=", options.device));
  overrides.push_back(absl::StrCat("train.precision=", options.precision));
  overrides.insert(overrides.end(), options.overrides.begin(), options.overrides.end());
  TANREN_ASSIGN_OR_RETURN(
      const config::Config config,
      config::LoadConfigText(absl::StrCat("model: {include: ", options.model, "}\n"), "bench", overrides));
  bench.config = config::Resolve(config);
  TANREN_ASSIGN_OR_RETURN(bench.engine,
                          EngineOptionsFromConfig(bench.config, bench.config.model().vocab_size()));
  bench.engine.snapshots = false;  // nothing is saved
  TANREN_ASSIGN_OR_RETURN(bench.runtime, Runtime::Start());
  MeshShape shape;
  shape.data = 0;
  shape.tensor = static_cast<int>(bench.config.parallel().tensor());
  TANREN_RETURN_IF_ERROR(bench.runtime->BuildMesh(shape, DeviceOf(bench.config)));
  bench.runtime->SetThreads(static_cast<int>(bench.config.parallel().threads()));
  return bench;
}

// A micro-batch of segments of `length` random tokens.
MicroBatch RandomBatch(int64_t capacity, int64_t length, int64_t vocab, uint64_t stream_id) {
  std::vector<Unit> units;
  uint64_t drawn = 0;
  for (int64_t begin = 0; begin + length <= capacity; begin += length) {
    Unit unit;
    for (int64_t t = 0; t < length; ++t) {
      unit.ids.push_back(static_cast<int32_t>(kernels::RandomBelow(11, stream_id, drawn++, vocab)));
      unit.targets.push_back(static_cast<int32_t>(kernels::RandomBelow(11, stream_id, drawn++, vocab)));
    }
    unit.mask.assign(length, 1);
    unit.segment_lengths = {static_cast<int32_t>(length)};
    units.push_back(std::move(unit));
  }
  MicroBatch batch;
  TANREN_CHECK(PackMicroBatch(units, capacity, &batch).ok());
  return batch;
}

absl::Status RunSteps(const BenchOptions& options) {
  TANREN_ASSIGN_OR_RETURN(Bench bench, Prepare(options));
  const Mesh& mesh = bench.runtime->mesh();
  const bool speaks = bench.runtime->world().rank() == 0;
  const bool cuda = mesh.stream.device == Device::kCuda;
  const int64_t limit = MemoryLimit(bench.config, bench.runtime->memory_sharing(), bench.runtime->device());
  const int64_t free_before = cuda ? kernels::PropertiesOf(bench.runtime->device()).free_bytes : 0;
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, MakeMeshEngine(bench.engine, mesh, limit));
  const ModelShape& shape = bench.engine.models[0].shape;
  const int64_t capacity = bench.engine.micro_batch_tokens;
  const int64_t length = std::min(bench.config.data().sequence_length(), capacity);
  const int64_t per_rank = std::max<int64_t>(1, bench.config.batch().micro_batches() / mesh.shape.data);
  std::vector<MicroBatch> batches;
  for (int64_t i = 0; i < per_rank; ++i) {
    batches.push_back(RandomBatch(capacity, length, shape.vocab_size, mesh.data->rank() * per_rank + i));
  }
  const NextTokenLoss loss{NextTokenFunctor<false>{}};
  std::vector<double> seconds;
  double last_loss = 0;
  constexpr int kWarmUp = 3;
  for (int64_t step = 0; step < options.steps + kWarmUp; ++step) {
    kernels::Synchronize(mesh.stream);
    const auto begin = std::chrono::steady_clock::now();
    TANREN_ASSIGN_OR_RETURN(const StepResult result, engine->Train("policy", batches, loss, 1e-4));
    kernels::Synchronize(mesh.stream);
    if (step >= kWarmUp) {
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    last_loss = result.loss;
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double tokens = static_cast<double>(per_rank * capacity / length * length * mesh.shape.data);
  const double flops_per_token = 3 * ForwardFlops(shape, MeanKeys(shape, static_cast<double>(length)));
  if (!speaks) return absl::OkStatus();
  std::printf("%s\n%s, %s\n", options.model.c_str(), bench.runtime->Describe().c_str(),
              bench.runtime->DescribeDevice().c_str());
  std::printf("step         %lld micro-batches of %lld tokens, sequences of %lld, %s, %s\n",
              static_cast<long long>(per_rank * mesh.shape.data), static_cast<long long>(capacity),
              static_cast<long long>(length), options.precision.c_str(), mesh.shape.ToString().c_str());
  std::printf("step         %.2f ms, %.0f tokens/s, %.1f TFLOP/s (6 N + 6 L S d per token), loss %.4f\n",
              median * 1e3, tokens / median, flops_per_token * tokens / median / 1e12, last_loss);
  std::printf("memory       plan %.2f GiB", engine->plan().total_bytes / 1073741824.0);
  if (cuda)
    std::printf(", device %.2f GiB",
                (free_before - kernels::PropertiesOf(bench.runtime->device()).free_bytes) / 1073741824.0);
  std::printf("\n");
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status RunDecodeParts(const BenchOptions& options) {
  if (options.batch < 1 || options.prompt < 1 || options.steps < 1) {
    return InvalidInput("--batch %d, --prompt %d, --steps %d: each is at least 1", options.batch,
                        options.prompt, options.steps);
  }
  TANREN_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(options));
  TANREN_ASSIGN_OR_RETURN(const Bench bench, Prepare(options));
  const Mesh& mesh = bench.runtime->mesh();
  if (mesh.world->size() > 1) return InvalidInput("--parts: one rank, not %d", mesh.world->size());
  const int64_t position = options.prompt + options.steps / 2;
  std::printf("%s, %s, batch %lld, %lld tokens in the cache\n", options.model.c_str(),
              bench.runtime->DescribeDevice().c_str(), static_cast<long long>(options.batch),
              static_cast<long long>(position));
  PrintDecodeParts(mesh.stream, dtype, bench.engine.models[0].shape, options.batch, position,
                   options.prompt + options.steps);
  return absl::OkStatus();
}

absl::Status RunDecode(const BenchOptions& options) {
  if (options.parts) return RunDecodeParts(options);
  // Nothing is trained: a small micro-batch keeps the memory for the cache.
  TANREN_ASSIGN_OR_RETURN(Bench bench,
                          Prepare(options, {"batch.micro_batch_tokens=256", "data.sequence_length=64"}));
  const Mesh& mesh = bench.runtime->mesh();
  ModelOptions& policy = bench.engine.models[0];
  policy.trainable = false;
  policy.generates = true;
  bench.engine.decode_slots = options.batch;
  bench.engine.prefill_tokens = std::max<int64_t>(options.prompt, 64);
  const int64_t answer = options.steps;
  bench.engine.generation_tokens = options.prompt + answer;
  TANREN_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      MakeMeshEngine(bench.engine, mesh,
                     MemoryLimit(bench.config, bench.runtime->memory_sharing(), bench.runtime->device())));
  const auto generate = [&](int64_t tokens) -> absl::StatusOr<double> {
    std::vector<GenerationRequest> requests(options.batch * mesh.shape.data);
    for (size_t r = 0; r < requests.size(); ++r) {
      for (int64_t t = 0; t < options.prompt; ++t) {
        requests[r].prompt.push_back(
            static_cast<int32_t>(kernels::RandomBelow(5, r, t, policy.shape.vocab_size)));
      }
      requests[r].max_tokens = tokens;
      requests[r].sampling.temperature = 0;  // as the peers of docs/benchmarks
    }
    kernels::Synchronize(mesh.stream);
    const auto begin = std::chrono::steady_clock::now();
    TANREN_RETURN_IF_ERROR(engine->Generate("policy", requests).status());
    kernels::Synchronize(mesh.stream);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  TANREN_RETURN_IF_ERROR(generate(2).status());
  TANREN_ASSIGN_OR_RETURN(const double first, generate(1));
  TANREN_ASSIGN_OR_RETURN(const double all, generate(answer));
  const double step = (all - first) / static_cast<double>(std::max<int64_t>(answer - 1, 1));
  // What one step must read: every weight once, and the keys and values of all sequences.
  const double element = options.precision == "bf16" ? 2 : 4;
  const double weights = MatmulParameters(policy.shape) * element;
  const double context = static_cast<double>(options.prompt) + static_cast<double>(answer) / 2;
  const double cache =
      2.0 * static_cast<double>(policy.shape.layers * policy.shape.kv_heads * policy.shape.head_dim) *
      element * context * static_cast<double>(options.batch);
  if (bench.runtime->world().rank() != 0) return absl::OkStatus();
  std::printf("%s, %s\n", options.model.c_str(), bench.runtime->DescribeDevice().c_str());
  std::printf(
      "decode       batch %lld, prompt %lld: first token after %.2f ms; %.3f ms a step, %.0f tokens/s, "
      "%.0f GB/s of weights and cache\n",
      static_cast<long long>(options.batch), static_cast<long long>(options.prompt), first * 1e3, step * 1e3,
      static_cast<double>(options.batch) / step, (weights + cache) / step / 1e9);
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace

int BenchStep(const BenchOptions& options) { return StatusExit(RunSteps(options)); }
int BenchDecode(const BenchOptions& options) { return StatusExit(RunDecode(options)); }

}  // namespace tanren
