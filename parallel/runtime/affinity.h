// Which cores this process may use, and how the ranks of a node divide them.
#ifndef TANREN_PARALLEL_RUNTIME_AFFINITY_H_
#define TANREN_PARALLEL_RUNTIME_AFFINITY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tanren {

// A physical core with those of its hardware threads that may be used.
struct Core {
  int numa_node = 0;
  std::vector<int> cpus;
};

// The cores of this process's affinity mask, ordered by NUMA node, then by lowest cpu.
std::vector<Core> AllowedCores();

// The processor time a container limit (cgroup v1 or v2) grants, in cores; 0 without a limit.
double CpuQuotaCores();

// How many threads of compute make sense here: the allowed cores, cut by the quota, at least one.
int UsableCores();

// The cores of each of `ranks` ranks: as many for each, neighbours on one NUMA node where nodes can be
// divided. Empty lists when there are fewer cores than ranks (then nobody is bound).
std::vector<std::vector<Core>> DivideCores(const std::vector<Core>& cores, int ranks);

// Binds the calling thread, and those it starts later, to these cores.
absl::Status BindToCores(const std::vector<Core>& cores);

// "0-3,8-11" <-> {0, 1, 2, 3, 8, 9, 10, 11}, as in the kernel's files. Malformed text gives what precedes the
// flaw.
std::vector<int> ParseCpuList(const std::string& text);
std::string FormatCpuList(std::vector<int> cpus);

// "cpus 0-3 (NUMA node 0)".
std::string Describe(const std::vector<Core>& cores);

}  // namespace tanren

#endif  // TANREN_PARALLEL_RUNTIME_AFFINITY_H_
