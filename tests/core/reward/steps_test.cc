// Worked steps: found, evaluated, and a changed digit noticed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/corpus/synth_problems.h"
#include "core/reward/checker.h"
#include "core/reward/judge.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;

std::string Answered(const Problem& problem) {
  return WorkOf(problem) + "\n#### " + std::to_string(AnswerOf(problem));
}

TEST(CheckSteps, AcceptsEverySyntheticProblemAndNoChangedDigit) {
  RandomStream random(FreshSeed(), 0);
  for (int kind = 0; kind < kProblemKinds; ++kind) {
    for (int digits = 1; digits <= 6; ++digits) {
      for (int round = 0; round < 300; ++round) {
        const Problem problem = MakeProblem(static_cast<ProblemKind>(kind), digits, round % 2 == 0, &random);
        const std::string text = Answered(problem);
        ASSERT_TRUE(CheckSteps(text, "####").valid()) << text;
        // Every digit of an equation: those joined to an "=" by digits and operators.
        std::vector<size_t> places;
        for (size_t at = 0; (at = text.find('=', at)) != std::string::npos; ++at) {
          const auto math = [&](size_t i) {
            return std::string_view("0123456789+-*").find(text[i]) != std::string_view::npos;
          };
          for (size_t i = at; i > 0 && math(i - 1); --i) places.push_back(i - 1);
          for (size_t i = at + 1; math(i); ++i) places.push_back(i);
        }
        for (const size_t at : places) {
          if (text[at] < '0') continue;
          if (at >= 2 && text.substr(at - 2, 2) == "0*") continue;  // nothing times any digit is nothing
          std::string changed = text;
          changed[at] = static_cast<char>('0' + (text[at] - '0' + random.Between(1, 9)) % 10);
          ASSERT_FALSE(CheckSteps(changed, "####").valid()) << text << "\nbecame\n" << changed;
        }
      }
    }
  }
}

std::vector<uint8_t> Rights(const std::string& text) { return CheckSteps(text, "####").step_right; }

TEST(CheckSteps, Evaluates) {
  EXPECT_THAT(Rights("48/2 = <<48/2=24>>24 clips"), ElementsAre(1));
  EXPECT_THAT(Rights("2*(3+4) = 14 = 15-1 = 13"), ElementsAre(1, 1, 0));
  EXPECT_THAT(Rights("so 0.2 x 50 = $10, and 6\u00d77=42, 8\u00f72=4, 9\u22124=5"), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(Rights("0.1+0.2=0.3 2/3=0.67 2/3=0.66 7/2=4"), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(Rights("1/0=0, 0/0=0, 1/(1-1)=5"), ElementsAre(0, 0, 0));
  EXPECT_THAT(Rights("999999*99999=99998900001 999999*99999=99998900002"), ElementsAre(1, 0));
  EXPECT_THAT(Rights("200*20%=40, 2(3+4)=14, -3+5=2, 1,000+1=1,001, <<+3+4=7>>"), ElementsAre(1, 1, 1, 1, 1));
  EXPECT_THAT(Rights("- 3+4=7\n1. 3+4=7\nTotal = 3+4 = 7"), ElementsAre(1, 1, 1));
  EXPECT_THAT(Rights("x + 3 = 7, 2x + 3 = 9, a=b, 3 <= 4, 47 + 38 = ?, 3+4="), ElementsAre());
}

TEST(CheckSteps, SaysWhereStepsEnd) {
  const StepReport report = CheckSteps("7+8=15, carry 1: 5\n4+3+1=8: 85\n#### 85", "####");
  EXPECT_THAT(report.step_end, ElementsAre(6, 26));
  EXPECT_TRUE(report.valid());
  EXPECT_FALSE(CheckSteps("7+8=15, carry 1: 5\n4+3+1=8: 85\n#### 86", "####").leads_to_answer);
  EXPECT_FALSE(CheckSteps("7+8=15, carry 1: 5\n4+3+1=8: 85\n", "####").leads_to_answer);
  EXPECT_FALSE(CheckSteps("#### 85", "####").valid());
  EXPECT_TRUE(CheckSteps("4*6=24, 24+180=204\n#### 204", "####").valid());
}

TEST(CheckSteps, SurvivesAnyText) {
  EXPECT_FALSE(CheckSteps(std::string(100000, '(') + "1=1", "####").valid());
  EXPECT_THAT(Rights(std::string(100, '(') + "1" + std::string(100, ')') + "=1"), ElementsAre(0));
  std::string sum = "1";
  for (int i = 0; i < 2000; ++i) sum += "+1";
  EXPECT_THAT(Rights(sum + "=5"), ElementsAre(0));
  EXPECT_THAT(Rights(std::string(100000, '9') + "=1"), ElementsAre(0));
  EXPECT_THAT(Rights(std::string(100000, '-') + "1=1"), ElementsAre(0));
  std::mt19937_64 random(FreshSeed());
  const std::string alphabet = "0123456789+-*/()=.,:x$% \n<>a\xe2\x88\x92";
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (int i = 0; i < 60; ++i) text.push_back(alphabet[random() % alphabet.size()]);
    const StepReport report = CheckSteps(text, round % 2 ? "" : "=");
    ASSERT_EQ(report.steps, report.step_right.size());
    ASSERT_EQ(report.steps, report.step_end.size());
    for (const size_t end : report.step_end) ASSERT_LE(end, text.size());
  }
}

TEST(JudgeArithmetic, RanksByAnswerThenSteps) {
  const std::vector<std::string> responses = {
      "#### none",
      "7+8=16, carry 1: 5\n4+3+1=9: 85\n#### 95",
      "7+8=15, carry 1: 5\n4+3+1=8: 85\n#### 85",
      "7+8=15, carry 1: 5\n4+3+1=9: 95\n#### 95",
      "#### 85",
      "7+8=15, carry 1: 5\n4+3+1=9: 85\n#### 85",
      "",
  };
  EXPECT_THAT(JudgeArithmetic("47 + 38 = ?", "85", responses), ElementsAre(5, 4, 1, 3, 2, 2, 5));
  EXPECT_THAT(JudgeArithmetic("", "85", std::vector<std::string>{"#### 1", "#### 85"}), ElementsAre(2, 1));
  EXPECT_TRUE(JudgeArithmetic("", "85", {}).empty());
}

}  // namespace
}  // namespace tanren
