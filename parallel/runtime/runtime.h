// One rank of a job: MPI, the world, the mesh with its communicators, cores and threads.
//
//   absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
//   if (!runtime.ok()) return StatusExit(runtime.status());
//   absl::Status status = AgreeStatus((*runtime)->world(), "config", LoadConfig(...));
//   if (status.ok()) status = (*runtime)->BuildMesh(shape);
//   ...
//   return StatusExit(status);
//
// A rank that returns an exit code other than 0 makes mpirun end the ranks that still run: output files must
// be closed before the Runtime is destroyed, which waits for all ranks.
#ifndef TANREN_PARALLEL_RUNTIME_RUNTIME_H_
#define TANREN_PARALLEL_RUNTIME_RUNTIME_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/comm/mesh.h"
#include "parallel/watchdog/watchdog.h"

namespace tanren {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitWrongInput = 2;
inline constexpr int kExitGateFailed = 3;  // an evaluation that misses a figure it had to reach
inline constexpr int kExitWatchdog = 4;    // the watchdog ended the job: a rank is stopped, stuck or gone
inline constexpr int kExitRequeue = 75;

class Runtime {
 public:
  // Once per process, from the main thread, before the first OpenMP region. A process that no launcher
  // started is a world of one and does not touch MPI. Under a launcher: initialises MPI (FUNNELED: only this
  // thread may use communicators), binds to cores if `tanren launch` asked, makes this process die with its
  // parent, and installs StopSignal. InvalidInput when launcher and MPI disagree on the number of ranks.
  static absl::StatusOr<std::unique_ptr<Runtime>> Start();

  // Waits for all ranks. After an error that only this rank has, use Abort instead.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // All ranks, for agreement; serves CPU memory.
  Comm& world();

  // Ranks of this node.
  int node_rank() const;
  int node_size() const;
  // The GPU of this rank among those that it sees, and the ranks that share its memory; on the CPU 0, and the
  // ranks of the node. After BuildMesh.
  int device() const;
  int memory_sharing() const;
  // "GPU 0 of 1, NVIDIA H100 80GB HBM3"; "CPU" without a GPU. After BuildMesh.
  std::string DescribeDevice() const;
  // "GPU 0000:1B:00.0, NVIDIA H100 80GB HBM3", the same text for all ranks of this node that compute on it,
  // or the rank's processors. After BuildMesh.
  std::string DescribePlace() const;

  // Collective. Divides the world into the mesh; data = 0 stands for what is left by the other axes. An
  // error, the same on every rank, when the axes do not multiply to the world, when ranks ask for different
  // meshes, or for pipe or context above 1. May be called once.
  //
  // With Device::kCuda the mesh's stream is one of a GPU of this node, dealt to its ranks in turn (several
  // ranks may share one), and the axes serve GPU memory too. An error says why there is no device.
  absl::Status BuildMesh(const MeshShape& shape, Device device = Device::kCpu);
  const Mesh& mesh() const;

  // Collective. From here to the end of the job's last barrier the ranks are watched: see Watchdog::Start.
  // May be called once. `watchdog()` is null where there is nothing to watch.
  absl::Status StartWatchdog(const WatchdogOptions& options);
  Watchdog* watchdog();

  // OpenMP threads of this rank. At start: OMP_NUM_THREADS, or the cores of the affinity mask divided by the
  // ranks that share them, within the container's quota. SetThreads with 0 keeps that.
  int threads() const;
  void SetThreads(int threads);

  // "world 4 on 2 nodes, 2 per node; rank 0: cpus 0-3 (NUMA node 0), 4 threads".
  std::string Describe() const;

  // Ends all ranks of the job at once with this code; no destructors run.
  [[noreturn]] static void Abort(int exit_code);

 private:
  struct State;
  explicit Runtime(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// The exit code of a status: 0 for OK; 2 for what a person can mend (InvalidArgument, NotFound,
// AlreadyExists, FailedPrecondition, OutOfRange, PermissionDenied, Unimplemented, DataLoss: a damaged
// checkpoint); else 1. Prints "error: <message>" on stderr, on rank 0 of the job only: for statuses on which
// all ranks agree.
int StatusExit(const absl::Status& status);

}  // namespace tanren

#endif  // TANREN_PARALLEL_RUNTIME_RUNTIME_H_
