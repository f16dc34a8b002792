// Learning-rate schedules: a pure function of the step.
#ifndef TANREN_CORE_OPTIMIZER_SCHEDULE_H_
#define TANREN_CORE_OPTIMIZER_SCHEDULE_H_

#include <cstdint>

namespace tanren {

struct Schedule {
  enum class Kind { kConstant, kLinear, kCosine, kWarmupStableDecay };
  Kind kind = Kind::kCosine;
  double peak = 0;           // learning rate at the top
  int64_t warmup_steps = 0;  // linear from 0
  int64_t total_steps = 0;   // linear and cosine reach final_fraction * peak here
  int64_t decay_steps = 0;   // kWarmupStableDecay: length of the linear decay that ends at total_steps
  double final_fraction = 0;
};

// The learning rate of 0-based step `step`. During warm-up peak * step / warmup_steps; afterwards, with
// t = (step - warmup) / (total - warmup) in [0, 1]: constant 1, linear 1 - t, cosine (1 + cos(pi t)) / 2,
// mapped from [0, 1] to [final_fraction, 1] * peak.
double LearningRate(const Schedule& schedule, int64_t step);

}  // namespace tanren

#endif  // TANREN_CORE_OPTIMIZER_SCHEDULE_H_
