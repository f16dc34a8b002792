// Generated arithmetic: right, deterministic, and never the same problem on both sides.
#include "core/corpus/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/base/sha256.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

SynthOptions Options(const std::string& out) {
  SynthOptions options;
  options.out = out;
  options.problems = 3000;
  options.held_out = 200;
  return options;
}

std::vector<json> Lines(const std::string& path) {
  std::vector<json> lines;
  std::istringstream text(ReadAll(path));
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

int64_t Calculate(int64_t a, char operation, int64_t b) {
  return operation == '+' ? a + b : operation == '-' ? a - b : a * b;
}

// The runs of digits in a text.
std::vector<std::string> NumbersIn(const std::string& text) {
  std::vector<std::string> numbers;
  bool inside = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) numbers.emplace_back();
    if (digit) numbers.back().push_back(c);
    inside = digit;
  }
  return numbers;
}

// The canonical key from the text alone: the two operands of the question and what is done with them.
std::string KeyFromText(const json& record) {
  const auto question = record.at("question").get<std::string>();
  const std::vector<std::string> found = NumbersIn(question);
  EXPECT_EQ(found.size(), 2) << question;
  int64_t numbers[2] = {std::stoll(found.at(0)), std::stoll(found.at(1))};
  const auto has = [&](const char* text) { return question.find(text) != std::string::npos; };
  const char operation = has(" - ") || has("gives away") || has("takes") ? '-'
                         : has(" * ") || has("boxes")                    ? '*'
                                                                         : '+';
  if (operation != '-' && numbers[1] < numbers[0]) std::swap(numbers[0], numbers[1]);
  EXPECT_EQ(record.at("answer"), std::to_string(Calculate(numbers[0], operation, numbers[1]))) << question;
  return std::to_string(numbers[0]) + operation + std::to_string(numbers[1]);
}

// "4+3+1", from left to right.
int64_t Evaluate(const std::string& expression) {
  const std::vector<std::string> numbers = NumbersIn(expression);
  int64_t value = std::stoll(numbers.at(0));
  size_t next = 1;
  for (const char c : expression) {
    if (c < '0' || c > '9') value = Calculate(value, c, std::stoll(numbers.at(next++)));
  }
  return value;
}

// Every equation that the steps state is true, and the last number they find is the answer.
void CheckSteps(const json& record) {
  const auto text = record.at("text").get<std::string>();
  const auto answer = record.at("answer").get<std::string>();
  ASSERT_EQ(text.rfind("Question: " + record.at("question").get<std::string>() + "\nSteps:\n", 0), 0) << text;
  ASSERT_EQ(text.substr(text.rfind("\n#### ") + 6), answer) << text;
  const std::string steps =
      text.substr(text.find("\nSteps:\n") + 8, text.rfind("\n#### ") - text.find("\nSteps:\n") - 8);
  int equations = 0;
  for (size_t equals = steps.find('='); equals != std::string::npos; equals = steps.find('=', equals + 1)) {
    size_t begin = equals;
    while (begin > 0 && std::string("0123456789+-*").find(steps[begin - 1]) != std::string::npos) --begin;
    ASSERT_EQ(Evaluate(steps.substr(begin, equals - begin)), std::stoll(steps.substr(equals + 1))) << text;
    ++equations;
  }
  ASSERT_GT(equations, 0) << text;
  ASSERT_EQ(std::stoll(NumbersIn(steps).back()), std::stoll(answer)) << text;
}

TEST(Synth, ProblemsAreRightAndSidesAreDisjoint) {
  for (const uint64_t seed : {FreshSeed(), uint64_t{1}}) {
    for (const int digits : {1, 2, 4}) {
      TemporaryDirectory directory;
      SynthOptions options = Options(directory / "s");
      options.seed = seed;
      options.digits = digits;
      if (digits == 1) options.held_out = 25;
      const auto summary = WriteSynthCorpus(options);
      ASSERT_TRUE(summary.ok()) << summary.status();
      const std::vector<json> train = Lines(summary->train_path);
      const std::vector<json> held_out = Lines(summary->held_out_path);
      ASSERT_EQ(train.size(), options.problems);
      ASSERT_EQ(held_out.size(), options.held_out);
      std::set<std::string> train_keys;
      std::set<std::string> questions;
      std::map<std::string, int> kinds;
      int harder = 0;
      for (const json& record : train) {
        CheckSteps(record);
        train_keys.insert(KeyFromText(record));
        ++kinds[record.at("kind")];
        ASSERT_EQ(record.at("difficulty"), "same");
      }
      EXPECT_EQ(kinds.size(), 4);
      for (const json& record : held_out) {
        CheckSteps(record);
        ASSERT_FALSE(train_keys.contains(KeyFromText(record))) << record.dump();
        ASSERT_TRUE(questions.insert(record.at("question")).second);
        if (record.at("difficulty") != "harder") continue;
        ++harder;
        const std::vector<std::string> numbers = NumbersIn(record.at("question"));
        const bool longer = std::any_of(numbers.begin(), numbers.end(),
                                        [&](const std::string& n) { return n.size() == digits + 1; });
        ASSERT_TRUE(longer) << record.dump();
      }
      EXPECT_EQ(harder, options.held_out / 5);
    }
  }
}

TEST(Synth, ShowsItsWork) {
  RandomStream random(1, 1);
  const auto text = [](char operation, int64_t left, int64_t right) {
    Problem problem;
    problem.operation = operation;
    problem.left = left;
    problem.right = right;
    return StepsOf(problem);
  };
  EXPECT_EQ(text('+', 47, 38), "7+8=15, carry 1: 5\n4+3+1=8: 85");
  EXPECT_EQ(text('+', 95, 7), "5+7=12, carry 1: 2\n9+0+1=10: 102");
  EXPECT_EQ(text('+', 0, 0), "0+0=0: 0");
  EXPECT_EQ(text('-', 82, 47), "12-7=5, borrow 1: 5\n8-4-1=3: 35");
  EXPECT_EQ(text('-', 100, 1), "10-1=9, borrow 1: 9\n10-0-1=9, borrow 1: 99\n1-0-1=0: 099");
  EXPECT_EQ(text('*', 34, 6), "4*6=24\n30*6=180, 24+180=204");
  EXPECT_EQ(text('*', 100, 12), "100*12=1200");
}

// The same bytes on every machine: a changed hash means that seeds no longer mean what they meant.
TEST(Synth, IsDeterministic) {
  TemporaryDirectory directory;
  ASSERT_TRUE(WriteSynthCorpus(Options(directory / "a")).ok());
  EXPECT_EQ(Sha256Hex(ReadAll(directory / "a/train.jsonl")),
            "52627822b3c8015186724d330f42310f4b290ea5887cfbc98c5c2be77688b105");
  EXPECT_EQ(Sha256Hex(ReadAll(directory / "a/heldout.jsonl")),
            "fcf60c52a9a5f594321e2a9afa23019bf7095a503efb7ea8ab6f320aa290ed97");
}

TEST(Synth, RefusesWhatItWouldLoseOrCannotMake) {
  TemporaryDirectory directory;
  SynthOptions options = Options(directory / "s");
  EXPECT_FALSE(WriteSynthCorpus(options)->up_to_date);
  EXPECT_TRUE(WriteSynthCorpus(options)->up_to_date);
  options.seed = 2;
  EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()),
              HasSubstr("replace it with --force"));
  options.force = true;
  ASSERT_TRUE(WriteSynthCorpus(options).ok());
  EXPECT_TRUE(WriteSynthCorpus(options)->up_to_date);
  WriteAll(directory / "s/train.jsonl", "{}\n");
  options.force = false;
  EXPECT_FALSE(WriteSynthCorpus(options).ok());
  WriteAll(directory / "mine/notes.txt", "keep");
  options.out = directory / "mine";
  options.force = true;
  EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()), HasSubstr("was not made by"));
  EXPECT_EQ(ReadAll(directory / "mine/notes.txt"), "keep");
  options.out = directory / "n";
  options.digits = 1;
  options.held_out = 100000;
  EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()),
              HasSubstr("distinct held-out problems exist"));
  options.digits = 9;
  EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()), HasSubstr("1 to 7 are possible"));
}

}  // namespace
}  // namespace tanren
