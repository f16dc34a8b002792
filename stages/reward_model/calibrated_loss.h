// What held-out rankings are measured by: a reward loss, and beside it how far sigmoid of a difference of
// scores can be taken as a probability.
#ifndef TANREN_STAGES_REWARD_MODEL_CALIBRATED_LOSS_H_
#define TANREN_STAGES_REWARD_MODEL_CALIBRATED_LOSS_H_

#include <string>
#include <vector>

#include "core/loss/loss.h"
#include "core/reward/calibration.h"
#include "core/trainer/stage.h"
#include "stages/reward_model/reward_scale.h"

namespace tanren {

// Loss, metrics and seeds of a loss over rankings (segment column "rank"), and behind its metrics the sums of
// PairCalibration over the pairs of different ranks. A ranking counts once, as in the metric "accuracy". The
// sums are metrics like any other, so they are added over micro-batches and ranks as those are.
class CalibratedLoss final : public Loss {
 public:
  // `loss`, which must outlive it, is MakeRewardLoss's with this likelihood term.
  CalibratedLoss(const Loss& loss, const LikelihoodTerm& likelihood);

  Coupling coupling() const override { return loss_.coupling(); }
  uint32_t statistics() const override { return loss_.statistics(); }
  float temperature() const override { return loss_.temperature(); }
  const std::vector<std::string>& columns() const override { return loss_.columns(); }
  const std::vector<std::string>& segment_columns() const override { return loss_.segment_columns(); }
  const std::vector<std::string>& metrics() const override { return metrics_; }
  void Tokens(const Stream& stream, const TokenStatsView& stats, const Normalizers& normalizers,
              const TokenSeedsView& seeds, double* sums) const override {
    loss_.Tokens(stream, stats, normalizers, seeds, sums);
  }
  void Segments(const Stream& stream, const SegmentStatsView& stats, const Normalizers& normalizers,
                const SegmentSeedsView& seeds, double* sums) const override;

  // Of values of metrics(): those of the loss by name, then "brier" and "calibration_error".
  std::vector<Metric> Figures(const std::vector<double>& values) const;

 private:
  std::vector<float> ScoresOf(const SegmentStatsView& stats) const;

  const Loss& loss_;
  LikelihoodTerm likelihood_;
  size_t rank_column_ = 0;  // its place among the segment columns
  std::vector<std::string> metrics_;
};

}  // namespace tanren

#endif  // TANREN_STAGES_REWARD_MODEL_CALIBRATED_LOSS_H_
