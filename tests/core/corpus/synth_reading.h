// Reads generated arithmetic back from its text alone, independently of what made it.
#ifndef TANREN_TESTS_CORE_CORPUS_SYNTH_READING_H_
#define TANREN_TESTS_CORE_CORPUS_SYNTH_READING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/core/tokenizer/test_data.h"

namespace tanren::synth_reading {

using nlohmann::json;

inline std::vector<json> Lines(const std::string& path) {
  std::vector<json> lines;
  std::istringstream text(ReadAll(path));
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

inline bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The runs of digits in a text.
inline std::vector<std::string> NumbersIn(const std::string& text) {
  std::vector<std::string> numbers;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsDigit(text[i])) continue;
    if (i == 0 || !IsDigit(text[i - 1])) numbers.emplace_back();
    numbers.back().push_back(text[i]);
  }
  return numbers;
}

// The text with N for each run of digits: its pattern.
inline std::string PatternOf(const std::string& text) {
  static const std::regex number("[0-9]+");
  return std::regex_replace(text, number, "N");
}

inline int64_t Calculate(int64_t a, char operation, int64_t b) {
  return operation == '+' ? a + b : operation == '-' ? a - b : a * b;
}

// Numbers with the operations between them, to be done from left to right.
struct Calculation {
  std::vector<int64_t> numbers;
  std::string operations;

  int64_t Value() const {
    int64_t value = numbers.at(0);
    for (size_t i = 0; i < operations.size(); ++i) {
      value = Calculate(value, operations[i], numbers.at(i + 1));
    }
    return value;
  }

  // The same for calculations that differ only in the order of what is added, taken away or multiplied.
  std::string Key() const {
    std::string key;
    std::vector<std::pair<char, int64_t>> terms;
    size_t next = 0;
    if (operations.at(0) == '*') {
      const auto [low, high] = std::minmax(numbers.at(0), numbers.at(1));
      key = std::to_string(low) + "*" + std::to_string(high);
      next = 2;
    }
    for (; next < numbers.size(); ++next) {
      terms.emplace_back(next == 0 ? '+' : operations.at(next - 1), numbers[next]);
    }
    std::sort(terms.begin(), terms.end());
    for (const auto& [sign, number] : terms) key += sign + std::to_string(number);
    return key;
  }

  // Its own key and those of its operations one by one.
  std::vector<std::string> KeysOfParts() const {
    std::vector<std::string> keys = {Key()};
    int64_t value = numbers.at(0);
    for (size_t i = 0; operations.size() > 1 && i < operations.size(); ++i) {
      keys.push_back(Calculation{{value, numbers[i + 1]}, operations.substr(i, 1)}.Key());
      value = Calculate(value, operations[i], numbers[i + 1]);
    }
    return keys;
  }
};

// "4+3+1"
inline Calculation ReadExpression(const std::string& expression) {
  Calculation calculation;
  for (const std::string& number : NumbersIn(expression)) calculation.numbers.push_back(std::stoll(number));
  for (const char c : expression) {
    if (!IsDigit(c)) calculation.operations += c;
  }
  return calculation;
}

// "47 + 38 = ?", or a story: what stands before a number says what is done with it.
inline Calculation ReadQuestion(const std::string& question) {
  Calculation calculation;
  std::string before;
  for (size_t i = 0; i < question.size(); ++i) {
    if (!IsDigit(question[i])) {
      before += question[i];
      continue;
    }
    const size_t begin = i;
    while (i < question.size() && IsDigit(question[i])) ++i;
    if (!calculation.numbers.empty()) {
      const bool minus =
          before == " - " || Has(before, "gives away") || Has(before, "takes") || before == ", then ";
      const bool times = before == " * " || Has(before, "boxes with");
      calculation.operations += minus ? '-' : times ? '*' : '+';
    }
    calculation.numbers.push_back(std::stoll(question.substr(begin, i - begin)));
    before = question.substr(i, 1);
  }
  EXPECT_GE(calculation.operations.size(), 1) << question;
  return calculation;
}

// A sentence of wordings.jsonl: which calculation it is about, and whether it is true.
struct Sentence {
  Calculation calculation;
  bool right = false;
};
inline std::optional<Sentence> ReadSentence(const std::string& sentence) {
  struct Reading {
    const char* pattern;
    char operation;
    int a, b, result;
  };
  static const Reading readings[] = {
      {"N plus N makes N.", '+', 0, 1, 2},
      {"The sum of N and N is N.", '+', 0, 1, 2},
      {"N is what N and N add up to.", '+', 1, 2, 0},
      {"If you add N to N, you get N.", '+', 1, 0, 2},
      {"Adding N and N gives N.", '+', 0, 1, 2},
      {"Together N and N are N.", '+', 0, 1, 2},
      {"N and N more come to N.", '+', 0, 1, 2},
      {"You reach N when you count on from N by N.", '+', 1, 2, 0},
      {"N minus N leaves N.", '-', 0, 1, 2},
      {"The difference of N and N is N.", '-', 0, 1, 2},
      {"N is what remains of N without N.", '-', 1, 2, 0},
      {"If you take N from N, you get N.", '-', 1, 0, 2},
      {"Taking N away from N gives N.", '-', 1, 0, 2},
      {"N is N more than N.", '-', 0, 2, 1},
      {"N less N comes to N.", '-', 0, 1, 2},
      {"You reach N when you count back from N by N.", '-', 1, 2, 0},
      {"N times N makes N.", '*', 0, 1, 2},
      {"The product of N and N is N.", '*', 0, 1, 2},
      {"N is what N and N multiply to.", '*', 1, 2, 0},
      {"If you take N times N, you get N.", '*', 1, 0, 2},
      {"Multiplying N by N gives N.", '*', 0, 1, 2},
      {"N groups of N are N.", '*', 1, 0, 2},
      {"N taken N times comes to N.", '*', 0, 1, 2},
      {"You reach N in N steps of N.", '*', 2, 1, 0},
  };
  const std::string pattern = PatternOf(sentence);
  const std::vector<std::string> numbers = NumbersIn(sentence);
  for (const Reading& reading : readings) {
    if (pattern != reading.pattern) continue;
    const auto number = [&](int i) { return std::stoll(numbers.at(i)); };
    Sentence read{{{number(reading.a), number(reading.b)}, std::string(1, reading.operation)}, false};
    read.right = read.calculation.Value() == number(reading.result);
    return read;
  }
  return std::nullopt;
}

// Every equation is true, the digits behind each colon are the last of what the lines work out, and the last
// number is the answer. A line without an equation says what the next ones work out.
inline void CheckWork(const std::string& work, const Calculation& calculation) {
  int64_t goal = calculation.Value();
  std::istringstream lines(work);
  int equations = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!Has(line, "=")) {
      goal = ReadExpression(line).Value();
      continue;
    }
    for (size_t at = line.find('='); at != std::string::npos; at = line.find('=', at + 1), ++equations) {
      size_t begin = at;
      while (begin > 0 && Has("0123456789+-*", line.substr(begin - 1, 1))) --begin;
      ASSERT_EQ(ReadExpression(line.substr(begin, at - begin)).Value(), std::stoll(line.substr(at + 1)))
          << work;
    }
    if (const size_t colon = line.find(": "); colon != std::string::npos) {
      const std::string found = line.substr(colon + 2);
      int64_t modulus = 1;
      for (size_t i = 0; i < found.size(); ++i) modulus *= 10;
      ASSERT_EQ(std::stoll(found), goal % modulus) << work;
    }
  }
  ASSERT_GT(equations, 0) << work;
  ASSERT_EQ(std::stoll(NumbersIn(work).back()), calculation.Value()) << work;
}

}  // namespace tanren::synth_reading

#endif  // TANREN_TESTS_CORE_CORPUS_SYNTH_READING_H_
