// Numbers, exact answers and patterns.
#include "core/reward/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

CheckResult CheckWith(CheckerOptions::Kind kind, const std::string& response, const std::string& reference,
                      const std::string& marker = "####", bool ignore_case = false) {
  CheckerOptions options;
  options.kind = kind;
  options.marker = marker;
  options.ignore_case = ignore_case;
  return (*MakeChecker(options))->Check("", response, reference);
}

bool SameNumber(const std::string& answer, const std::string& reference) {
  return CheckWith(CheckerOptions::Kind::kNumeric, "so\n#### " + answer, reference).right;
}

TEST(ExtractAnswer, IsTheRestOfTheLineBehindTheLastMarker) {
  EXPECT_EQ(ExtractAnswer("#### 1\nno\n####  2 \r\nafter", "####"), "2");
  EXPECT_EQ(ExtractAnswer("none", "####"), "");
  EXPECT_EQ(ExtractAnswer("a ####", "####"), "");
  EXPECT_EQ(ExtractAnswer(" a\nb ", ""), "a\nb");
}

TEST(ParseQuantity, ReadsWhatPeopleWrite) {
  const std::tuple<const char*, double, const char*> cases[] = {
      {"12", 12, ""},
      {"-12.", -12, ""},
      {"\u221212", -12, ""},
      {"1,234,567.50", 1234567.5, ""},
      {".5", .5, ""},
      {"1/2", .5, ""},
      {"-3 1/2", -3.5, ""},
      {"50%", 50, "%"},
      {"50 %", 50, "%"},
      {"$1,000", 1000, "$"},
      {"1000 $", 1000, "$"},
      {"-$5", -5, "$"},
      {"$-5", -5, "$"},
      {"5 dollars", 5, "$"},
      {"\u20ac 7", 7, "\u20ac"},
      {"12 Red Apples.", 12, "red apples"},
      {"12 eggs", 12, "eggs"},
      {"1.5e3", 1500, ""},
      {"2E-2", .02, ""},
      {"**7**", 7, ""},
      {"3 m^2", 3, "m^2"},
      {"1\u202f000", 1000, ""},
      {"007", 7, ""},
      {"0e99999999999", 0, ""},
  };
  for (const auto& [text, value, unit] : cases) {
    Quantity quantity;
    ASSERT_TRUE(ParseQuantity(text, &quantity)) << text;
    EXPECT_DOUBLE_EQ(quantity.value, value) << text;
    EXPECT_EQ(quantity.unit, unit) << text;
  }
}

TEST(ParseQuantity, RefusesWhatIsNoNumber) {
  for (const std::string& text : {std::string(""),
                                  std::string("apples"),
                                  std::string("12 or 13"),
                                  std::string("1/0"),
                                  std::string("12:30"),
                                  std::string("3+4"),
                                  std::string("1,00"),
                                  std::string("1e99999999999"),
                                  std::string("1e-99999999999"),
                                  std::string("--1"),
                                  std::string("1.2.3"),
                                  std::string("nan"),
                                  std::string("inf"),
                                  std::string("$"),
                                  std::string(500, '9'),
                                  std::string(100000, '1'),
                                  std::string("\0\xff", 2),
                                  std::string("1/"),
                                  std::string("12 = 13"),
                                  std::string("$12$13")}) {
    Quantity quantity;
    EXPECT_FALSE(ParseQuantity(text, &quantity)) << text.substr(0, 40);
  }
}

TEST(NumericChecker, ComparesNumbersAndUnits) {
  EXPECT_TRUE(SameNumber("1,000", "1000.0"));
  EXPECT_TRUE(SameNumber("12 apples", "12"));
  EXPECT_TRUE(SameNumber("0.5", "1/2"));
  EXPECT_TRUE(SameNumber("12 apples", "12 Apples."));
  EXPECT_FALSE(SameNumber("12 apples", "12 pears"));
  EXPECT_FALSE(SameNumber("$12", "12%"));
  EXPECT_FALSE(SameNumber("50%", "0.5"));
  EXPECT_FALSE(SameNumber("12.000001", "12"));
  EXPECT_FALSE(SameNumber("-12", "12"));
  EXPECT_FALSE(SameNumber("", "0"));
  EXPECT_FALSE(CheckWith(CheckerOptions::Kind::kNumeric, "it is 12", "12").right);
  EXPECT_TRUE(CheckWith(CheckerOptions::Kind::kNumeric, "of 7, I think it is $1,200.", "1200", "").right);
  EXPECT_TRUE(CheckWith(CheckerOptions::Kind::kNumeric, "5-3 is -2", "-2", "").right);
  EXPECT_TRUE(CheckWith(CheckerOptions::Kind::kNumeric, "#### 1", "one").failed);
}

TEST(NumericChecker, AgreesWithEveryPublishedAnswer) {
  TANREN_NEED_DATA(data);
  std::ifstream file(data + "/math/gsm8k_train.jsonl");
  if (!file) GTEST_SKIP() << "no math/gsm8k_train.jsonl in " << data;
  int64_t count = 0;
  int64_t steps = 0;
  int64_t right = 0;
  int64_t led = 0;
  for (std::string line; std::getline(file, line); ++count) {
    const std::string text = nlohmann::json::parse(line)["answer"];
    const std::string answer = ExtractAnswer(text, "####");
    std::string digits = answer;
    std::erase(digits, ',');
    for (const std::string& written :
         {answer, digits, digits + ".00", "$" + digits, answer + ".", digits + " apples"}) {
      ASSERT_TRUE(SameNumber(written, answer)) << written << " for " << answer;
    }
    ASSERT_FALSE(SameNumber(digits + "1", answer));
    if (digits.size() < 7) {
      ASSERT_FALSE(SameNumber(digits + ".01", answer)) << answer;
    }                    // else within 1e-9
    std::string marked;  // the << >> only
    for (size_t at = 0; (at = text.find("<<", at)) != std::string::npos; ++at) {
      marked += text.substr(at, text.find(">>", at) + 2 - at) + "\n";
    }
    const StepReport report = CheckSteps(marked + "#### " + answer, "####");
    steps += report.steps;
    right += report.right;
    led += report.leads_to_answer ? 1 : 0;
  }
  EXPECT_EQ(count, 7473);
  std::printf("published steps right: %lld of %lld; last leads to the answer: %lld\n",
              static_cast<long long>(right), static_cast<long long>(steps), static_cast<long long>(led));
  EXPECT_GT(steps, 20000);
  EXPECT_GE(static_cast<double>(right), 0.99 * static_cast<double>(steps));
}

TEST(ExactChecker, ComparesText) {
  constexpr auto kExact = CheckerOptions::Kind::kExact;
  EXPECT_TRUE(CheckWith(kExact, "#### Paris ", " Paris").right);
  EXPECT_FALSE(CheckWith(kExact, "#### paris", "Paris").right);
  EXPECT_TRUE(CheckWith(kExact, "#### paris", "Paris", "####", true).right);
  EXPECT_FALSE(CheckWith(kExact, "#### p@", "p`", "####", true).right);  // no letters, though a bit apart
  EXPECT_FALSE(CheckWith(kExact, "Paris", "Paris").right);
  EXPECT_FALSE(CheckWith(kExact, "none", "").right);
}

TEST(RegexChecker, MatchesTheWholeAnswerWithinLimits) {
  constexpr auto kRegex = CheckerOptions::Kind::kRegex;
  EXPECT_TRUE(CheckWith(kRegex, "#### cat", "cats?|dog").right);
  EXPECT_FALSE(CheckWith(kRegex, "#### cat food", "cats?|dog").right);
  EXPECT_FALSE(CheckWith(kRegex, "#### a cat", "cat").right);
  EXPECT_TRUE(CheckWith(kRegex, "#### CAT", "cat", "####", true).right);
  const CheckResult bad = CheckWith(kRegex, "#### x", "a(b");
  EXPECT_TRUE(bad.failed);
  EXPECT_THAT(bad.failure, testing::HasSubstr("byte 3"));
  const CheckResult slow = CheckWith(kRegex, "#### " + std::string(40, 'a') + "b", "(a+)+$");
  EXPECT_TRUE(slow.failed);
  EXPECT_FALSE(slow.right);
  EXPECT_FALSE(CheckWith(kRegex, "no marker", ".*").right);
}

TEST(RegexChecker, SeesInvalidUtf8AsReplacementCharacters) {
  constexpr auto kRegex = CheckerOptions::Kind::kRegex;
  EXPECT_TRUE(CheckWith(kRegex, "#### \xff", "\\x{fffd}").right);
  EXPECT_TRUE(CheckWith(kRegex, "#### a\u20acb\xe2\x82", "a\u20acb\\x{fffd}{2}").right);  // cut inside one
  EXPECT_FALSE(CheckWith(kRegex, "#### \xff", "cat").right);
  EXPECT_EQ(CheckWith(kRegex, "#### \xff", ".").answer, "\xff");
}

TEST(RegexChecker, ReportsOtherErrorsOfTheMatch) {
  // A recursion without progress is found when it matches.
  const CheckResult result = CheckWith(CheckerOptions::Kind::kRegex, "#### a", "(?R)");
  EXPECT_TRUE(result.failed);
  EXPECT_NE(result.failure, "");
}

TEST(ValidatePattern, SaysWhereAPatternIsWrong) {
  EXPECT_TRUE(ValidatePattern("a|b").ok());
  EXPECT_EQ(ValidatePattern("a(b").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ValidatePattern("a(b").message()), testing::HasSubstr("byte 3"));
  EXPECT_FALSE(ValidatePattern(std::string(20000, 'a')).ok());
  EXPECT_FALSE(ValidatePattern("\xff").ok());
}

TEST(MakeChecker, RefusesBadTolerance) {
  CheckerOptions options;
  options.tolerance = -1;
  EXPECT_EQ(MakeChecker(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tanren
