#include "core/report/step_table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/report/units.h"

namespace tanren {
namespace {

// Fixed digits where they fit the column, else an exponent.
std::string Decimal(double value, int digits) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  if (std::fabs(value) >= 1e5 || (value != 0 && std::fabs(value) < 1e-3))
    return absl::StrFormat("%.2e", value);
  return absl::StrFormat("%.*f", digits, value);
}

std::string Percent(double fraction) {
  return std::isfinite(fraction) ? absl::StrFormat("%.1f%%", 100 * fraction) : "-";
}

}  // namespace

void StepTable::Print(const StepFigures& figures) {
  const std::string total = absl::StrCat(total_steps_);
  const int step_width = std::max<int>(11, 2 * static_cast<int>(total.size()) + 1);
  std::string out;
  if (rows_++ % kRowsPerHeader == 0) {
    absl::StrAppendFormat(&out, "%*s %8s %9s %9s %8s %6s %8s %8s\n", step_width, "step", "loss", "grad_norm",
                          "lr", "tokens/s", "mfu", "memory", "eta");
  }
  absl::StrAppendFormat(&out, "%*s %8s %9s %9s %8s %6s %8s %8s", step_width,
                        absl::StrCat(figures.step, "/", total), Decimal(figures.loss, 4),
                        Decimal(figures.gradient_norm, 3), absl::StrFormat("%.3e", figures.learning_rate),
                        FormatCount(figures.tokens_per_second), Percent(figures.model_flops_utilization),
                        FormatBytes(figures.memory_bytes), FormatDuration(figures.eta_seconds));
  console_->Print(out);
}

}  // namespace tanren
