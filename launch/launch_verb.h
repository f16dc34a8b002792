// `tanren launch -n N VERB ...`: starts the ranks of a job on this machine (or the nodes of a SLURM
// allocation), binds them, turns signals into "save and stop", and returns what the ranks return.
#ifndef TANREN_LAUNCH_LAUNCH_VERB_H_
#define TANREN_LAUNCH_LAUNCH_VERB_H_

#include <string>
#include <vector>

namespace tanren {

struct LaunchOptions {
  int ranks = 1;
  // Bind each rank to cores of its own (where there are enough).
  bool bind = true;
  // OpenMP threads per rank; 0: the rank's share of the cores.
  int threads = 0;
  // Print the plan, the command and rank lines.
  bool verbose = false;
  // stdout of all ranks, not of rank 0 only. stderr always comes from all.
  bool all_output = false;
  // mpirun's path or name; empty: the mpirun in PATH.
  std::string mpirun;
  // What each rank executes; empty: this program.
  std::string program;
  // The verb and its arguments.
  std::vector<std::string> arguments;
};

// Runs the job to its end. Returns the exit code of the first rank that failed (75: saved and wants to be
// requeued; 128 + N: ended by signal N), 2 for options that cannot work, 127 when mpirun cannot be started.
//
// SIGTERM and the first SIGINT become SIGUSR1 for the ranks, repeated until they end; SIGUSR1 is passed on; a
// second SIGINT ends the job (130). Once nobody reads a pipe that is standard output or error (`| head`), a
// job of `train` is asked to save and stop, and one of another verb is ended (128 + SIGPIPE). When this
// process dies, whatever the cause, mpirun and the ranks end too.
int Launch(const LaunchOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_LAUNCH_VERB_H_
