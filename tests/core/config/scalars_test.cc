#include "core/config/scalars.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/config/text.h"
#include "gtest/gtest.h"

namespace tanren::config {
namespace {

int64_t Integer(const std::string& text) {
  int64_t value = -77;
  EXPECT_EQ(ParseInteger(text, &value), "") << text;
  return value;
}

std::string IntegerProblem(const std::string& text) {
  int64_t value = -77;
  std::string problem = ParseInteger(text, &value);
  EXPECT_EQ(value, -77) << text;
  return problem;
}

std::string NumberProblem(const std::string& text) {
  double value = -77;
  std::string problem = ParseNumber(text, &value);
  EXPECT_EQ(value, -77) << text;
  return problem;
}

TEST(ParseInteger, AcceptsWholeDecimals) {
  const std::vector<std::pair<std::string, int64_t>> cases = {
      {"0", 0},
      {"-0", 0},
      {"+7", 7},
      {"1e6", 1'000'000},
      {"1E6", 1'000'000},
      {"1e+3", 1000},
      {"2.5e3", 2500},
      {"12.0", 12},
      {"12.", 12},
      {"1200e-2", 12},
      {".5e1", 5},
      {"0e99999999999", 0},
      {"0.0", 0},
      {"1e18", 1'000'000'000'000'000'000},
      {"9223372036854775807", std::numeric_limits<int64_t>::max()},
      {"-9223372036854775808", std::numeric_limits<int64_t>::min()},
      {"9.223372036854775807e18", std::numeric_limits<int64_t>::max()}};
  for (const auto& [text, value] : cases) EXPECT_EQ(Integer(text), value) << text;
}

TEST(ParseInteger, Refuses) {
  EXPECT_EQ(IntegerProblem("1.5"), "1.5 is not an integer");
  EXPECT_EQ(IntegerProblem("1e-1"), "1e-1 is not an integer");
  EXPECT_EQ(IntegerProblem("1.23e1"), "1.23e1 is not an integer");
  EXPECT_EQ(IntegerProblem("0x10"), "0x10 is not an integer");
  EXPECT_EQ(IntegerProblem("1_000"), "1_000 is not an integer");
  EXPECT_EQ(IntegerProblem("1,000"), "1,000 is not an integer");
  EXPECT_EQ(IntegerProblem("twelve"), "twelve is not an integer");
  EXPECT_EQ(IntegerProblem("--1"), "--1 is not an integer");
  EXPECT_EQ(IntegerProblem("1e"), "1e is not an integer");
  EXPECT_EQ(IntegerProblem("."), ". is not an integer");
  EXPECT_EQ(IntegerProblem(".inf"), ".inf is not finite");
  EXPECT_EQ(IntegerProblem("010"), "010 starts with a zero, which some programs read as octal; leave it out");
  EXPECT_EQ(IntegerProblem("9223372036854775808"), "9223372036854775808 does not fit a 64-bit integer");
  EXPECT_EQ(IntegerProblem("-9223372036854775809"), "-9223372036854775809 does not fit a 64-bit integer");
  EXPECT_EQ(IntegerProblem("1e19"), "1e19 does not fit a 64-bit integer");
  EXPECT_EQ(IntegerProblem("1e999999999999999999999"),
            "1e999999999999999999999 does not fit a 64-bit integer");
}

TEST(ParseNumber, AcceptsFiniteDecimals) {
  const std::vector<std::pair<std::string, double>> cases = {
      {"2e-5", 2e-5}, {"+2e-5", 2e-5},  {"-.5", -0.5},        {"3", 3.0},
      {"0.1", 0.1},   {"1e308", 1e308}, {"6.02E+23", 6.02e23}};
  for (const auto& [text, expected] : cases) {
    double value = -77;
    EXPECT_EQ(ParseNumber(text, &value), "") << text;
    EXPECT_EQ(value, expected) << text;
  }
}

TEST(ParseNumber, Refuses) {
  for (const std::string text : {"nan", ".nan", "NaN", "inf", "-.inf", "+.INF", "Infinity"}) {
    EXPECT_EQ(NumberProblem(text), text + " is not finite");
  }
  for (const std::string text : {"1e999", "-1e999", "1e-999"}) {
    EXPECT_EQ(NumberProblem(text), text + " is too large or too small for a double");
  }
  for (const std::string text : {"0x1p3", "1.5f", "1 2", "abc", "1e5.5", "e5", "+", "+-1"}) {
    EXPECT_EQ(NumberProblem(text), text + " is not a number");
  }
  EXPECT_EQ(NumberProblem("01.5"),
            "01.5 starts with a zero, which some programs read as octal; leave it out");
}

TEST(ParseBoolean, OnlyTrueAndFalse) {
  bool value = false;
  EXPECT_EQ(ParseBoolean("true", &value), "");
  EXPECT_TRUE(value);
  EXPECT_EQ(ParseBoolean("false", &value), "");
  EXPECT_FALSE(value);
  for (const std::string text : {"True", "yes", "on", "1", "y"}) {
    EXPECT_EQ(ParseBoolean(text, &value), text + " is not true or false");
  }
}

TEST(FormatNumber, ReadsBackExactly) {
  EXPECT_EQ(FormatNumber(3e-4), "0.0003");
  EXPECT_EQ(FormatNumber(1e-8), "1e-8");
  EXPECT_EQ(FormatNumber(1e20), "1e20");
  EXPECT_EQ(FormatNumber(10000), "10000");
  EXPECT_EQ(FormatNumber(0.1), "0.1");
  EXPECT_EQ(FormatNumber(500000), "500000");
  EXPECT_EQ(FormatNumber(0), "0");
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isnormal(value)) continue;
    double read = 0;
    ASSERT_EQ(ParseNumber(FormatNumber(value), &read), "") << FormatNumber(value);
    ASSERT_EQ(read, value);
  }
}

}  // namespace
}  // namespace tanren::config
