#include "core/report/html_chart.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/config/text.h"
#include "core/report/html_escape.h"

namespace tanren {
namespace {

// In units of the viewBox, which the page scales.
constexpr double kWidth = 420, kHeight = 180;
constexpr double kLeft = 56, kRight = 410, kTop = 10, kBottom = 156;
constexpr size_t kCurveColors = 6;
constexpr size_t kMostDots = 60;  // of a curve that is shown with its points

class Renderer {
 public:
  Renderer(const Chart& chart, int64_t first_step, int64_t last_step)
      : chart_(chart), x_(XAxis(first_step, last_step)), y_(YAxis(chart)) {}

  std::string Render(const std::vector<ChartMark>& marks) {
    absl::StrAppend(&out_, "<figure class=\"chart\">");
    Caption();
    absl::StrAppendFormat(&out_, "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth,
                          kHeight, HtmlText(chart_.title, 200));
    Grid();
    for (const ChartMark& mark : marks) Mark(mark);
    for (size_t i = 0; i < chart_.curves.size(); ++i) Curve(chart_.curves[i], i % kCurveColors);
    for (const ChartCurve& curve : chart_.curves) NotFinite(curve);
    absl::StrAppend(&out_, "</svg></figure>\n");
    return std::move(out_);
  }

 private:
  static Axis XAxis(int64_t first, int64_t last) {
    return Axis::Linear(static_cast<double>(first), static_cast<double>(last), Unit::kCount, 5);
  }

  static Axis YAxis(const Chart& chart) {
    double low = 0, high = 0;
    bool any = false;
    for (const ChartCurve& curve : chart.curves) {
      if (curve.series->count() == 0) continue;
      low = any ? std::min(low, curve.series->minimum()) : curve.series->minimum();
      high = any ? std::max(high, curve.series->maximum()) : curve.series->maximum();
      any = true;
    }
    if (chart.may_be_logarithmic && low > 0 && high / low >= 100) {
      return Axis::Logarithmic(low, high, chart.unit);
    }
    // A small gap to a zero that the values come near to is closed; a share has its natural end at 1.
    if (low > 0 && (chart.from_zero || low < high * 0.2)) low = 0;
    if (chart.unit == Unit::kShare && high > 0.8 && high < 1 && low >= 0) high = 1;
    return Axis::Linear(low, high, chart.unit, 4);
  }

  double X(double step) const { return kLeft + x_.Position(step) * (kRight - kLeft); }
  double Y(double value) const { return kBottom - y_.Position(value) * (kBottom - kTop); }

  void Caption() {
    absl::StrAppend(&out_, "<figcaption><b>", HtmlText(chart_.title, 200), "</b>",
                    y_.logarithmic() ? " <i>log</i>" : "");
    for (size_t i = 0; i < chart_.curves.size(); ++i) {
      const ChartCurve& curve = chart_.curves[i];
      if (curve.series->count() == 0 && curve.series->not_finite() == 0) continue;
      const std::string last =
          curve.series->count() == 0 ? "never finite" : FormatFigure(curve.series->last(), chart_.unit);
      absl::StrAppendFormat(&out_, " <span class=\"key c%d\">%s <b>%s</b></span>", i % kCurveColors,
                            HtmlText(curve.name, 100), last);
    }
    absl::StrAppend(&out_, "</figcaption>");
  }

  void Grid() {
    for (const Tick& tick : y_.ticks()) {
      absl::StrAppendFormat(&out_, "<path class=\"g\" d=\"M%g %.1fH%g\"/>", kLeft, Y(tick.value), kRight);
      absl::StrAppendFormat(&out_, "<text x=\"%g\" y=\"%.1f\" class=\"y\">%s</text>", kLeft - 5,
                            Y(tick.value) + 3.5, tick.label);
    }
    absl::StrAppendFormat(&out_, "<path class=\"a\" d=\"M%g %gV%gH%g\"/>", kLeft, kTop, kBottom, kRight);
    for (const Tick& tick : x_.ticks()) {
      if (tick.value != std::floor(tick.value)) continue;  // there is no half a step
      absl::StrAppendFormat(&out_, "<path class=\"a\" d=\"M%.1f %gv4\"/>", X(tick.value), kBottom);
      absl::StrAppendFormat(&out_, "<text x=\"%.1f\" y=\"%g\" class=\"x\">%s</text>", X(tick.value),
                            kBottom + 16, tick.label);
    }
  }

  void Mark(const ChartMark& mark) {
    absl::StrAppendFormat(&out_, "<path class=\"m\" d=\"M%.1f %gV%g\"><title>%s</title></path>",
                          X(static_cast<double>(mark.step)), kTop, kBottom, HtmlText(mark.text, 200));
  }

  void Curve(const ChartCurve& curve, size_t color) {
    const std::vector<MetricSeries::Point> points = curve.series->Points();
    if (points.empty()) return;
    std::string path, dots, values;
    for (const MetricSeries::Point& point : points) {
      const std::string at = absl::StrFormat("%.1f %.1f", X(static_cast<double>(point.step)), Y(point.value));
      absl::StrAppend(&path, path.empty() ? "M" : "L", at);
      absl::StrAppend(&dots, "M", at, "h0");
      absl::StrAppendFormat(&values, "%s%d:%.6g", values.empty() ? "" : " ", point.step, point.value);
    }
    if (points.size() <= kMostDots) {
      absl::StrAppendFormat(&out_, "<path class=\"d c%d\" d=\"%s\"/>", color, dots);
    }
    absl::StrAppendFormat(&out_, "<path class=\"l c%d\" data-n=\"%s\" data-u=\"%d\" data-v=\"%s\" d=\"%s\"/>",
                          color, HtmlText(curve.name, 100), static_cast<int>(chart_.unit), values, path);
  }

  void NotFinite(const ChartCurve& curve) {
    for (const int64_t step : curve.series->not_finite_steps()) {
      absl::StrAppendFormat(&out_,
                            "<path class=\"n\" d=\"M%.1f %gl3 6h-6z\"><title>%s is not finite at step "
                            "%d</title></path>",
                            X(static_cast<double>(step)), kTop - 6, HtmlText(curve.name, 100), step);
    }
  }

  const Chart& chart_;
  Axis x_, y_;
  std::string out_;
};

}  // namespace

std::string RenderChart(const Chart& chart, int64_t first_step, int64_t last_step,
                        const std::vector<ChartMark>& marks) {
  const bool any = std::ranges::any_of(chart.curves, [](const ChartCurve& curve) {
    return curve.series->count() > 0 || curve.series->not_finite() > 0;
  });
  if (!any) return "";
  return Renderer(chart, first_step, last_step).Render(marks);
}

}  // namespace tanren
