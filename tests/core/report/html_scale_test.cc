#include "core/report/html_scale.h"

#include <cmath>
#include <limits>
#include <random>

#include "gmock/gmock.h"

namespace tanren {
namespace {

using testing::ElementsAre;

std::vector<std::string> LabelsOf(const Axis& axis) {
  std::vector<std::string> labels;
  for (const Tick& tick : axis.ticks()) labels.push_back(tick.label);
  return labels;
}

TEST(HtmlScale, FiguresAreShort) {
  EXPECT_EQ(FormatFigure(0.36237198, Unit::kNumber), "0.3624");
  EXPECT_EQ(FormatFigure(2e-5, Unit::kNumber), "2e-5");
  EXPECT_EQ(FormatFigure(-1234567, Unit::kNumber), "-1.235e6");
  EXPECT_EQ(FormatFigure(0.888, Unit::kShare), "88.8%");
  EXPECT_EQ(FormatFigure(1, Unit::kShare), "100%");
  EXPECT_EQ(FormatFigure(28291.5, Unit::kCount), "28.3k");
  EXPECT_EQ(FormatFigure(1536, Unit::kBytes), "1.50 KiB");
  EXPECT_EQ(FormatFigure(0.25, Unit::kSeconds), "0.2500 s");
  EXPECT_EQ(FormatFigure(NAN, Unit::kNumber), "-");
  EXPECT_EQ(FormatFigure(-INFINITY, Unit::kNumber), "-inf");
}

TEST(HtmlScale, TicksAreRoundNumbers) {
  EXPECT_THAT(LabelsOf(Axis::Linear(0, 4.64, Unit::kNumber, 4)), ElementsAre("0", "1", "2", "3", "4"));
  EXPECT_THAT(LabelsOf(Axis::Linear(0.31, 0.52, Unit::kNumber, 4)),
              ElementsAre("0.35", "0.40", "0.45", "0.50"));
  EXPECT_THAT(LabelsOf(Axis::Linear(-1, 1, Unit::kNumber, 4)),
              ElementsAre("-1.0", "-0.5", "0", "0.5", "1.0"));
  EXPECT_THAT(LabelsOf(Axis::Linear(0, 2e-5, Unit::kNumber, 4)),
              ElementsAre("0", "5e-6", "1e-5", "1.5e-5", "2e-5"));
  EXPECT_THAT(LabelsOf(Axis::Linear(0, 35000, Unit::kCount, 4)), ElementsAre("0", "10k", "20k", "30k"));
  EXPECT_THAT(LabelsOf(Axis::Linear(0, 3.0 * (1 << 30), Unit::kBytes, 4)),
              ElementsAre("0", "1 GiB", "2 GiB", "3 GiB"));
  EXPECT_THAT(LabelsOf(Axis::Linear(0, 1, Unit::kShare, 4)),
              ElementsAre("0", "20%", "40%", "60%", "80%", "100%"));
  EXPECT_THAT(LabelsOf(Axis::Linear(1, 1000, Unit::kCount, 5)),
              ElementsAre("200", "400", "600", "800", "1000"));
}

TEST(HtmlScale, LogarithmicTicks) {
  EXPECT_THAT(LabelsOf(Axis::Logarithmic(0.004, 30, Unit::kNumber)), ElementsAre("0.01", "0.1", "1", "10"));
  EXPECT_THAT(LabelsOf(Axis::Logarithmic(0.9, 200, Unit::kNumber)),
              ElementsAre("1", "2", "5", "10", "20", "50", "100", "200"));
  const Axis axis = Axis::Logarithmic(1, 10000, Unit::kNumber);
  EXPECT_NEAR(axis.Position(100), 0.5, 1e-12);
}

TEST(HtmlScale, EqualValuesHaveAnAxis) {
  for (const double value : {0.0, 5.0, -3.5, 1e-310, 1e300}) {
    const Axis axis = Axis::Linear(value, value, Unit::kNumber, 4);
    EXPECT_LT(axis.low(), axis.high()) << value;
    EXPECT_NEAR(axis.Position(value), 0.5, 1e-6) << value;
  }
}

// Whatever the values are: some ticks at most, inside the axis, in order, and positions within [0, 1].
TEST(HtmlScale, EveryRangeHasASoundAxis) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::vector<double> values = {0,
                                1,
                                -1,
                                1e-300,
                                1e300,
                                5e-324,
                                std::numeric_limits<double>::max(),
                                -std::numeric_limits<double>::max(),
                                1 + 1e-15,
                                9007199254740993.0};
  for (int i = 0; i < 60; ++i) {
    values.push_back(
        std::ldexp(1.0 + static_cast<double>(random() % 1000), static_cast<int>(random() % 1900) - 950));
  }
  for (const double a : values) {
    for (const double b : values) {
      for (const Unit unit : {Unit::kNumber, Unit::kShare, Unit::kBytes, Unit::kCount}) {
        const Axis axis = Axis::Linear(std::min(a, b), std::max(a, b), unit, 4);
        ASSERT_TRUE(std::isfinite(axis.high() - axis.low()) && axis.low() < axis.high()) << a << " " << b;
        ASSERT_LE(axis.ticks().size(), 12);
        for (const double value : {a, b}) {
          ASSERT_GE(axis.Position(value), 0) << a << " " << b;
          ASSERT_LE(axis.Position(value), 1) << a << " " << b;
        }
        for (size_t i = 1; i < axis.ticks().size(); ++i) {
          ASSERT_LT(axis.ticks()[i - 1].value, axis.ticks()[i].value);
          ASSERT_NE(axis.ticks()[i - 1].label, axis.ticks()[i].label) << a << " " << b;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tanren
