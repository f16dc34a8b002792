// The console's table of steps, rank 0:
//
//        step     loss grad_norm        lr tokens/s    mfu   memory      eta
//     10/2000   4.2500     1.500 6.000e-04    12.3k  45.1% 1.20 GiB  0:01:23
#ifndef TANREN_CORE_REPORT_STEP_TABLE_H_
#define TANREN_CORE_REPORT_STEP_TABLE_H_

#include <cstdint>
#include <limits>
#include <string>

#include "core/report/console.h"

namespace tanren {

// What is unknown is NaN and shown as "-".
struct StepFigures {
  int64_t step = 0;
  double loss = 0;
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  double tokens_per_second = std::numeric_limits<double>::quiet_NaN();  // over all ranks
  double model_flops_utilization =
      std::numeric_limits<double>::quiet_NaN();                    // 1 = the peak of the devices used
  double memory_bytes = std::numeric_limits<double>::quiet_NaN();  // high-water mark of one rank
  double eta_seconds = std::numeric_limits<double>::quiet_NaN();
};

class StepTable {
 public:
  // `console` outlives the table.
  StepTable(Console* console, int64_t total_steps) : console_(console), total_steps_(total_steps) {}

  // Prints a row, and the header before the first and every 40th. A loss or gradient norm that is not finite
  // is shown as what it is.
  void Print(const StepFigures& figures);

 private:
  static constexpr int kRowsPerHeader = 40;

  Console* console_;
  int64_t total_steps_;
  int64_t rows_ = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_STEP_TABLE_H_
