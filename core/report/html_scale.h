// Axes of charts: where values lie, which ticks to draw, and how figures are written.
#ifndef TANREN_CORE_REPORT_HTML_SCALE_H_
#define TANREN_CORE_REPORT_HTML_SCALE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

enum class Unit : uint8_t {
  kNumber,
  kShare,    // 0.5 is 50%
  kBytes,    // KiB, MiB, ..
  kCount,    // k, M, G, ..
  kSeconds,  // s
};

// For people, four significant digits: "0.3624", "2e-5", "88.8%", "1.50 GiB", "28.3k". "-" for NaN;
// infinities by name.
std::string FormatFigure(double value, Unit unit);

struct Tick {
  double value = 0;
  std::string label;
};

class Axis {
 public:
  // An axis that holds the finite values low <= high, made a little longer where they are (almost) equal. At
  // most 12 ticks, about `ticks`, at multiples of 1, 2 or 5 times a power of ten (of 1024, for bytes).
  static Axis Linear(double low, double high, Unit unit, int ticks);
  // 0 < low <= high. Ticks at powers of ten, and at 2 and 5 times them where there are few.
  static Axis Logarithmic(double low, double high, Unit unit);

  // 0 at the low end and 1 at the high end; values outside are moved to the nearer end.
  double Position(double value) const;

  double low() const { return low_; }
  double high() const { return high_; }
  bool logarithmic() const { return logarithmic_; }
  const std::vector<Tick>& ticks() const { return ticks_; }

 private:
  double low_ = 0, high_ = 1;
  bool logarithmic_ = false;
  std::vector<Tick> ticks_;
};

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_SCALE_H_
