// The ranks of the failure and launch tests: `comm_child SCENE [ARGUMENT]`, under mpirun or the launch verb.
// Each rank leaves its process id in $COMM_CHILD_PIDS/<rank>, so that a test can see whether it is gone.
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "core/activity/activity.h"
#include "core/base/status.h"
#include "kernels/matmul.h"
#include "launch/doctor_verb.h"
#include "parallel/comm/call.h"
#include "parallel/runtime/runtime.h"
#include "parallel/runtime/stop_signal.h"

namespace tanren {
namespace {

const Stream kHost;

// Sleeps on through signals.
void Pause(double seconds) {
  timespec rest{static_cast<time_t>(seconds), static_cast<long>(1e9 * (seconds - static_cast<int>(seconds)))};
  while (nanosleep(&rest, &rest) != 0) {
  }
}

void LeavePid(int rank) {
  const char* directory = std::getenv("COMM_CHILD_PIDS");
  if (directory == nullptr) return;
  const std::string file = absl::StrCat(directory, "/", rank);
  std::ofstream(file + ".tmp") << getpid();
  std::rename((file + ".tmp").c_str(), file.c_str());
}

// Three collectives that match, then one where the last rank does something else.
void Mismatch(Comm& comm, const std::string& kind) {
  std::vector<float> data(100'000, 1.0f);
  std::vector<double> wide(4096);
  for (int i = 0; i < 3; ++i) comm.AllReduce(kHost, "gradients", data.data(), 1000 * i, ReduceOp::kSum);
  const bool odd = comm.rank() == comm.size() - 1;
  if (kind == "name") {
    comm.AllReduce(kHost, odd ? "loss_sum" : "head_max", data.data(), 4096, ReduceOp::kMax);
  } else if (kind == "count") {
    comm.AllReduce(kHost, "head_max", data.data(), odd ? 70'000 : 4096, ReduceOp::kMax);
  } else if (kind == "op") {
    comm.AllReduce(kHost, "head_max", data.data(), 4096, odd ? ReduceOp::kSum : ReduceOp::kMax);
  } else if (kind == "dtype") {
    comm.AllReduce(kHost, "head_max", odd ? Buffer(wide.data()) : Buffer(data.data()), 4096, ReduceOp::kMax);
  } else if (kind == "root") {
    comm.Broadcast(kHost, "weights", data.data(), 100'000, odd ? 1 : 0);
  } else if (kind == "kind") {
    if (odd) comm.Barrier("head_max");
    if (!odd) comm.AllReduce(kHost, "head_max", data.data(), 4096, ReduceOp::kMax);
  } else if (kind == "large") {
    // The counts differ so much that messages of a naive implementation would overrun each other.
    if (odd) comm.AllGather(kHost, "embedding", data.data(), std::vector<float>(400'000).data(), 100'000);
    if (!odd) comm.AllReduce(kHost, "head_max", data.data(), 100'000, ReduceOp::kSum);
  } else if (kind == "pair") {
    if (comm.rank() == 0) comm.Send(kHost, "activations", data.data(), 10, comm.size() - 1);
    if (odd) comm.Recv(kHost, "gradients", data.data(), 12, 0);
  } else if (kind == "missing") {
    // The last rank leaves the order and comes to the end of its program.
    if (!odd) comm.AllReduce(kHost, "head_max", data.data(), 4096, ReduceOp::kMax);
  } else if (kind == "stuck") {
    if (odd) Pause(600);
    comm.AllReduce(kHost, "head_max", data.data(), 4096, ReduceOp::kMax);
  }
}

// Weight gradients for some seconds, each compared with the first. The rows are enough for oneDNN's gemm to
// use a workspace on the heap, and the heap is used in between.
int Compute(double seconds) {
  constexpr int64_t kRows = 3000, kOut = 40, kIn = 24;
  kernels::Linear linear(kOut, kIn, DType::kF32);
  std::vector<float> dy(kRows * kOut), x(kRows * kIn), first;
  for (size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i % 17) - 8;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) - 6;
  timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do {
    std::vector<float> dw(kOut * kIn, 0);
    linear.BackwardWeight(kHost, kRows, {dy.data(), kOut}, {x.data(), kIn}, dw.data(), nullptr);
    if (first.empty()) first = dw;
    if (dw != first) return 4;
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (static_cast<double>(now.tv_sec - begin.tv_sec) < seconds);
  return StopSignal::Requested() ? kExitRequeue : 0;
}

// Watched steps, with limits of about two seconds; in the fourth the last rank does what `kind` says.
int WatchedSteps(Runtime& runtime, const std::string& kind) {
  WatchdogOptions options;
  options.limits = {.silence_seconds = 2, .stall_seconds = 2, .quiet_seconds = 4};
  absl::Status ready = runtime.BuildMesh(MeshShape{.data = 0});
  if (ready.ok()) ready = runtime.StartWatchdog(options);
  if (!ready.ok()) return StatusExit(ready);
  const Mesh& mesh = runtime.mesh();
  const bool odd = mesh.world->rank() == mesh.world->size() - 1;
  const bool endless = kind == "run";
  const int steps = kind == "slow" ? 80 : kind == "even" ? 20 : 6;
  for (int step = 1; endless || step <= steps; ++step) {
    const DoingStep doing(step);
    const bool now = odd && step == 4;
    Pause(kind == "slow" && odd ? 0.2 : 0.04);
    if (kind == "stuck" && now) Pause(600);
    if (kind == "die" && now) raise(SIGKILL);
    if (kind == "fail" && now) FailComm(*mesh.data, "the test's own failure");
    if (kind == "command" && now) {
      const Doing running(Work::kCommand);
      Pause(6);
    }
    if (kind == "ticks" && now) {
      for (int i = 0; i < 6; ++i) {
        Pause(1);
        Activity::Own().Tick();
      }
    }
    float gradient = 1;
    if (kind != "skip" || !now) mesh.data->AllReduce(kHost, "gradients", &gradient, 1, ReduceOp::kSum);
    mesh.world->Barrier("step end");
    if (runtime.watchdog() == nullptr) continue;
    for (const SlowRank& slow : runtime.watchdog()->TakeSlowRanks()) std::printf("%s\n", slow.text.c_str());
  }
  return 0;
}

int Run(const std::string& scene, const std::string& argument) {
  if (scene == "doctor") {
    DoctorOptions options;
    options.directory = argument;
    options.write_bytes = 5'000'000;
    return Doctor(options);
  }
  auto started = Runtime::Start();
  if (!started.ok()) return StatusExit(started.status());
  Runtime& runtime = **started;
  Comm& world = runtime.world();
  LeavePid(world.rank());

  if (scene == "exit") {
    std::printf("rank %d says hello\n", world.rank());
    return std::stoi(argument);
  }
  if (scene == "mesh") {
    MeshShape shape;
    std::sscanf(argument.c_str(), "%dx%dx%dx%d", &shape.pipe, &shape.data, &shape.context, &shape.tensor);
    // "differ": the last rank read another config.
    if (std::getenv("COMM_CHILD_DIFFER") != nullptr && world.rank() == world.size() - 1) shape.tensor += 1;
    const absl::Status status = runtime.BuildMesh(shape);
    if (!status.ok()) return StatusExit(status);
    const Mesh& mesh = runtime.mesh();
    std::vector<int64_t> sums = {world.rank(), world.rank()};
    mesh.data->AllReduce(kHost, "data ranks", &sums[0], 1, ReduceOp::kSum);
    mesh.tensor->AllReduce(kHost, "tensor ranks", &sums[1], 1, ReduceOp::kSum);
    const std::string line = absl::StrCat("rank ", world.rank(), ": data ", mesh.data_rank(), "/",
                                          mesh.shape.data, " sum ", sums[0], ", tensor ", mesh.tensor_rank(),
                                          "/", mesh.shape.tensor, " sum ", sums[1], "; ", runtime.Describe());
    for (const std::string& text : AllGatherStrings(world, "lines", line)) {
      if (world.rank() == 0) std::printf("%s\n", text.c_str());
    }
    return 0;
  }
  if (scene == "mismatch") {
    Mismatch(world, argument);
    return 0;
  }
  if (scene == "train") {
    // Steps until somebody's signal; all agree on the step.
    for (int64_t step = 1;; ++step) {
      Pause(0.01);
      int32_t stop = StopSignal::Requested() ? 1 : 0;
      world.AllReduce(kHost, "stop", &stop, 1, ReduceOp::kMax);
      if (stop == 0) continue;
      int64_t first = step;
      world.Broadcast(kHost, "step", &first, 1, 0);
      std::printf("rank %d saved step %s\n", world.rank(), first == step ? "of rank 0" : "of its own");
      return kExitRequeue;
    }
  }
  if (scene == "watch") return WatchedSteps(runtime, argument);
  if (scene == "compute") return Compute(std::stod(argument));
  if (scene == "wait") {
    // Rank 0 computes for long; the others sit in a collective.
    if (world.rank() == 0) Pause(600);
    world.Barrier("after the long step");
    return 0;
  }
  if (scene == "die") {
    if (world.rank() == world.size() - 1) raise(std::stoi(argument));
    world.Barrier("never met");
    return 0;
  }
  if (scene == "abort") {
    if (world.rank() == world.size() - 1) Runtime::Abort(std::stoi(argument));
    world.Barrier("never met");
    return 0;
  }
  std::fprintf(stderr, "no scene %s\n", scene.c_str());
  return 3;
}

}  // namespace
}  // namespace tanren

int main(int argc, char** argv) { return tanren::Run(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : ""); }
