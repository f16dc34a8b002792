// Tells steps that went wrong, and when a run should go back to its newest checkpoint.
//
// A step is bad where its gradient was not finite (no weight was changed, on any rank), and, if the config
// says so, where its loss is a spike: more than `spike_threshold` standard deviations above the exponentially
// weighted mean of recent losses. Going back and past the data is what Chowdhery et al. 2022 (PaLM, arXiv
// 2204.02311, section 5.1) did about spikes. All that is judged is the same on every rank, so ranks need not
// talk about it.
#ifndef TANREN_CORE_TRAINER_FAULT_JUDGE_H_
#define TANREN_CORE_TRAINER_FAULT_JUDGE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "core/proto/config.pb.h"
#include "core/trainer/stage.h"

namespace tanren {

// Over the whole run, restarts included.
struct FaultCounts {
  int64_t skipped_steps = 0;  // whose gradient was not finite
  int64_t loss_spikes = 0;    // steps whose loss was one
  int64_t rollbacks = 0;
  int64_t skipped_data_steps = 0;  // whose data a rollback passed over
};

class FaultJudge {
 public:
  explicit FaultJudge(const config::FaultConfig& config) : config_(config) {}

  struct Verdict {
    bool spike = false;
    double deviations = 0;  // of a spike: how far above the mean, in standard deviations
    double mean = 0;        // of recent losses, before this one
    bool first = false;     // of a row of spikes
    bool roll_back = false;
  };
  // `loss_tells`: whether the loss measures progress, so that a spike in it means something.
  Verdict Judge(const StageStep& step, bool loss_tells);

  // Bad steps so far in this row. Not a moment to save: the run may have to go back behind them.
  int64_t bad_in_a_row() const { return bad_in_a_row_; }
  // The run has gone back: what follows begins a new row.
  void ForgetRow() { bad_in_a_row_ = spikes_in_a_row_ = 0; }
  FaultCounts& counts() { return counts_; }
  const FaultCounts& counts() const { return counts_; }

  std::string SaveState() const;
  // InvalidArgument for a text that SaveState() did not write. Empty: as new.
  absl::Status RestoreState(const std::string& state);

 private:
  // Losses after which the mean and the deviation are believed.
  static constexpr int64_t kEnoughLosses = 20;

  bool IsSpike(double loss, Verdict* verdict) const;
  void Learn(double loss);

  config::FaultConfig config_;
  double mean_ = 0, variance_ = 0;
  int64_t losses_ = 0;  // that mean_ and variance_ have seen
  int64_t spikes_in_a_row_ = 0;
  int64_t bad_in_a_row_ = 0;
  FaultCounts counts_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_FAULT_JUDGE_H_
