// Collectives between the ranks of this run: time and bandwidth by size, on each axis that has several ranks.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "launch/bench_support.h"
#include "launch/bench_verb.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

// Seconds of one call, of the slowest rank: the median of samples, each of as many calls as take some 30 ms.
// All ranks make the same number of calls.
double AgreedSeconds(const Mesh& mesh, const std::function<void()>& body) {
  constexpr int kSamples = 7;
  const auto seconds_of = [&](int calls) {
    kernels::Synchronize(mesh.stream);
    mesh.world->Barrier("benchmark");
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) body();
    kernels::Synchronize(mesh.stream);
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / calls;
    mesh.world->AllReduce(Stream(), "benchmark", Buffer(&seconds), 1, ReduceOp::kMax);
    return seconds;
  };
  seconds_of(1);
  const int calls = static_cast<int>(std::clamp(0.03 / seconds_of(2), 1.0, 500.0));
  std::vector<double> all;
  for (int i = 0; i < kSamples; ++i) all.push_back(seconds_of(calls));
  std::nth_element(all.begin(), all.begin() + kSamples / 2, all.end());
  return all[kSamples / 2];
}

// One size on one axis. Every group of the axis runs at the same time, as in training. The bus's rate is what
// a ring moves over each link, by the convention of nccl-tests: the figure to hold against the hardware's.
void AxisCase(const Mesh& mesh, Comm& comm, DType dtype, int64_t bytes) {
  const int64_t ranks = comm.size();
  const int64_t share = std::max<int64_t>(1, bytes / SizeOf(dtype) / ranks), count = share * ranks;
  BenchMemory whole(mesh.stream, dtype, count), part(mesh.stream, dtype, share);
  whole.FillNormal(mesh.stream, 1, 1 + comm.rank());
  part.FillNormal(mesh.stream, 1, 100 + comm.rank());
  const double size = static_cast<double>(count * SizeOf(dtype));
  const double others = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  const auto row = [&](const char* name, double moved, const std::function<void()>& body) {
    const double seconds = AgreedSeconds(mesh, body);
    if (mesh.world->rank() != 0) return;
    std::printf("%-7s %3d ranks  %-15s %12.0f bytes  %10.1f us  %8.2f GB/s  bus %8.2f GB/s\n",
                comm.axis().c_str(), comm.size(), name, size, seconds * 1e6, size / seconds / 1e9,
                moved * size / seconds / 1e9);
    std::fflush(stdout);
  };
  // Sums of sums would grow past what bf16 holds.
  row("all-reduce", 2 * others,
      [&] { comm.AllReduce(mesh.stream, "benchmark", whole, count, ReduceOp::kMax); });
  row("reduce-scatter", others, [&] { comm.ReduceScatter(mesh.stream, "benchmark", whole, part, share); });
  row("all-gather", others, [&] { comm.AllGather(mesh.stream, "benchmark", part, whole, share); });
  row("broadcast", 1, [&] { comm.Broadcast(mesh.stream, "benchmark", whole, count, 0); });
}

absl::Status RunCollectives(const BenchOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(options));
  TANREN_ASSIGN_OR_RETURN(const Device device, DeviceOf(options));
  for (const int64_t size : options.sizes) {
    if (size < 1) return InvalidInput("--sizes: %d; bytes are at least 1", size);
  }
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Runtime> runtime, Runtime::Start());
  if (runtime->world().size() == 1) {
    return InvalidInput(
        "bench collectives: a world of one moves nothing; start it as `tanren launch -n 2 bench "
        "collectives`");
  }
  MeshShape shape;
  shape.data = 0;
  shape.tensor = static_cast<int>(options.tensor);
  TANREN_RETURN_IF_ERROR(runtime->BuildMesh(shape, device));
  const Mesh& mesh = runtime->mesh();
  if (runtime->world().rank() == 0) {
    std::printf("%s, %s\n%s, %s\n", runtime->Describe().c_str(), runtime->DescribeDevice().c_str(),
                mesh.shape.ToString().c_str(), NameOf(dtype));
  }
  for (Comm* comm : {mesh.data, mesh.tensor}) {
    if (comm->size() == 1) continue;
    for (const int64_t size : options.sizes) AxisCase(mesh, *comm, dtype, size);
  }
  return absl::OkStatus();
}

}  // namespace

int BenchCollectives(const BenchOptions& options) { return StatusExit(RunCollectives(options)); }

}  // namespace tanren
