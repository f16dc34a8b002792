// Arithmetic problems with worked steps, in a language that a small model learns on a laptop.
#ifndef TANREN_CORE_CORPUS_SYNTH_PROBLEMS_H_
#define TANREN_CORE_CORPUS_SYNTH_PROBLEMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/corpus/counter_random.h"

namespace tanren {

enum class ProblemKind { kAdd, kSubtract, kMultiply, kWord, kTwoStep };
inline constexpr int kOneStepKinds = 4;  // those before kTwoStep
inline constexpr int kProblemKinds = 5;
const char* NameOf(ProblemKind kind);  // "add", "subtract", "multiply", "word", "two_step"

ProblemKind PlainKind(RandomStream* random);  // a sum, a difference or a product, each as likely

struct Problem {
  ProblemKind kind = ProblemKind::kAdd;
  char operation = '+';  // '+', '-' or '*'
  int64_t left = 0;
  int64_t right = 0;
  char then = 0;  // kTwoStep: '+' or '-', between the first result and `third`
  int64_t third = 0;
  std::string question;  // "47 + 38 = ?", or a sentence or two
  std::string told;      // of a story: what happened and how it ended, "... Now Ann has 19 apples."
};

// Operands have up to `digits` digits (of a product the right one has one), and so has the first of two
// results; `longest`: one operand has just that many. digits is 1 to 8.
Problem MakeProblem(ProblemKind kind, int digits, bool longest, RandomStream* random);

// Equal for problems that ask for the same calculation: "38+47" for 47 + 38 and for the story of 38 apples
// and 47; "7+12-5" for 12+7-5, 7+12-5 and 12-5+7.
std::string CanonicalKey(const Problem& problem);

int64_t AnswerOf(const Problem& problem);

// The calculations that the steps go through, as one-operation problems without a question: the problem
// itself, or the two of kTwoStep.
std::vector<Problem> PartsOf(const Problem& problem);

// "47+38", "12+7-5".
std::string ExpressionOf(const Problem& problem);

// One line per step, without a line feed at the end, column by column from the right, with the digits found
// so far behind the colon:
//     7+8=15, carry 1: 5          12-7=5, borrow 1: 5         4*6=24, carry 2: 4
//     4+3+1=8: 85                 8-4-1=3: 35                 3*6=18, 18+2=20: 204
// Of two operations the steps of the first come first; a line with the second ("19-5") stands between.
std::string StepsOf(const Problem& problem);

// What a model writes before "#### answer": the steps; of a story, a line with the (first) operation before.
std::string WorkOf(const Problem& problem);

// "Question: ...\nSteps:\n...\n#### answer"
std::string TextOf(const Problem& problem);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_PROBLEMS_H_
