#include "core/reward/calibration.h"

#include <algorithm>
#include <cmath>

namespace tanren {
namespace {

constexpr int kWeights = 0;
constexpr int kSquares = 1;
constexpr int kFirstBin = 2;

}  // namespace

void PairCalibration::Add(double difference, double weight) {
  const double wrong = 1 / (1 + std::exp(difference));
  const double confidence = 1 / (1 + std::exp(-std::abs(difference)));
  const double right = difference > 0 ? 1 : difference == 0 ? 0.5 : 0;
  // Written so that NaN, which no bin holds, goes to the first.
  int bin = 0;
  if (confidence > 0.5) bin = std::min(static_cast<int>((confidence - 0.5) * 2 * kBins), kBins - 1);
  sums_[kWeights] += weight;
  sums_[kSquares] += weight * wrong * wrong;
  sums_[kFirstBin + bin] += weight * (right - confidence);
}

double PairCalibration::brier() const { return sums_[kSquares] / sums_[kWeights]; }

double PairCalibration::error() const {
  double error = 0;
  for (int bin = 0; bin < kBins; ++bin) error += std::abs(sums_[kFirstBin + bin]);
  return error / sums_[kWeights];
}

}  // namespace tanren
