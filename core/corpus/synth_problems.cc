#include "core/corpus/synth_problems.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"

namespace tanren {
namespace {

int64_t PowerOfTen(int exponent) {
  int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

int64_t Calculate(int64_t a, char operation, int64_t b) {
  return operation == '+' ? a + b : operation == '-' ? a - b : a * b;
}

// A number with 1 to `digits` digits, each length as likely; `exactly`: with all of them.
int64_t Operand(int digits, bool exactly, int64_t least, RandomStream* random) {
  const int length = exactly ? digits : static_cast<int>(random->Between(1, digits));
  const int64_t low = length == 1 ? least : PowerOfTen(length - 1);
  return random->Between(low, PowerOfTen(length) - 1);
}

// What happens, what is asked, and how it ends; "$s" is one object or several, as the result $r needs.
struct Story {
  char operation;
  char then;  // 0: one operation
  const char* events;
  const char* asked;
  const char* end;
};
constexpr std::array<Story, 5> kStories = {{
    {'+', 0, "$N has $a $o and gets $b more.", "How many $o does $N have?", "Now $N has $r $s."},
    {'+', 0, "There are $a red $o and $b blue $o.", "How many $o are there?", "That makes $r $s."},
    {'-', 0, "$N has $a $o and gives away $b.", "How many $o are left?", "That leaves $r $s."},
    {'-', 0, "There are $a $o. $N takes $b.", "How many $o are left?", "That leaves $r $s."},
    {'*', 0, "$N has $b boxes with $a $o each.", "How many $o does $N have?", "So $N has $r $s."},
}};
// Their questions hold no letter that those above lack: a tokenizer of characters made from one-operation
// problems encodes them.
constexpr std::array<Story, 6> kTwoStepStories = {{
    {'+', '-', "$N has $a $o, gets $b more and gives away $c.", "How many $o does $N have?",
     "Now $N has $r $s."},
    {'-', '+', "$N has $a $o, gives away $b and gets $c more.", "How many $o does $N have?",
     "Now $N has $r $s."},
    {'+', '+', "There are $a red $o, $b blue $o and $c more.", "How many $o are there?", "That makes $r $s."},
    {'-', '-', "There are $a $o. $N takes $b, then $c more.", "How many $o are left?", "That leaves $r $s."},
    {'*', '+', "$N has $b boxes with $a $o each and gets $c more.", "How many $o does $N have?",
     "So $N has $r $s."},
    {'*', '-', "$N has $b boxes with $a $o each and gives away $c.", "How many $o are left?",
     "That leaves $r $s."},
}};
constexpr std::array<const char*, 4> kNames = {"Ann", "Ben", "Mia", "Tom"};
constexpr std::array<const char*, 4> kObjects = {"apples", "books", "coins", "pens"};

template <class Array>
const auto& OneOf(const Array& choices, RandomStream* random) {
  return choices[random->Between(0, choices.size() - 1)];
}

void SetOperands(int digits, bool longest, int64_t least, RandomStream* random, Problem* problem) {
  const int right_digits = problem->operation == '*' ? 1 : digits;
  problem->left = Operand(digits, longest, least, random);
  problem->right = Operand(right_digits, false, least, random);
  if (problem->operation == '-' && problem->left < problem->right) std::swap(problem->left, problem->right);
}

// Question and ending of a story whose numbers are set.
void TellStory(const Story& story, RandomStream* random, Problem* problem) {
  const std::string name = OneOf(kNames, random);
  const std::string objects = OneOf(kObjects, random);
  const int64_t answer = AnswerOf(*problem);
  const std::string one = objects.substr(0, objects.size() - 1);
  const auto fill = [&](const char* text) {
    return absl::StrReplaceAll(text, {{"$N", name},
                                      {"$o", objects},
                                      {"$s", answer == 1 ? one : objects},
                                      {"$a", absl::StrCat(problem->left)},
                                      {"$b", absl::StrCat(problem->right)},
                                      {"$c", absl::StrCat(problem->third)},
                                      {"$r", absl::StrCat(answer)}});
  };
  problem->question = absl::StrCat(fill(story.events), " ", fill(story.asked));
  problem->told = absl::StrCat(fill(story.events), " ", fill(story.end));
}

// Redrawn until the first result is no longer than the operands may be and no result is below 0.
Problem MakeTwoStep(int digits, bool longest, RandomStream* random) {
  Problem problem;
  problem.kind = ProblemKind::kTwoStep;
  while (true) {
    const Story& story = OneOf(kTwoStepStories, random);
    problem.operation = story.operation;
    problem.then = story.then;
    SetOperands(digits, longest, 2, random, &problem);
    problem.third = Operand(digits, false, 2, random);
    const int64_t between = AnswerOf(PartsOf(problem)[0]);
    if (between < 2 || between >= PowerOfTen(digits) || AnswerOf(problem) < 0) continue;
    TellStory(story, random, &problem);
    return problem;
  }
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

std::string ColumnProduct(int64_t a, int64_t b) {
  std::string steps;
  std::string found;
  int64_t carry = 0;
  for (bool first = true; first || a > 0; first = false) {
    const int64_t product = a % 10 * b;
    const int64_t sum = product + carry;
    const bool last = a < 10;
    absl::StrAppend(&steps, first ? "" : "\n", a % 10, "*", b, "=", product);
    if (carry > 0) absl::StrAppend(&steps, ", ", product, "+", carry, "=", sum);
    a /= 10;
    carry = sum / 10;
    if (!last && carry > 0) absl::StrAppend(&steps, ", carry ", carry);
    found = absl::StrCat(last ? sum : sum % 10, found);
    absl::StrAppend(&steps, ": ", found);
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
    case ProblemKind::kTwoStep:
      return "two_step";
  }
  return "";
}

ProblemKind PlainKind(RandomStream* random) {
  return static_cast<ProblemKind>(random->Between(0, static_cast<int64_t>(ProblemKind::kMultiply)));
}

Problem MakeProblem(ProblemKind kind, int digits, bool longest, RandomStream* random) {
  TANREN_CHECK(digits >= 1 && digits <= 8);
  if (kind == ProblemKind::kTwoStep) return MakeTwoStep(digits, longest, random);
  Problem problem;
  problem.kind = kind;
  if (kind == ProblemKind::kWord) {
    const Story& story = OneOf(kStories, random);
    problem.operation = story.operation;
    SetOperands(digits, longest, 2, random, &problem);
    TellStory(story, random, &problem);
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
  if (problem.operation == '*') {
    if (right < left) std::swap(left, right);
    const std::string product = absl::StrCat(left, "*", right);
    return problem.then == 0 ? product : absl::StrCat(product, std::string(1, problem.then), problem.third);
  }
  // What is added in ascending order, then what is taken away.
  std::vector<int64_t> added = {left};
  std::vector<int64_t> taken;
  (problem.operation == '+' ? added : taken).push_back(right);
  if (problem.then != 0) (problem.then == '+' ? added : taken).push_back(problem.third);
  std::sort(added.begin(), added.end());
  std::sort(taken.begin(), taken.end());
  std::string key = absl::StrJoin(added, "+");
  for (const int64_t number : taken) absl::StrAppend(&key, "-", number);
  return key;
}

int64_t AnswerOf(const Problem& problem) {
  const int64_t first = Calculate(problem.left, problem.operation, problem.right);
  return problem.then == 0 ? first : Calculate(first, problem.then, problem.third);
}

std::vector<Problem> PartsOf(const Problem& problem) {
  Problem first;
  first.operation = problem.operation;
  first.left = problem.left;
  first.right = problem.right;
  if (problem.then == 0) return {first};
  Problem second;
  second.operation = problem.then;
  second.left = AnswerOf(first);
  second.right = problem.third;
  return {first, second};
}

std::string ExpressionOf(const Problem& problem) {
  std::string expression = absl::StrCat(problem.left, std::string(1, problem.operation), problem.right);
  if (problem.then != 0) absl::StrAppend(&expression, std::string(1, problem.then), problem.third);
  return expression;
}

std::string StepsOf(const Problem& problem) {
  if (problem.then != 0) {
    const std::vector<Problem> parts = PartsOf(problem);
    return absl::StrCat(StepsOf(parts[0]), "\n", ExpressionOf(parts[1]), "\n", StepsOf(parts[1]));
  }
  switch (problem.operation) {
    case '+':
      return ColumnSum(problem.left, problem.right);
    case '-':
      return ColumnDifference(problem.left, problem.right);
    default:
      return ColumnProduct(problem.left, problem.right);
  }
}

std::string WorkOf(const Problem& problem) {
  if (problem.kind != ProblemKind::kWord && problem.kind != ProblemKind::kTwoStep) return StepsOf(problem);
  return absl::StrCat(ExpressionOf(PartsOf(problem)[0]), "\n", StepsOf(problem));
}

std::string TextOf(const Problem& problem) {
  return absl::StrCat("Question: ", problem.question, "\nSteps:\n", WorkOf(problem), "\n#### ",
                      AnswerOf(problem));
}

}  // namespace tanren
