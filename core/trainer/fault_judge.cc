#include "core/trainer/fault_judge.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"

namespace tanren {

bool FaultJudge::IsSpike(double loss, Verdict* verdict) const {
  if (config_.spike_threshold() == 0 || losses_ < kEnoughLosses) return false;
  // A loss that hardly moves must not make a spike of its last digit.
  const double deviation = std::max(std::sqrt(variance_), 1e-3 * std::abs(mean_) + 1e-12);
  verdict->mean = mean_;
  verdict->deviations = (loss - mean_) / deviation;
  return verdict->deviations > config_.spike_threshold();
}

// A new loss weighs 1 / losses while there are few, so that the first ones are averaged evenly. The mean forgets
// faster than the deviation: where it followed a falling loss from far, its delay would pass for noise.
void FaultJudge::Learn(double loss) {
  ++losses_;
  const double least = 1.0 / static_cast<double>(losses_);
  const double window = static_cast<double>(config_.spike_window());
  const double difference = loss - mean_;
  mean_ += std::max(least, 2 / (window / 5 + 1)) * difference;
  const double weight = losses_ == 1 ? 0 : std::max(least, 2 / (window + 1));
  variance_ += weight * (difference * difference - variance_);
}

FaultJudge::Verdict FaultJudge::Judge(const StageStep& step, bool loss_tells) {
  Verdict verdict;
  if (step.skipped) {
    ++counts_.skipped_steps;
  } else if (loss_tells && std::isfinite(step.loss)) {
    verdict.spike = IsSpike(step.loss, &verdict);
    if (!verdict.spike) Learn(step.loss);
  }
  if (verdict.spike) {
    ++counts_.loss_spikes;
    verdict.first = spikes_in_a_row_ == 0;
  }
  spikes_in_a_row_ = verdict.spike ? spikes_in_a_row_ + 1 : 0;
  // What lasts is no spike but where the loss is now: after new data, for example.
  if (spikes_in_a_row_ >= config_.patience()) losses_ = spikes_in_a_row_ = 0;
  const bool bad = step.skipped || (verdict.spike && config_.spike_action() == config::FaultConfig::rollback);
  bad_in_a_row_ = bad ? bad_in_a_row_ + 1 : 0;
  verdict.roll_back = bad_in_a_row_ >= config_.patience();
  return verdict;
}

std::string FaultJudge::SaveState() const {
  return absl::StrFormat("%.17g %.17g %d %d %d %d %d %d %d", mean_, variance_, losses_, spikes_in_a_row_,
                         bad_in_a_row_, counts_.skipped_steps, counts_.loss_spikes, counts_.rollbacks,
                         counts_.skipped_data_steps);
}

absl::Status FaultJudge::RestoreState(const std::string& state) {
  FaultJudge out(config_);
  const std::vector<std::string> fields = absl::StrSplit(state, ' ', absl::SkipEmpty());
  const bool sound = fields.empty() || (fields.size() == 9 && absl::SimpleAtod(fields[0], &out.mean_) &&
                                        absl::SimpleAtod(fields[1], &out.variance_) &&
                                        absl::SimpleAtoi(fields[2], &out.losses_) &&
                                        absl::SimpleAtoi(fields[3], &out.spikes_in_a_row_) &&
                                        absl::SimpleAtoi(fields[4], &out.bad_in_a_row_) &&
                                        absl::SimpleAtoi(fields[5], &out.counts_.skipped_steps) &&
                                        absl::SimpleAtoi(fields[6], &out.counts_.loss_spikes) &&
                                        absl::SimpleAtoi(fields[7], &out.counts_.rollbacks) &&
                                        absl::SimpleAtoi(fields[8], &out.counts_.skipped_data_steps));
  if (!sound) return InvalidInput("the checkpoint's record of faults is damaged: \"%s\"", state);
  *this = out;
  return absl::OkStatus();
}

}  // namespace tanren
