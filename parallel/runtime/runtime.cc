#include "parallel/runtime/runtime.h"

#include <mpi.h>
#include <omp.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/activity/activity.h"
#include "core/base/status.h"
#include "core/base/terminal.h"
#include "core/comm/watched_comm.h"
#include "kernels/device.h"
#include "parallel/comm/call.h"
#include "parallel/comm/host_staged_comm.h"
#include "parallel/comm/make_comm.h"
#include "parallel/comm/nccl_comm.h"
#include "parallel/runtime/affinity.h"
#include "parallel/runtime/launch_check.h"
#include "parallel/runtime/profiler_ranges.h"
#include "parallel/runtime/stop_signal.h"

namespace tanren {
namespace {

bool Is(const char* name, std::string_view value) {
  const char* text = std::getenv(name);
  return text != nullptr && text == value;
}

// The kernel refuses process_vm_readv between user namespaces. A container without set-uid helpers gives each
// rank one of its own.
bool InUserNamespace() {
  std::ifstream map("/proc/self/uid_map");
  int64_t inside = 0, outside = 0, count = 0;
  if (!(map >> inside >> outside >> count)) return false;  // a kernel without user namespaces
  return inside != 0 || outside != 0 || count != 0xffffffff;
}

// Where process_vm_readv is forbidden, Open MPI's shared-memory transport prints an error per message; where
// it is between ranks only, it waits for ever in the first long message.
void AvoidForbiddenSingleCopy() {
  char from = 1;
  char to = 0;
  const iovec local{&to, 1};
  const iovec remote{&from, 1};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && !InUserNamespace()) return;
  setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", /*overwrite=*/0);
}

// MPI from init to finalize. Empty for a process without a launcher.
class MpiSession {
 public:
  explicit MpiSession(bool use_mpi) : use_mpi_(use_mpi) {
    if (!use_mpi) return;
    AvoidForbiddenSingleCopy();
    WarnOfLittleSharedMemory();
    int provided = 0;
    // Failures inside end the process: that is MPI's default error handler.
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    TANREN_CHECK(provided >= MPI_THREAD_FUNNELED);
  }
  ~MpiSession() {
    if (use_mpi_) MPI_Finalize();
  }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

 private:
  bool use_mpi_;
};

class OwnedGroup {
 public:
  explicit OwnedGroup(MPI_Comm group) : group_(group) {}
  ~OwnedGroup() { MPI_Comm_free(&group_); }
  OwnedGroup(const OwnedGroup&) = delete;
  OwnedGroup& operator=(const OwnedGroup&) = delete;
  MPI_Comm get() const { return group_; }

 private:
  MPI_Comm group_;
};

MPI_Comm SplitByNode() {
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  return node;
}

MPI_Comm SplitByColor(int color, int order) {
  MPI_Comm group = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, color, order, &group);
  return group;
}

struct Place {
  int node = 0;  // the world's number of the node's first rank
  int node_rank = 0;
  int node_size = 1;
  int nodes = 1;
  std::vector<Core> cores;
  // Ranks of this node with a core in common with this one, itself included.
  int sharing = 1;
};

// How many ranks of the node may run on a cpu that this rank may run on.
int CountSharing(MPI_Comm node, int node_rank, int node_size, const std::vector<Core>& cores) {
  constexpr int kWords = 8192 / 64;
  std::vector<uint64_t> all(node_size * kWords);
  uint64_t* own = all.data() + node_rank * kWords;
  for (const Core& core : cores) {
    for (const int cpu : core.cpus) own[cpu / 64] |= uint64_t{1} << (cpu % 64);
  }
  MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all.data(), kWords, MPI_UINT64_T, node);
  int sharing = 0;
  for (int rank = 0; rank < node_size; ++rank) {
    const uint64_t* theirs = all.data() + rank * kWords;
    bool shares = rank == node_rank;
    for (int w = 0; w < kWords; ++w) shares = shares || (own[w] & theirs[w]) != 0;
    sharing += shares;
  }
  return sharing;
}

absl::StatusOr<Place> FindPlace(bool use_mpi) {
  Place place;
  place.cores = AllowedCores();
  if (!use_mpi) return place;
  const OwnedGroup node(SplitByNode());
  MPI_Comm_rank(node.get(), &place.node_rank);
  MPI_Comm_size(node.get(), &place.node_size);
  MPI_Comm_rank(MPI_COMM_WORLD, &place.node);
  MPI_Bcast(&place.node, 1, MPI_INT, 0, node.get());
  place.nodes = place.node_rank == 0 ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &place.nodes, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (Is("TANREN_BIND", "cores")) {
    std::vector<Core> own = DivideCores(place.cores, place.node_size)[place.node_rank];
    if (!own.empty()) {
      TANREN_RETURN_IF_ERROR(BindToCores(own));
      place.cores = std::move(own);
    }
  }
  place.sharing = CountSharing(node.get(), place.node_rank, place.node_size, place.cores);
  return place;
}

// Threads of compute that this rank's place has room for; 0 when ranks outnumber cores.
int RoomForThreads(const Place& place) {
  int threads = static_cast<int>(place.cores.size()) / place.sharing;
  if (const double quota = CpuQuotaCores(); quota > 0) {
    threads = std::min(threads, static_cast<int>(std::ceil(quota)) / place.node_size);
  }
  return threads;
}

// How many ranks of this node compute on what `device` names, whichever number each of them knows it by.
int CountOnDevice(Comm& world, int node, const std::string& device) {
  const std::string mine = absl::StrCat(node, " ", device);
  const std::vector<std::string> all = AllGatherStrings(world, "devices", mine);
  return static_cast<int>(std::ranges::count(all, mine));
}

int DefaultThreads(int room) {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const int asked = text == nullptr ? 0 : std::atoi(text);
  return std::max(asked > 0 ? asked : room, 1);
}

}  // namespace

// Destroyed from below: communicators before MPI.
struct Runtime::State {
  explicit State(bool use_mpi) : session(use_mpi) {}

  MpiSession session;
  bool use_mpi = false;
  int world_rank = 0;
  int world_size = 1;
  Place place;
  int threads = 1;
  CommOptions options;
  std::unique_ptr<Comm> world, data, tensor;
  std::unique_ptr<Watchdog> watchdog;
  Stream stream;
  int device = 0;
  int device_sharing = 1;  // ranks with this device's memory: a GPU, or a part of one (MIG)
  bool gpu_is_own = true;  // no other rank computes on any part of the GPU: NCCL wants no less
  std::optional<ProfilerRanges> ranges;
  std::optional<Mesh> mesh;
};

absl::StatusOr<std::unique_ptr<Runtime>> Runtime::Start() {
  const LaunchEnvironment environment = LaunchEnvironment::Read();
  // Before MPI starts: a signal in start-up must not kill a rank, and mpirun may die meanwhile.
  StopSignal::Install(/*with_term_and_int=*/!environment.under_mpirun);
  if (environment.under_launcher) DieWithParent();

  auto state = std::make_unique<State>(environment.under_launcher);
  state->use_mpi = environment.under_launcher;
  if (state->use_mpi) {
    MPI_Comm_rank(MPI_COMM_WORLD, &state->world_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &state->world_size);
  }
  TANREN_RETURN_IF_ERROR(CheckWorldSize(state->world_size));
  if (state->world_rank > 0 && Is("TANREN_STDOUT", "rank0") &&
      std::freopen("/dev/null", "w", stdout) == nullptr) {
    return absl::InternalError("cannot open /dev/null");
  }

  absl::StatusOr<Place> place = FindPlace(state->use_mpi);
  if (!place.ok()) {
    // One rank's failure, before there is a communicator to agree on it.
    std::fprintf(stderr, "rank %d: %s\n", state->world_rank, std::string(place.status().message()).c_str());
    Abort(kExitFailed);
  }
  state->place = *std::move(place);
  const int room = RoomForThreads(state->place);
  state->threads = DefaultThreads(room);
  state->options.crowded = room == 0;
  state->options.threads = std::max(room, 1);
  omp_set_num_threads(state->threads);

  if (state->use_mpi) {
    TANREN_ASSIGN_OR_RETURN(std::unique_ptr<Comm> world, MakeComm(MPI_COMM_WORLD, "world", state->options));
    state->world = MakeWatchedComm(std::move(world), 0);
  } else {
    state->world = MakeSoloComm("world");
  }
  return std::unique_ptr<Runtime>(new Runtime(std::move(state)));
}

Runtime::Runtime(std::unique_ptr<State> state) : state_(std::move(state)) {}

Runtime::~Runtime() {
  std::fflush(stdout);
  std::fflush(stderr);
  Activity::Own().Set(Phase::kEnd);
  if (state_->use_mpi) state_->world->Barrier("end of the job");
  state_->watchdog.reset();
  kernels::DestroyStream(state_->stream);
}

Comm& Runtime::world() { return *state_->world; }
int Runtime::node_rank() const { return state_->place.node_rank; }
int Runtime::device() const { return state_->device; }
int Runtime::memory_sharing() const {
  return state_->stream.device == Device::kCpu ? state_->place.node_size : state_->device_sharing;
}
int Runtime::node_size() const { return state_->place.node_size; }
int Runtime::threads() const { return state_->threads; }
Watchdog* Runtime::watchdog() { return state_->watchdog.get(); }

absl::Status Runtime::StartWatchdog(const WatchdogOptions& options) {
  TANREN_CHECK(state_->watchdog == nullptr);
  TANREN_ASSIGN_OR_RETURN(state_->watchdog, Watchdog::Start(*state_->world, options));
  return absl::OkStatus();
}

void Runtime::SetThreads(int threads) {
  if (threads <= 0) return;
  state_->threads = threads;
  omp_set_num_threads(threads);
}

namespace {

// Fills in data and checks the axes against the world.
absl::Status ResolveShape(int world, MeshShape& shape) {
  if (shape.pipe != 1 || shape.context != 1) {
    return InvalidInput("parallel.%s=%d: only 1 is available; use parallel.data and parallel.tensor",
                        shape.pipe != 1 ? "pipe" : "context", shape.pipe != 1 ? shape.pipe : shape.context);
  }
  if (shape.tensor < 1 || shape.data < 0) {
    return InvalidInput("parallel.data=%d, parallel.tensor=%d: axes are 1 or more (data may be 0: the rest)",
                        shape.data, shape.tensor);
  }
  if (shape.data == 0) {
    if (world % shape.tensor != 0) {
      return InvalidInput(
          "parallel.tensor=%d does not divide the %d rank%s of this job; start a multiple of %d ranks "
          "(tanren launch "
          "-n %d ...) or set parallel.tensor to a divisor of %d",
          shape.tensor, world, world == 1 ? "" : "s", shape.tensor, (world / shape.tensor + 1) * shape.tensor,
          world);
    }
    shape.data = world / shape.tensor;
  }
  const int64_t product = int64_t{shape.data} * shape.tensor;
  if (product != world) {
    return InvalidInput(
        "the mesh %s needs %d ranks, but this job has %d; start it with tanren launch -n %d (or mpirun -np "
        "%d), or set "
        "parallel.data=0 to use the ranks there are",
        shape.ToString(), product, world, product, product);
  }
  return absl::OkStatus();
}

// Every rank reads its own copy of the config: they must be the same.
absl::Status AgreeOnShape(Comm& world, const MeshShape& shape) {
  const int32_t own[4] = {shape.pipe, shape.data, shape.context, shape.tensor};
  std::vector<int32_t> all(4 * world.size());
  world.AllGather(Stream{}, "mesh shape", own, all.data(), 4);
  for (int rank = 1; rank < world.size(); ++rank) {
    const int32_t* theirs = all.data() + 4 * rank;
    if (std::equal(all.data(), all.data() + 4, theirs)) continue;
    return InvalidInput(
        "rank %d asks for the mesh data %d x tensor %d, rank 0 for data %d x tensor %d; do all nodes read "
        "the same "
        "config?",
        rank, theirs[1], theirs[3], all[1], all[3]);
  }
  return absl::OkStatus();
}

}  // namespace

namespace {

// The axis for GPU memory: NCCL where every rank of every node has a GPU to itself, else through host memory.
// TANREN_COMM_GPU=nccl or staged decides otherwise.
absl::StatusOr<std::unique_ptr<Comm>> ServeDevice(Comm& world, std::unique_ptr<Comm> axis, bool own_device) {
  if (axis->size() == 1) return axis;
  int32_t nccl = HasNccl() && own_device ? 1 : 0;
  if (Is("TANREN_COMM_GPU", "staged")) nccl = 0;
  if (Is("TANREN_COMM_GPU", "nccl")) nccl = 1;
  world.AllReduce(Stream(), "NCCL everywhere", Buffer(&nccl), 1, ReduceOp::kMin);
  if (nccl == 0) return MakeHostStagedComm(std::move(axis));
  return MakeNcclComm(std::move(axis));
}

}  // namespace

absl::Status Runtime::BuildMesh(const MeshShape& asked, Device device) {
  TANREN_CHECK(!state_->mesh.has_value());
  MeshShape shape = asked;
  TANREN_RETURN_IF_ERROR(AgreeOnShape(*state_->world, shape));
  TANREN_RETURN_IF_ERROR(ResolveShape(state_->world_size, shape));
  absl::Status ready;
  if (device == Device::kCuda && kernels::DeviceCount() == 0) {
    ready = InvalidInput("parallel.device: cuda: %s", kernels::WhyNoDevice());
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*state_->world, "device", ready));
  if (device == Device::kCuda) {
    state_->device = state_->place.node_rank % kernels::DeviceCount();
    state_->stream = kernels::MakeCudaStream(state_->device);
    state_->ranges.emplace();
    const kernels::DeviceProperties properties = kernels::PropertiesOf(state_->device);
    state_->device_sharing = CountOnDevice(*state_->world, state_->place.node, properties.uuid);
    state_->gpu_is_own = CountOnDevice(*state_->world, state_->place.node, properties.bus) == 1;
  }

  auto make = [&](const char* axis, int size, int color, int order) -> absl::StatusOr<std::unique_ptr<Comm>> {
    if (size == 1) return MakeSoloComm(axis);
    const OwnedGroup group(SplitByColor(color, order));
    return MakeComm(group.get(), axis, state_->options);
  };
  const int data_rank = state_->world_rank / shape.tensor;
  const int tensor_rank = state_->world_rank % shape.tensor;
  auto data = make("data", shape.data, tensor_rank, data_rank);
  TANREN_RETURN_IF_ERROR(AgreeStatus(*state_->world, "data axis", data.status()));
  auto tensor = make("tensor", shape.tensor, data_rank, tensor_rank);
  TANREN_RETURN_IF_ERROR(AgreeStatus(*state_->world, "tensor axis", tensor.status()));
  state_->data = *std::move(data);
  state_->tensor = *std::move(tensor);
  if (device == Device::kCuda) {
    for (std::unique_ptr<Comm>* axis : {&state_->data, &state_->tensor}) {
      TANREN_ASSIGN_OR_RETURN(*axis, ServeDevice(*state_->world, std::move(*axis), state_->gpu_is_own));
    }
  }
  state_->data = MakeWatchedComm(std::move(state_->data), tensor_rank);
  state_->tensor = MakeWatchedComm(std::move(state_->tensor), data_rank);
  state_->mesh = Mesh{shape, state_->stream, state_->world.get(), state_->data.get(), state_->tensor.get()};
  return absl::OkStatus();
}

const Mesh& Runtime::mesh() const {
  TANREN_CHECK_MSG(state_->mesh.has_value(), "BuildMesh comes first");
  return *state_->mesh;
}

std::string Runtime::DescribeDevice() const {
  if (state_->stream.device == Device::kCpu) return "CPU";
  const kernels::DeviceProperties properties = kernels::PropertiesOf(state_->device);
  return absl::StrFormat("GPU %d of %d, %s, %.1f GiB", state_->device, kernels::DeviceCount(),
                         properties.name, properties.memory_bytes / 1073741824.0);
}

std::string Runtime::DescribePlace() const {
  if (state_->stream.device == Device::kCpu) return tanren::Describe(state_->place.cores);
  const kernels::DeviceProperties properties = kernels::PropertiesOf(state_->device);
  return absl::StrCat("GPU ", properties.bus, ", ", properties.name);
}

std::string Runtime::Describe() const {
  const Place& place = state_->place;
  return absl::StrFormat("world %d on %d node%s, %d per node; rank %d: %s%s, %d thread%s", state_->world_size,
                         place.nodes, place.nodes == 1 ? "" : "s", place.node_size, state_->world_rank,
                         tanren::Describe(place.cores),
                         place.sharing > 1 ? absl::StrFormat(" shared by %d ranks", place.sharing) : "",
                         state_->threads, state_->threads == 1 ? "" : "s");
}

void Runtime::Abort(int exit_code) { EndJob(exit_code); }

int StatusExit(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  if (LaunchEnvironment::Read().rank == 0) {
    std::fflush(stdout);
    std::fprintf(stderr, "error: %s\n", ForTerminal(View(status.message())).c_str());
    std::fflush(stderr);
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDataLoss:
      return kExitWrongInput;
    default:
      return kExitFailed;
  }
}

}  // namespace tanren
