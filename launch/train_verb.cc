#include "launch/train_verb.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/config/config.h"
#include "core/config/ineffective.h"
#include "core/plugin/load.h"
#include "core/proto/config.pb.h"
#include "core/tensor/arena.h"
#include "core/trainer/launch_agreement.h"
#include "core/trainer/setup.h"
#include "core/trainer/trainer.h"
#include "kernels/device.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "launch/estimate_verb.h"
#include "launch/job.h"
#include "parallel/engine/mesh_engine.h"
#include "parallel/runtime/runtime.h"
#include "parallel/runtime/stop_signal.h"

namespace tanren {
namespace {

// FLOP/s of a product of square matrices [size, size] on this rank's device.
double MeasureSquareRate(const Stream& stream, DType dtype, int64_t size) {
  kernels::Linear linear(size, size, dtype, stream.device);
  Arena arena("matrix product rate", stream.device);
  Buffer x, w, y;
  float* normal = nullptr;
  void* packed = nullptr;
  const auto layout = [&] {
    normal = arena.Take<float>("normal numbers", size * size);
    for (Buffer* matrix : {&x, &w, &y}) *matrix = arena.Take("matrices", dtype, size * size);
    packed = arena.Take("packed weights", DType::kU8, linear.PackedBytes(false)).data;
  };
  layout();
  arena.Commit();
  layout();
  // Products of zeros run faster than those of real numbers.
  uint64_t number = 0;
  for (const Buffer& matrix : {x, w}) {
    kernels::FillNormal(stream, 1, 0, number, size * size, 1, normal);
    kernels::Cast(stream, size * size, ConstBuffer(normal), matrix);
    number += size * size;
  }
  linear.Bind(w, packed, false);
  linear.Pack(stream);
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    kernels::Synchronize(stream);
    const auto begin = std::chrono::steady_clock::now();
    linear.Forward(stream, size, {x, size}, ConstBuffer(), {y, size});
    kernels::Synchronize(stream);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, 2.0 * size * size * size / seconds);
  }
  return best;
}

// The yardstick of the utilisation that is shown.
double MeasureMatmulRate(const Stream& stream, DType dtype) {
  constexpr int64_t kSmall = 1024, kLarge = 4096;
  constexpr double kFast =
      2e12;  // the small product takes a millisecond: too short to measure, and it fills no GPU
  const double rate = MeasureSquareRate(stream, dtype, kSmall);
  return rate < kFast ? rate : MeasureSquareRate(stream, dtype, kLarge);
}

WatchdogOptions OptionsOf(const config::WatchdogConfig& config) {
  WatchdogOptions options;
  options.enabled = config.enabled();
  options.limits.silence_seconds = config.silence_seconds();
  options.limits.stall_seconds = config.stall_seconds();
  options.limits.step_factor = config.step_factor();
  options.limits.quiet_seconds = config.quiet_seconds();
  options.limits.slow_factor = config.slow_factor();
  options.interface = config.interface();
  return options;
}

// Every rank must run the same code. Says on rank 0 what was loaded.
absl::Status AgreePlugins(Comm& world) {
  std::string own;
  for (const LoadedPlugin& plugin : LoadedPlugins()) {
    absl::StrAppend(&own, own.empty() ? "" : "; ", plugin.path, " of SHA-256 ", plugin.sha256);
    if (world.rank() == 0) {
      std::printf("plugin      %s: stages %s, SHA-256 %.12s\n", plugin.path.c_str(),
                  absl::StrJoin(plugin.stages, ", ").c_str(), plugin.sha256.c_str());
    }
  }
  const std::string first = BroadcastString(world, "plugins", own, 0);
  return AgreeStatus(
      world, "plugins",
      own == first ? absl::OkStatus()
                   : InvalidInput("plugins: loads %s, and rank 0 %s; give every rank the same", own, first));
}

// Which rank is where, and what is odd about it, once, on rank 0.
void TellPlaces(Runtime& runtime) {
  if (runtime.world().size() == 1) return;
  const std::vector<RankPlace> places = GatherPlaces(runtime.world(), runtime.DescribePlace());
  if (runtime.world().rank() != 0) return;
  std::printf("%s", RankTable(places, runtime.mesh().shape).c_str());
  for (const std::string& warning : PlaceWarnings(places))
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
}

// Where the micro-batches of a step, batch.micro_batches of them, leave data ranks without work. Stage rl
// cuts its rollouts itself.
void TellIdleRanks(const config::Config& config, const Mesh& mesh) {
  const int64_t ranks = mesh.shape.data, count = config.batch().micro_batches();
  const int64_t idle = (ranks - count % ranks) % ranks;
  if (mesh.world->rank() != 0 || idle == 0 || config.stage() == "rl") return;
  std::fprintf(stderr,
               "warning: batch.micro_batches: %lld for %lld data ranks: %lld without work%s; a multiple of "
               "%lld keeps all busy\n",
               static_cast<long long>(count), static_cast<long long>(ranks), static_cast<long long>(idle),
               count < ranks ? "" : " while the others compute their last", static_cast<long long>(ranks));
}

absl::StatusOr<Trainer::Outcome> RunJob(Runtime& runtime, const TrainOptions& options) {
  TANREN_RETURN_IF_ERROR(AgreeBuild(runtime.world()));
  Job job;
  TANREN_RETURN_IF_ERROR(
      AgreeStatus(runtime.world(), "input", PrepareJob(options.config, options.overrides, &job)));
  TANREN_RETURN_IF_ERROR(AgreeConfig(runtime.world(), job.config));
  TANREN_RETURN_IF_ERROR(AgreePlugins(runtime.world()));
  if (runtime.world().rank() == 0) {
    for (const std::string& key : config::IneffectiveKeys(job.config))
      std::fprintf(stderr, "warning: %s\n", key.c_str());
  }
  TANREN_RETURN_IF_ERROR(runtime.StartWatchdog(OptionsOf(job.config.watchdog())));
  TANREN_RETURN_IF_ERROR(runtime.BuildMesh(MeshShapeOf(job.config.parallel()), DeviceOf(job.config)));
  runtime.SetThreads(static_cast<int>(job.config.parallel().threads()));
  const Mesh& mesh = runtime.mesh();
  job.config.mutable_parallel()->set_data(mesh.shape.data);
  absl::Status opened = job.stage->Open(job.config, *job.tokenizer, mesh);
  if (opened.ok() && job.config.run_directory().empty() && !options.dry_run) {
    opened = InvalidInput("run_directory: a training run needs a directory for its checkpoints and logs");
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "data", opened));
  const int64_t limit = MemoryLimit(job.config, runtime.memory_sharing(), runtime.device());
  const int64_t host_limit = HostMemoryLimit(runtime.node_size());
  if (options.dry_run) {
    absl::StatusOr<MemoryPlan> plan = PlanMemory(job.engine, mesh);
    if (plan.ok() && runtime.world().rank() == 0) PrintPlan(job, mesh.shape, *plan);
    TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "plan",
                                       plan.ok() ? CheckMemory(*plan, limit, host_limit) : plan.status()));
    return Trainer::Outcome::kFinished;
  }
  TANREN_RETURN_IF_ERROR(AgreeDirectory(runtime.world(), job.config.run_directory()));
  TellPlaces(runtime);
  TellIdleRanks(job.config, mesh);
  double rate = MeasureMatmulRate(mesh.stream, job.engine.models[0].dtype);
  runtime.world().AllReduce(Stream(), "matrix product rate", Buffer(&rate), 1, ReduceOp::kSum);
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                          MakeMeshEngine(job.engine, mesh, limit, host_limit));
  if (runtime.world().rank() == 0) {
    std::printf("%s, %s\n", runtime.Describe().c_str(), runtime.DescribeDevice().c_str());
  }
  StopSignal::StopOnBrokenPipe();
  TrainerOptions trainer;
  trainer.config = &job.config;
  trainer.config_text = config::ToYaml(job.config, true);
  trainer.resume = options.resume;
  trainer.engine = engine.get();
  trainer.stage = job.stage.get();
  trainer.tokenizer = job.tokenizer.get();
  trainer.stop_requested = [] { return StopSignal::Requested(); };
  trainer.slow_ranks = [watchdog = runtime.watchdog()] {
    return watchdog ? watchdog->TakeSlowRanks() : std::vector<SlowRank>();
  };
  trainer.command_line = options.command_line;
  trainer.threads = runtime.threads();
  trainer.peak_flops_per_second = rate;
  return Trainer(trainer).Run();
}

}  // namespace

int Train(const TrainOptions& options) {
  if (options.world_size > 0) {
    if (!options.dry_run) return StatusExit(InvalidInput("--world-size: is for --dry-run only"));
    EstimateOptions estimate;
    estimate.config = options.config;
    estimate.overrides = options.overrides;
    estimate.world_size = options.world_size;
    return Estimate(estimate);
  }
  absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  const absl::StatusOr<Trainer::Outcome> outcome = RunJob(**runtime, options);
  if (!outcome.ok()) return StatusExit(outcome.status());
  return *outcome == Trainer::Outcome::kStopped ? kExitRequeue : kExitDone;
}

}  // namespace tanren
