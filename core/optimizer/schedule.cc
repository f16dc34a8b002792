#include "core/optimizer/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tanren {

double LearningRate(const Schedule& schedule, int64_t step) {
  if (step < schedule.warmup_steps) return schedule.peak * step / schedule.warmup_steps;
  const auto progress = [&](int64_t begin) {
    const int64_t length = std::max<int64_t>(1, schedule.total_steps - begin);
    return std::clamp(static_cast<double>(step - begin) / length, 0.0, 1.0);
  };
  double shape = 1;
  switch (schedule.kind) {
    case Schedule::Kind::kConstant:
      return schedule.peak;
    case Schedule::Kind::kLinear:
      shape = 1 - progress(schedule.warmup_steps);
      break;
    case Schedule::Kind::kCosine:
      shape = (1 + std::cos(std::numbers::pi * progress(schedule.warmup_steps))) / 2;
      break;
    case Schedule::Kind::kWarmupStableDecay:
      shape = 1 - progress(std::max(schedule.warmup_steps, schedule.total_steps - schedule.decay_steps));
      break;
  }
  return schedule.peak * (schedule.final_fraction + (1 - schedule.final_fraction) * shape);
}

}  // namespace tanren
