#include "launch/bind.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "parallel/runtime/affinity.h"

namespace tanren {

BindingPlan PlanBinding(int ranks, bool want_binding, int threads) {
  const std::vector<Core> cores = AllowedCores();
  const int usable = UsableCores();
  BindingPlan plan;
  plan.oversubscribed = ranks > usable;
  // A container's quota grants time, not cores: ranks bound to quiet cores would gain nothing and could be
  // moved less.
  const bool under_quota = usable < static_cast<int>(cores.size());
  plan.bind = want_binding && !plan.oversubscribed && !under_quota;
  plan.threads = threads > 0 ? threads : std::max(usable / ranks, 1);
  const std::vector<std::vector<Core>> parts = DivideCores(cores, ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    plan.lines.push_back(absl::StrFormat("rank %d: %s, %d thread%s", rank,
                                         plan.bind ? Describe(parts[rank]) : "not bound", plan.threads,
                                         plan.threads == 1 ? "" : "s"));
  }
  return plan;
}

}  // namespace tanren
