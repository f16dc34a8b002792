// Which figures of a run share a chart, and under which heading.
#ifndef TANREN_CORE_REPORT_HTML_CURVES_H_
#define TANREN_CORE_REPORT_HTML_CURVES_H_

#include <string>
#include <vector>

#include "core/report/html_chart.h"
#include "core/report/metric_series.h"

namespace tanren {

struct ChartGroup {
  std::string title;
  std::vector<Chart> charts;
};

// Every figure of the run is in one chart, but for "tokens", which only grows. A figure that is not known
// here has a chart of its own, together with validation_ of it. The charts point into `metrics`.
std::vector<ChartGroup> ChartsOf(const RunMetrics& metrics);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_CURVES_H_
