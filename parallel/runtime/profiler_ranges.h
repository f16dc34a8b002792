// What this rank is doing, as ranges for a profiler of its GPU: phases ("step", "save"), work ("forward",
// "rollout") and collectives ("gradients"), one inside the other.
#ifndef TANREN_PARALLEL_RUNTIME_PROFILER_RANGES_H_
#define TANREN_PARALLEL_RUNTIME_PROFILER_RANGES_H_

#include "core/activity/activity.h"
#include "kernels/device.h"

namespace tanren {

// Observes the activity of this process as long as it lives.
class ProfilerRanges : private ActivityObserver {
 public:
  ProfilerRanges() { Activity::Own().AddObserver(this); }
  ~ProfilerRanges() override { Activity::Own().RemoveObserver(this); }
  ProfilerRanges(const ProfilerRanges&) = delete;
  ProfilerRanges& operator=(const ProfilerRanges&) = delete;

 private:
  void Begins(Kind, const char* name) override { kernels::BeginRange(name); }
  void Ends() override { kernels::EndRange(); }
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_RUNTIME_PROFILER_RANGES_H_
