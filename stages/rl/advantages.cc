#include "stages/rl/advantages.h"

#include <algorithm>
#include <cmath>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr double kGroupEpsilon = 1e-4;  // numerics.md: GRPO divides by std + 1e-4

struct Moments {
  double mean = 0;
  double squares = 0;  // sum of squared distances from the mean
};

Moments MomentsOf(std::span<const double> values) {
  Moments moments;
  for (const double value : values) moments.mean += value / static_cast<double>(values.size());
  for (const double value : values) moments.squares += (value - moments.mean) * (value - moments.mean);
  return moments;
}

void CheckGroups(std::span<const double> rewards, int64_t group_size) {
  TANREN_CHECK_MSG(group_size >= 2 && rewards.size() % group_size == 0, rewards.size(),
                   " rewards in groups of ", group_size);
}

// For each reward of a group the others' mean and sample deviation.
template <class Body>
void ForOthers(std::span<const double> rewards, int64_t group_size, const Body& body) {
  CheckGroups(rewards, group_size);
  std::vector<double> others;
  for (size_t i = 0; i < rewards.size(); ++i) {
    const size_t begin = i / group_size * group_size;
    others.clear();
    for (size_t j = begin; j < begin + group_size; ++j) {
      if (j != i) others.push_back(rewards[j]);
    }
    body(i, MomentsOf(others));
  }
}

}  // namespace

std::vector<double> GeneralizedAdvantages(std::span<const double> rewards, std::span<const double> values,
                                          double gamma, double lambda) {
  TANREN_CHECK(values.size() == rewards.size() + 1);
  std::vector<double> advantages(rewards.size());
  double next = 0;
  for (size_t t = rewards.size(); t-- > 0;) {
    const double delta = rewards[t] + gamma * values[t + 1] - values[t];
    next = delta + gamma * lambda * next;
    advantages[t] = next;
  }
  return advantages;
}

void Whiten(std::span<double> values, bool shift_mean, double epsilon) {
  if (values.empty()) return;
  const Moments moments = MomentsOf(values);
  const double deviation = std::sqrt(moments.squares / static_cast<double>(values.size()));
  for (double& value : values) {
    const double centred = (value - moments.mean) / (deviation + epsilon);
    value = shift_mean ? centred : centred + moments.mean;
  }
}

std::vector<double> GroupAdvantages(std::span<const double> rewards, int64_t group_size, bool scale) {
  CheckGroups(rewards, group_size);
  std::vector<double> advantages(rewards.size());
  for (size_t begin = 0; begin < rewards.size(); begin += group_size) {
    const Moments moments = MomentsOf(rewards.subspan(begin, group_size));
    const double deviation = std::sqrt(moments.squares / static_cast<double>(group_size - 1));
    for (size_t i = begin; i < begin + group_size; ++i) {
      advantages[i] = (rewards[i] - moments.mean) / (scale ? deviation + kGroupEpsilon : 1);
    }
  }
  return advantages;
}

std::vector<double> LeaveOneOutBaselines(std::span<const double> rewards, int64_t group_size) {
  std::vector<double> baselines(rewards.size());
  ForOthers(rewards, group_size, [&](size_t i, const Moments& others) { baselines[i] = others.mean; });
  return baselines;
}

std::vector<double> LeaveOneOutDeviations(std::span<const double> rewards, int64_t group_size) {
  std::vector<double> deviations(rewards.size());
  ForOthers(rewards, group_size, [&](size_t i, const Moments& others) {
    deviations[i] = group_size > 2 ? std::sqrt(others.squares / static_cast<double>(group_size - 2)) : 0;
  });
  return deviations;
}

double KlEstimate(KlEstimator estimator, double d) {
  switch (estimator) {
    case KlEstimator::kK1:
      return d;
    case KlEstimator::kK2:
      return d * d / 2;
    case KlEstimator::kK3:
      return std::expm1(-d) + d;
  }
  return 0;
}

void AdaptiveKl::Update(double kl, double samples) {
  if (target_ <= 0) return;
  coefficient_ *= 1 + std::clamp(kl / target_ - 1, -0.2, 0.2) * samples / horizon_;
}

}  // namespace tanren
