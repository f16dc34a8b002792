// One chart as inline SVG: curves over steps with axes, ticks and units. The exact values stand in the
// elements, for the page's script to show at the pointer; without the script the last ones stand above the
// curves.
#ifndef TANREN_CORE_REPORT_HTML_CHART_H_
#define TANREN_CORE_REPORT_HTML_CHART_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/report/html_scale.h"
#include "core/report/metric_series.h"

namespace tanren {

struct ChartCurve {
  std::string name;                      // untrusted
  const MetricSeries* series = nullptr;  // not owned
};

struct Chart {
  std::string title;
  Unit unit = Unit::kNumber;
  bool from_zero = false;           // the axis begins at 0 where no value is negative
  bool may_be_logarithmic = false;  // it is, where all values are positive and a hundredfold apart
  std::vector<ChartCurve> curves;
};

// A vertical line: where the run was begun again.
struct ChartMark {
  int64_t step = 0;
  std::string text;
};

// <figure>..</figure>, or "" where no curve has a value. Steps at which a value was not finite are marked at
// the upper edge.
std::string RenderChart(const Chart& chart, int64_t first_step, int64_t last_step,
                        const std::vector<ChartMark>& marks);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_CHART_H_
