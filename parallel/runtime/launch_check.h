// Who started this process, read from the environment, and whether MPI agrees.
#ifndef TANREN_PARALLEL_RUNTIME_LAUNCH_CHECK_H_
#define TANREN_PARALLEL_RUNTIME_LAUNCH_CHECK_H_

#include "absl/status/status.h"

namespace tanren {

struct LaunchEnvironment {
  // Open MPI's mpirun (or `tanren launch`) started this process. It ends ranks on SIGTERM and SIGINT itself.
  bool under_mpirun = false;
  // Some launcher of a process group did: MPI must be initialised.
  bool under_launcher = false;
  // The rank by the launcher's count; 0 where unknown. For deciding who speaks before MPI works.
  int rank = 0;

  static LaunchEnvironment Read();
};

// An error when a launcher meant several ranks and MPI sees a world of one: the classic `srun` without a PMIx
// plugin, or an mpirun of another MPI. The message holds the command that works.
absl::Status CheckWorldSize(int world_size);

// Without room in /dev/shm Open MPI sends what is meant for a neighbour on the node by other ways, many times
// slower, and says nothing of it. Warns on stderr, once a node; to be called before MPI looks for it.
void WarnOfLittleSharedMemory();

}  // namespace tanren

#endif  // TANREN_PARALLEL_RUNTIME_LAUNCH_CHECK_H_
