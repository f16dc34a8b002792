#include "core/corpus/synth_problems.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_replace.h"
#include "core/base/status.h"

namespace tanren {
namespace {

int64_t PowerOfTen(int exponent) {
  int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// A number with 1 to `digits` digits, each length as likely; `exactly`: with all of them.
int64_t Operand(int digits, bool exactly, int64_t least, RandomStream* random) {
  const int length = exactly ? digits : static_cast<int>(random->Between(1, digits));
  const int64_t low = length == 1 ? least : PowerOfTen(length - 1);
  return random->Between(low, PowerOfTen(length) - 1);
}

struct Story {
  char operation;
  const char* text;
};
constexpr std::array<Story, 5> kStories = {{
    {'+', "$N has $a $o and gets $b more. How many $o does $N have?"},
    {'+', "There are $a red $o and $b blue $o. How many $o are there?"},
    {'-', "$N has $a $o and gives away $b. How many $o are left?"},
    {'-', "There are $a $o. $N takes $b. How many $o are left?"},
    {'*', "$N has $b boxes with $a $o each. How many $o does $N have?"},
}};
constexpr std::array<const char*, 4> kNames = {"Ann", "Ben", "Mia", "Tom"};
constexpr std::array<const char*, 4> kObjects = {"apples", "books", "coins", "pens"};

void SetOperands(int digits, bool longest, int64_t least, RandomStream* random, Problem* problem) {
  const int right_digits = problem->operation == '*' ? std::max(1, digits - 1) : digits;
  problem->left = Operand(digits, longest, least, random);
  problem->right = Operand(right_digits, false, least, random);
  if (problem->operation == '-' && problem->left < problem->right) std::swap(problem->left, problem->right);
}

std::string ColumnSum(int64_t a, int64_t b) {
  std::string steps;
  std::string found;
  int carry = 0;
  for (bool first = true; first || a > 0 || b > 0; first = false) {
    const int sum = static_cast<int>(a % 10 + b % 10) + carry;
    const bool last = a < 10 && b < 10;
    absl::StrAppend(&steps, first ? "" : "\n", a % 10, "+", b % 10, carry ? "+1" : "", "=", sum);
    a /= 10;
    b /= 10;
    carry = sum / 10;
    if (!last && carry) absl::StrAppend(&steps, ", carry 1");
    found = absl::StrCat(last ? sum : sum % 10, found);
    absl::StrAppend(&steps, ": ", found);
  }
  return steps;
}

std::string ColumnDifference(int64_t a, int64_t b) {
  std::string steps;
  std::string found;
  bool borrow = false;
  for (bool first = true; first || a > 0; first = false) {
    const int down = static_cast<int>(b % 10);
    const bool next_borrow = a % 10 - (borrow ? 1 : 0) < down;
    const int up = static_cast<int>(a % 10) + (next_borrow ? 10 : 0);
    const int difference = up - down - (borrow ? 1 : 0);
    found = absl::StrCat(difference, found);
    absl::StrAppend(&steps, first ? "" : "\n", up, "-", down, borrow ? "-1" : "", "=", difference,
                    next_borrow ? ", borrow 1" : "", ": ", found);
    borrow = next_borrow;
    a /= 10;
    b /= 10;
  }
  return steps;
}

std::string PartialProducts(int64_t a, int64_t b) {
  std::string steps;
  int64_t sum = 0;
  for (int64_t place = 1; place <= a; place *= 10) {
    const int64_t part = a / place % 10 * place;
    if (part == 0) continue;
    absl::StrAppend(&steps, steps.empty() ? "" : "\n", part, "*", b, "=", part * b);
    if (sum > 0) absl::StrAppend(&steps, ", ", sum, "+", part * b, "=", sum + part * b);
    sum += part * b;
  }
  return steps;
}

}  // namespace

const char* NameOf(ProblemKind kind) {
  switch (kind) {
    case ProblemKind::kAdd:
      return "add";
    case ProblemKind::kSubtract:
      return "subtract";
    case ProblemKind::kMultiply:
      return "multiply";
    case ProblemKind::kWord:
      return "word";
  }
  return "";
}

Problem MakeProblem(ProblemKind kind, int digits, bool longest, RandomStream* random) {
  TANREN_CHECK(digits >= 1 && digits <= 8);
  Problem problem;
  problem.kind = kind;
  if (kind == ProblemKind::kWord) {
    const Story& story = kStories[random->Between(0, kStories.size() - 1)];
    problem.operation = story.operation;
    SetOperands(digits, longest, 2, random, &problem);
    problem.question =
        absl::StrReplaceAll(story.text, {{"$N", kNames[random->Between(0, kNames.size() - 1)]},
                                         {"$o", kObjects[random->Between(0, kObjects.size() - 1)]},
                                         {"$a", absl::StrCat(problem.left)},
                                         {"$b", absl::StrCat(problem.right)}});
    return problem;
  }
  problem.operation = kind == ProblemKind::kAdd ? '+' : kind == ProblemKind::kSubtract ? '-' : '*';
  SetOperands(digits, longest, kind == ProblemKind::kMultiply ? 2 : 0, random, &problem);
  problem.question =
      absl::StrCat(problem.left, " ", std::string(1, problem.operation), " ", problem.right, " = ?");
  return problem;
}

std::string CanonicalKey(const Problem& problem) {
  int64_t left = problem.left;
  int64_t right = problem.right;
  if (problem.operation != '-' && right < left) std::swap(left, right);
  return absl::StrCat(left, std::string(1, problem.operation), right);
}

int64_t AnswerOf(const Problem& problem) {
  switch (problem.operation) {
    case '+':
      return problem.left + problem.right;
    case '-':
      return problem.left - problem.right;
    default:
      return problem.left * problem.right;
  }
}

std::string StepsOf(const Problem& problem) {
  switch (problem.operation) {
    case '+':
      return ColumnSum(problem.left, problem.right);
    case '-':
      return ColumnDifference(problem.left, problem.right);
    default:
      return PartialProducts(problem.left, problem.right);
  }
}

std::string TextOf(const Problem& problem) {
  const std::string expression =
      problem.kind == ProblemKind::kWord
          ? absl::StrCat(problem.left, std::string(1, problem.operation), problem.right, "\n")
          : "";
  return absl::StrCat("Question: ", problem.question, "\nSteps:\n", expression, StepsOf(problem), "\n#### ",
                      AnswerOf(problem));
}

}  // namespace tanren
