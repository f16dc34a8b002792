#include "stages/reward_model/calibrated_loss.h"

#include <algorithm>

#include "core/base/status.h"

namespace tanren {

CalibratedLoss::CalibratedLoss(const Loss& loss, const LikelihoodTerm& likelihood)
    : loss_(loss), likelihood_(likelihood), metrics_(loss.metrics()) {
  const std::vector<std::string>& columns = loss.segment_columns();
  const auto rank = std::find(columns.begin(), columns.end(), "rank");
  TANREN_CHECK(rank != columns.end());
  rank_column_ = static_cast<size_t>(rank - columns.begin());
  for (int s = 0; s < PairCalibration::kSums; ++s) metrics_.push_back(absl::StrCat("calibration_sum_", s));
}

std::vector<float> CalibratedLoss::ScoresOf(const SegmentStatsView& stats) const {
  std::vector<float> scores(stats.unit_segments[stats.units]);
  for (size_t s = 0; s < scores.size(); ++s) {
    SegmentStats<float> segment;
    segment.value = stats.value[s];
    segment.trained_tokens = stats.trained_tokens[s];
    if (stats.logp_sum != nullptr) segment.logp_sum = stats.logp_sum[s];
    scores[s] = likelihood_.has_value() ? (*likelihood_)(segment) : HeadScore{}(segment);
  }
  return scores;
}

void CalibratedLoss::Segments(const Stream& stream, const SegmentStatsView& stats,
                              const Normalizers& normalizers, const SegmentSeedsView& seeds,
                              double* sums) const {
  loss_.Segments(stream, stats, normalizers, seeds, sums);
  if (stats.units <= 0) return;
  const std::vector<float> scores = ScoresOf(stats);
  const float* rank = stats.segment_columns[rank_column_];
  PairCalibration calibration;
  std::vector<double> differences;
  for (int64_t u = 0; u < stats.units; ++u) {
    differences.clear();
    for (int32_t i = stats.unit_segments[u]; i < stats.unit_segments[u + 1]; ++i) {
      for (int32_t j = stats.unit_segments[u]; j < stats.unit_segments[u + 1]; ++j) {
        if (rank[i] < rank[j]) differences.push_back(static_cast<double>(scores[i]) - scores[j]);
      }
    }
    const double weight = 1 / (normalizers.units * static_cast<double>(differences.size()));
    for (const double difference : differences) calibration.Add(difference, weight);
  }
  double* own = sums + 1 + loss_.metrics().size();
  for (int s = 0; s < PairCalibration::kSums; ++s) own[s] += calibration.sums()[s];
}

std::vector<Metric> CalibratedLoss::Figures(const std::vector<double>& values) const {
  TANREN_CHECK(values.size() == metrics_.size());
  const size_t before = loss_.metrics().size();
  std::vector<Metric> figures;
  for (size_t m = 0; m < before; ++m) figures.push_back({metrics_[m], values[m]});
  PairCalibration calibration;
  std::copy(values.begin() + static_cast<int64_t>(before), values.end(), calibration.sums().begin());
  figures.push_back({"brier", calibration.brier()});
  figures.push_back({"calibration_error", calibration.error()});
  return figures;
}

}  // namespace tanren
