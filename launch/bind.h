// How the ranks of `tanren launch` divide the cores of a node.
//
// The ranks bind themselves (Runtime reads TANREN_BIND): the same rule on every node of a job and under any
// mpirun, so mpirun is told to bind nothing.
#ifndef TANREN_LAUNCH_BIND_H_
#define TANREN_LAUNCH_BIND_H_

#include <string>
#include <vector>

namespace tanren {

struct BindingPlan {
  // Ranks are bound to cores of their own. Not so where ranks outnumber cores.
  bool bind = false;
  // More ranks than usable cores.
  bool oversubscribed = false;
  // OpenMP threads of each rank, at least 1.
  int threads = 1;
  // One line per rank for --verbose: "rank 0: cpus 0-3 (NUMA node 0), 4 threads".
  std::vector<std::string> lines;
};

// A plan for `ranks` on this node. threads = 0: the rank's share of the cores.
BindingPlan PlanBinding(int ranks, bool want_binding, int threads);

}  // namespace tanren

#endif  // TANREN_LAUNCH_BIND_H_
