// One right answer in many wordings, where the answer is found by looking it up, not by calculating: who has
// how many. For the question whether a model learns what an answer means or how it is worded.
#ifndef TANREN_CORE_CORPUS_SYNTH_RECALL_H_
#define TANREN_CORE_CORPUS_SYNTH_RECALL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/corpus/counter_random.h"

namespace tanren {

inline constexpr int kRecallPeople = 3;     // at most
inline constexpr int kRecallPatterns = 32;  // no sentence of one is part of a sentence of another

// "Ann has 47 coins, Ben has 83 coins and Mia has 5 coins. Say how many coins Ben has." With one person the
// answer is copied, with more it has to be chosen, too.
struct RecallProblem {
  std::vector<std::string> names;  // of 1 to kRecallPeople people; distinct, and so are the numbers
  std::vector<int64_t> numbers;
  std::string objects;
  int asked = 0;
};

// Numbers of up to `digits` (1 to 7) digits, none below 2.
RecallProblem MakeRecallProblem(int people, int digits, RandomStream* random);

std::string RecallPrompt(const RecallProblem& problem);

// The facts of the prompt, then each again in a random order: "Ann has 47 coins, ... Mia has 5 coins. Ben has
// 83 coins." Teaches a base model to look up, in no wording that answers have.
std::string RecallText(const RecallProblem& problem, RandomStream* random);

// What makes a sentence wrong that is right otherwise.
enum class RecallError : uint8_t {
  kDigit,   // one digit of the number is another
  kNumber,  // the number of another person: of problems of several
  kName,    // the name of another person, in the prompt if there is one, with the number of the one asked for
};
inline constexpr int kRecallErrors = 3;
const char* NameOf(RecallError error);  // "digit", "number", "name"

// The sentence of a pattern, 0 to kRecallPatterns - 1.
std::string RecallSentence(const RecallProblem& problem, int pattern);
std::string WrongRecallSentence(const RecallProblem& problem, int pattern, RecallError error,
                                RandomStream* random);

// A regular expression (PCRE2) that matches the right sentences of all patterns and nothing else.
std::string RecallExpression(const RecallProblem& problem);

// Which patterns training may use: all but `held_out` (0 to kRecallPatterns - 1), which the seed chooses.
struct RecallPatterns {
  RecallPatterns(uint64_t seed, int held_out);
  std::vector<int> seen, unseen;
};

struct RecallExample {
  RecallProblem problem;
  std::vector<std::string> right;   // of seen patterns, in a random order
  std::vector<std::string> wrong;   // rankings only: as many, of seen patterns
  std::vector<RecallError> errors;  // of each wrong one
};

struct RecallCase {
  RecallProblem problem;
  std::vector<std::string> seen, unseen;  // right sentences of all patterns
  std::vector<std::string> wrong;         // of the patterns of seen, then of unseen
  std::vector<RecallError> errors;        // of each wrong one
};

struct RecallSets {
  std::vector<std::string> texts;
  std::vector<RecallExample> examples;
  std::vector<RecallExample> rankings;
  std::vector<RecallProblem> prompts;
  std::vector<RecallCase> held_out;
};

struct RecallOptions {
  uint64_t seed = 1;
  int people = 1;  // 1 to kRecallPeople, the most of a problem; all numbers up to it are as frequent
  int digits = 2;
  int64_t records = 0;        // of examples, rankings and prompts; four times as many texts
  int64_t held_out = 0;       // cases
  int held_out_patterns = 0;  // 0 to kRecallPatterns - 1
};

// Deterministic in the options on every platform. No prompt is in two of {texts, examples, rankings},
// {prompts} and {held_out}: its hash decides its side. Held-out prompts are distinct: InvalidArgument where
// so many are hard to find.
absl::StatusOr<RecallSets> MakeRecallSets(const RecallOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_RECALL_H_
