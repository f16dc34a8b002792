// From rewards and values to advantages: small pure functions, in double, the same on every rank.
#ifndef TANREN_STAGES_RL_ADVANTAGES_H_
#define TANREN_STAGES_RL_ADVANTAGES_H_

#include <cstdint>
#include <span>
#include <vector>

namespace tanren {

// Generalised advantage estimation (Schulman et al. 2016) over one answer:
//   delta[t] = reward[t] + gamma * value[t + 1] - value[t],  A[t] = delta[t] + gamma * lambda * A[t + 1].
// `values` has one entry more than `rewards`: the value after the last token, 0 for an answer that ended and
// the critic's for one that was cut off.
std::vector<double> GeneralizedAdvantages(std::span<const double> rewards, std::span<const double> values,
                                          double gamma, double lambda);

// In place to mean 0 and deviation 1 over all of them: (a - mean) / (std + epsilon), population deviation
// (the whole global batch is there, so there is nothing to estimate). With `shift_mean` false only the scale
// changes.
void Whiten(std::span<double> values, bool shift_mean, double epsilon);

// Of groups of `group_size` rewards, one after the other.
// GRPO: (r - mean) / (std + 1e-4), sample (Bessel) deviation; `scale` false leaves the deviation out (Dr.
// GRPO).
std::vector<double> GroupAdvantages(std::span<const double> rewards, int64_t group_size, bool scale);
// RLOO: r - mean of the others. NeMo-RL calls the mean of the others the baseline.
std::vector<double> LeaveOneOutBaselines(std::span<const double> rewards, int64_t group_size);
std::vector<double> LeaveOneOutDeviations(std::span<const double> rewards, int64_t group_size);

// Estimators of KL(pi || reference) for a token sampled from pi, from d = log pi - log reference (Schulman
// 2020).
enum class KlEstimator { kK1, kK2, kK3 };
double KlEstimate(KlEstimator estimator, double d);

// Ziegler et al. 2019, section 2.2: coefficient *= 1 + clip(kl / target - 1, -0.2, 0.2) * samples / horizon.
class AdaptiveKl {
 public:
  AdaptiveKl(double coefficient, double target, double horizon_samples)
      : coefficient_(coefficient), target_(target), horizon_(horizon_samples) {}
  double coefficient() const { return coefficient_; }
  void set_coefficient(double coefficient) { coefficient_ = coefficient; }
  // With target 0 the coefficient stays.
  void Update(double kl, double samples);

 private:
  double coefficient_;
  double target_;
  double horizon_;
};

}  // namespace tanren

#endif  // TANREN_STAGES_RL_ADVANTAGES_H_
