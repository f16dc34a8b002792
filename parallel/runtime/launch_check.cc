#include "parallel/runtime/launch_check.h"

#include <sys/statvfs.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "core/base/status.h"

namespace tanren {
namespace {

// The variable as a number; `fallback` where it is absent or none.
int Number(const char* name, int fallback) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return fallback;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return *end == '\0' ? static_cast<int>(value) : fallback;
}

bool Has(const char* name) { return std::getenv(name) != nullptr; }

}  // namespace

LaunchEnvironment LaunchEnvironment::Read() {
  LaunchEnvironment environment;
  environment.under_mpirun = Has("OMPI_COMM_WORLD_SIZE");
  environment.under_launcher = environment.under_mpirun || Has("PMIX_RANK") || Has("PMI_RANK");
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (Has(name)) {
      environment.rank = Number(name, 0);
      break;
    }
  }
  return environment;
}

void WarnOfLittleSharedMemory() {
  constexpr int64_t kMebibytesOfRank = 8;  // 4 MiB of queues, and room to spare
  const int local_rank = Number("OMPI_COMM_WORLD_LOCAL_RANK", Number("SLURM_LOCALID", 0));
  const int64_t ranks = Number("OMPI_COMM_WORLD_LOCAL_SIZE", 2);
  if (local_rank != 0 || ranks < 2 || Has("OMPI_MCA_btl_vader_backing_directory")) return;
  struct statvfs shm {};
  const bool there = statvfs("/dev/shm", &shm) == 0;
  const int64_t bytes = there ? static_cast<int64_t>(shm.f_bavail) * static_cast<int64_t>(shm.f_frsize) : 0;
  if (bytes >> 20 >= ranks * kMebibytesOfRank) return;
  const std::string text = absl::StrFormat(
      "warning: /dev/shm has %d MiB left, and Open MPI wants %d for the ranks of this node; without them its "
      "messages "
      "are many times slower: mount -o remount,size=1g /dev/shm (Docker: --shm-size=1g), or set "
      "OMPI_MCA_btl_vader_backing_directory=/tmp\n",
      bytes >> 20, ranks * kMebibytesOfRank);
  std::fputs(text.c_str(), stderr);
}

absl::Status CheckWorldSize(int world_size) {
  if (world_size > 1) return absl::OkStatus();
  if (const int meant = Number("OMPI_COMM_WORLD_SIZE", 1); meant > 1) {
    return InvalidInput(
        "mpirun started %d ranks but each sees a world of one: mpirun is not of the Open MPI this program "
        "was built "
        "with (see `tanren doctor`); give the right one with `tanren launch --mpirun PATH`",
        meant);
  }
  if (const int tasks = Number("SLURM_STEP_NUM_TASKS", 1); Has("SLURM_STEP_ID") && tasks > 1) {
    return InvalidInput(
        "srun started %d separate worlds of one rank instead of one world of %d, because it was not told to "
        "speak "
        "PMIx; use: srun --mpi=pmix -n %d tanren ... (`srun --mpi=list` shows what this SLURM has; without "
        "pmix, use "
        "mpirun inside the allocation)",
        tasks, tasks, tasks);
  }
  if (const int meant = Number("PMI_SIZE", 1); meant > 1) {
    return InvalidInput(
        "the launcher started %d ranks over PMI, which Open MPI does not speak, so each sees a world of one; "
        "start "
        "with Open MPI's mpirun or with `tanren launch -n %d`",
        meant, meant);
  }
  if (const int tasks = Number("SLURM_NTASKS", 1); tasks > 1) {
    return InvalidInput(
        "this SLURM job has %d tasks, but the program was started as a single process; use: srun --mpi=pmix "
        "-n %d "
        "tanren ... (for a single rank on purpose: SLURM_NTASKS=1 tanren ...)",
        tasks, tasks);
  }
  return absl::OkStatus();
}

}  // namespace tanren
