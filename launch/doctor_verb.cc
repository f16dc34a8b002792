#include "launch/doctor_verb.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <mpi.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <vector>

#include "core/base/status.h"
#include "kernels/device.h"
#include "kernels/reduce.h"
#include "parallel/comm/nccl_comm.h"
#include "parallel/runtime/affinity.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void Fact(const char* name, const std::string& value) { std::printf("%-12s %s\n", name, value.c_str()); }
void Warning(const std::string& text) { std::printf("warning:     %s\n", text.c_str()); }

std::string Gibibytes(double bytes) { return absl::StrFormat("%.1f GiB", bytes / (1 << 30)); }

// The value after "key<spaces>:" of the first such line.
std::string ValueIn(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t end = line.find_last_not_of(" \t", colon - 1);
    if (end == std::string::npos || line.substr(0, end + 1) != key) continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

void PrintProcessor() {
  const std::string model = ValueIn("/proc/cpuinfo", "model name");
  Fact("cpu", model.empty() ? "unknown" : model);
  const std::vector<Core> cores = AllowedCores();
  std::string text = absl::StrCat(cores.size(), cores.size() == 1 ? " core: " : " cores: ", Describe(cores));
  if (const double quota = CpuQuotaCores(); quota > 0) {
    absl::StrAppend(&text, absl::StrFormat("; the container grants the time of %.1f", quota));
  }
  Fact("cores", text);

  std::string sets;
  auto add = [&](bool present, const char* name) {
    if (present) absl::StrAppend(&sets, sets.empty() ? "" : ", ", name);
  };
#if defined(__x86_64__)
  add(__builtin_cpu_supports("avx2"), "AVX2");
  add(__builtin_cpu_supports("fma"), "FMA");
  add(__builtin_cpu_supports("avx512f"), "AVX-512");
  const bool bf16 = __builtin_cpu_supports("avx512bf16");
  add(bf16, "AVX-512 bf16");
  add((" " + ValueIn("/proc/cpuinfo", "flags") + " ").find(" amx_bf16 ") != std::string::npos, "AMX bf16");
  Fact("vectors", sets.empty() ? "SSE2 only" : sets);
  if (!bf16) Warning("no bf16 matrix products in this processor: float32 is the faster choice on it");
#else
  add(true, "those of the compiler's default target");
  Fact("vectors", sets);
#endif
}

void PrintMemoryAndLimits() {
  const double total = 1024 * std::atof(ValueIn("/proc/meminfo", "MemTotal").c_str());
  const double available = 1024 * std::atof(ValueIn("/proc/meminfo", "MemAvailable").c_str());
  Fact("memory", absl::StrCat(Gibibytes(total), ", available ", Gibibytes(available)));

  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  Fact("open files", files.rlim_cur == RLIM_INFINITY ? "no limit" : absl::StrCat(files.rlim_cur));
  if (files.rlim_cur < 1024)
    Warning("fewer than 1024 open files: many token shards or ranks may not open; ulimit -n");
  rlimit memory{};
  getrlimit(RLIMIT_AS, &memory);
  if (memory.rlim_cur != RLIM_INFINITY) {
    Warning(absl::StrCat("address space limited to ", Gibibytes(static_cast<double>(memory.rlim_cur)),
                         "; ulimit -v unlimited"));
  }

  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) != 0) {
    Warning("no /dev/shm: Open MPI's messages between ranks of this node will be slow or fail");
    return;
  }
  const double bytes = static_cast<double>(shm.f_blocks) * static_cast<double>(shm.f_frsize);
  Fact("/dev/shm", Gibibytes(bytes));
  if (bytes < 256e6) {
    Warning(
        "less than 256 MB of /dev/shm: Open MPI keeps its queues there (4 MB a rank and more); in Docker: "
        "--shm-size=1g. Tanren's own collectives on a node do not need it");
  }
}

// Each GPU, and that a kernel of this binary runs on the first: a fill that is read back.
bool PrintDevices() {
  const int count = kernels::DeviceCount();
  if (count == 0) {
    Fact("gpu", absl::StrCat("none: ", kernels::WhyNoDevice()));
    return true;
  }
  for (int device = 0; device < count; ++device) {
    const kernels::DeviceProperties gpu = kernels::PropertiesOf(device);
    Fact("gpu", absl::StrFormat("%d: %s, compute capability %d.%d, %d multiprocessors, %s free of %s", device,
                                gpu.name, gpu.major, gpu.minor, gpu.multiprocessors,
                                Gibibytes(static_cast<double>(gpu.free_bytes)),
                                Gibibytes(static_cast<double>(gpu.memory_bytes))));
    if (device > 0) continue;
    Fact("cuda", absl::StrFormat("driver %d.%d, runtime %d.%d, NCCL %s", gpu.driver_version / 1000,
                                 gpu.driver_version % 1000 / 10, gpu.runtime_version / 1000,
                                 gpu.runtime_version % 1000 / 10, HasNccl() ? "built in" : "not built in"));
  }
  const Stream stream = kernels::MakeCudaStream(0);
  constexpr int64_t kBytes = 1 << 20;
  void* memory = kernels::AllocateDevice(kBytes);
  bool right = memory != nullptr;
  if (right) {
    std::vector<uint8_t> back(kBytes);
    kernels::Fill(stream, kBytes, 0xa5, memory);
    kernels::CopyToHost(stream, back.data(), memory, kBytes);
    right = std::all_of(back.begin(), back.end(), [](uint8_t byte) { return byte == 0xa5; });
    kernels::FreeDevice(memory);
  }
  kernels::DestroyStream(stream);
  if (!right) Fact("gpu test", "FAILED: memory that was filled reads back otherwise, or none is left");
  return right;
}

void PrintLibraries(const Runtime& runtime) {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string mpi(text, std::find_if(text, text + length, [](char c) { return c == ',' || c == '\n'; }));
  Fact("mpi", mpi);
  Fact("threads", absl::StrCat(runtime.threads(), " per rank"));

  // Asked of the running program: the headers it was compiled with need not be the library it found.
  struct OneDnnVersion {
    int major, minor, patch;
  };
  using VersionFunction = const OneDnnVersion* (*)();
  const auto version = reinterpret_cast<VersionFunction>(dlsym(RTLD_DEFAULT, "dnnl_version"));
  if (version != nullptr) {
    Fact("oneDNN", absl::StrCat(version()->major, ".", version()->minor, ".", version()->patch));
  } else {
    Fact("oneDNN", "not in this program: matrix products use the plain kernels");
  }
}

class ScratchFile {
 public:
  explicit ScratchFile(const std::string& directory) : path_(directory + "/.tanren-doctor-XXXXXX") {
    file_ = mkstemp(path_.data());
    // Without a name nothing is left behind, however this ends.
    if (file_ >= 0) unlink(path_.c_str());
  }
  ~ScratchFile() {
    if (file_ >= 0) close(file_);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  int get() const { return file_; }

 private:
  std::string path_;
  int file_ = -1;
};

bool PrintWriteSpeed(const DoctorOptions& options) {
  if (options.write_bytes <= 0) return true;
  auto failed = [&] {
    Warning(absl::StrCat("cannot write to ", options.directory, ": ", std::strerror(errno)));
    return false;
  };
  const ScratchFile file(options.directory);
  if (file.get() < 0) return failed();
  std::vector<uint32_t> block((4 << 20) / 4);
  uint32_t value = 1;
  for (uint32_t& word : block) word = value = value * 1664525u + 1013904223u;  // file systems may compress
  const double begin = Now();
  for (long long written = 0; written < options.write_bytes;) {
    const ssize_t n =
        write(file.get(), block.data(), std::min<long long>(4 << 20, options.write_bytes - written));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed();
    written += n;
  }
  if (fsync(file.get()) != 0) return failed();
  const double speed = static_cast<double>(options.write_bytes) / (Now() - begin);
  struct statvfs disk {};
  fstatvfs(file.get(), &disk);
  Fact("directory",
       absl::StrFormat("%s: writes %.2f GB/s with fsync, %s free", options.directory, 1e-9 * speed,
                       Gibibytes(static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize))));
  return true;
}

// Sums, maxima and gathers of known numbers; ranks agree on the verdict.
absl::Status TestCollectives(Comm& world) {
  const Stream stream;
  const int size = world.size();
  const int64_t count = 1'000'003;
  std::vector<float> data(count);
  for (int64_t i = 0; i < count; ++i) data[i] = static_cast<float>(world.rank() + i % 100);
  world.AllReduce(stream, "doctor sum", data.data(), count, ReduceOp::kSum);
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    wrong += data[i] != static_cast<float>(size * (i % 100) + size * (size - 1) / 2);
  }
  std::vector<int64_t> ranks(size);
  const int64_t own = world.rank();
  world.AllGather(stream, "doctor gather", &own, ranks.data(), 1);
  for (int rank = 0; rank < size; ++rank) wrong += ranks[rank] != rank;
  return AgreeStatus(world, "doctor verdict",
                     wrong == 0 ? absl::OkStatus()
                                : absl::InternalError(absl::StrCat(wrong, " wrong elements in collectives")));
}

double AllReduceGigabytesPerSecond(Comm& world) {
  std::vector<float> data(8 << 20);
  double best = 0;
  for (int repeat = 0; repeat < 4; ++repeat) {
    world.Barrier("doctor start");
    const double begin = Now();
    world.AllReduce(Stream{}, "doctor speed", data.data(), static_cast<int64_t>(data.size()), ReduceOp::kSum);
    double seconds = Now() - begin;
    world.AllReduce(Stream{}, "doctor slowest", &seconds, 1, ReduceOp::kMax);
    best = std::max(best, 1e-9 * 4 * static_cast<double>(data.size()) / seconds);
  }
  return best;
}

}  // namespace

int Doctor(const DoctorOptions& options) {
  absl::StatusOr<std::unique_ptr<Runtime>> started = Runtime::Start();
  if (!started.ok()) return StatusExit(started.status());
  Runtime& runtime = **started;
  Comm& world = runtime.world();

  bool healthy = true;
  if (world.rank() == 0) {
    PrintProcessor();
    PrintMemoryAndLimits();
    PrintLibraries(runtime);
    healthy = PrintDevices();
    healthy = PrintWriteSpeed(options) && healthy;
    std::fflush(stdout);
  }
  const absl::Status write =
      AgreeStatus(world, "doctor machine",
                  healthy ? absl::OkStatus() : absl::InternalError("this machine failed a test, see above"));
  const absl::Status test = TestCollectives(world);
  const std::vector<std::string> places = AllGatherStrings(world, "doctor places", runtime.Describe());
  const double speed = world.size() > 1 ? AllReduceGigabytesPerSecond(world) : 0;
  if (world.rank() == 0) {
    for (const std::string& place : places) Fact("ranks", place);
    if (!test.ok()) {
      Fact("collectives", absl::StrCat("FAILED: ", test.message()));
    } else if (world.size() == 1) {
      Fact("collectives", "a world of one; `tanren launch -n 2 doctor` tests them between ranks");
    } else {
      Fact("collectives", absl::StrFormat("right; all-reduce of 32 MB at %.2f GB/s", speed));
    }
    std::fflush(stdout);
  }
  return write.ok() && test.ok() ? kExitDone : kExitFailed;
}

}  // namespace tanren
