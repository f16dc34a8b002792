// Whether a reward model's scores mean what they say: sigmoid(r_a - r_b) as the probability that a is the
// better of two answers (Bradley and Terry 1952), against how often it is.
#ifndef TANREN_CORE_REWARD_CALIBRATION_H_
#define TANREN_CORE_REWARD_CALIBRATION_H_

#include <array>
#include <cstdint>
#include <span>

namespace tanren {

class PairCalibration {
 public:
  // The side that the model prefers has a probability in [0.5, 1], in bins of equal width.
  static constexpr int kBins = 10;
  static constexpr int kSums = 2 + kBins;

  // A pair whose better answer scores `difference` above the worse one. What is not a number makes both
  // figures NaN.
  void Add(double difference, double weight = 1);

  // Mean of (1 - P(the better answer))^2 (Brier 1950): 0.25 where nothing is known, 0 at best. NaN without a
  // pair.
  double brier() const;
  // Expected calibration error (Guo et al. 2017, eq. 3): |share right - mean probability| of each bin's
  // preferred sides, in the mean over the pairs. Equal scores are half right at 0.5. NaN without a pair.
  double error() const;

  // All that it holds: sums over the pairs, so that those of several micro-batches and ranks are added one by
  // one. The weights; the squares; of each bin right - probability, for |sum of it| / weights is the bin's
  // share of the error.
  std::span<double, kSums> sums() { return sums_; }

 private:
  std::array<double, kSums> sums_{};
};

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_CALIBRATION_H_
