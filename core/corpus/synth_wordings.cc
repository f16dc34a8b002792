#include "core/corpus/synth_wordings.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_replace.h"
#include "core/base/status.h"

namespace tanren {
namespace {

constexpr uint64_t kPatternStream = 100;

constexpr const char* kPatterns[3][kSentencePatterns] = {
    {"$a plus $b makes $r.", "The sum of $a and $b is $r.", "$r is what $a and $b add up to.",
     "If you add $b to $a, you get $r.", "Adding $a and $b gives $r.", "Together $a and $b are $r.",
     "$a and $b more come to $r.", "You reach $r when you count on from $a by $b."},
    {"$a minus $b leaves $r.", "The difference of $a and $b is $r.", "$r is what remains of $a without $b.",
     "If you take $b from $a, you get $r.", "Taking $b away from $a gives $r.", "$a is $r more than $b.",
     "$a less $b comes to $r.", "You reach $r when you count back from $a by $b."},
    {"$a times $b makes $r.", "The product of $a and $b is $r.", "$r is what $a and $b multiply to.",
     "If you take $b times $a, you get $r.", "Multiplying $a by $b gives $r.", "$b groups of $a are $r.",
     "$a taken $b times comes to $r.", "You reach $r in $b steps of $a."},
};

int IndexOf(char operation) { return operation == '+' ? 0 : operation == '-' ? 1 : 2; }

template <class T>
void ShuffleVector(std::vector<T>* values, RandomStream* random) {
  for (size_t i = values->size(); i > 1; --i) {
    std::swap((*values)[i - 1], (*values)[static_cast<size_t>(random->Between(0, i - 1))]);
  }
}

std::vector<std::string> Sentences(const Problem& problem, const std::vector<int>& patterns,
                                   const std::string& result) {
  std::vector<std::string> sentences;
  for (const int pattern : patterns) {
    sentences.push_back(absl::StrReplaceAll(
        kPatterns[IndexOf(problem.operation)][pattern],
        {{"$a", absl::StrCat(problem.left)}, {"$b", absl::StrCat(problem.right)}, {"$r", result}}));
  }
  return sentences;
}

}  // namespace

std::string ChangeDigit(int64_t number, RandomStream* random) {
  std::string digits = absl::StrCat(number);
  const auto place = static_cast<size_t>(random->Between(0, static_cast<int64_t>(digits.size()) - 1));
  const int least = place == 0 && digits.size() > 1 ? 1 : 0;
  const int old = digits[place] - '0';
  auto digit = static_cast<int>(random->Between(least, 8));
  if (digit >= old) ++digit;  // one of the others, each as likely
  digits[place] = static_cast<char>('0' + digit);
  return digits;
}

Wordings::Wordings(uint64_t seed, int held_out) {
  TANREN_CHECK(held_out >= 0 && held_out < kSentencePatterns);
  RandomStream random(seed, kPatternStream);
  for (int operation = 0; operation < 3; ++operation) {
    std::vector<int> patterns(kSentencePatterns);
    std::iota(patterns.begin(), patterns.end(), 0);
    ShuffleVector(&patterns, &random);
    unseen_[operation].assign(patterns.begin(), patterns.begin() + held_out);
    seen_[operation].assign(patterns.begin() + held_out, patterns.end());
    std::sort(unseen_[operation].begin(), unseen_[operation].end());
    std::sort(seen_[operation].begin(), seen_[operation].end());
  }
}

std::vector<std::string> Wordings::Seen(const Problem& problem) const {
  TANREN_CHECK(problem.then == 0);
  return Sentences(problem, seen_[IndexOf(problem.operation)], absl::StrCat(AnswerOf(problem)));
}

std::vector<std::string> Wordings::Unseen(const Problem& problem) const {
  TANREN_CHECK(problem.then == 0);
  return Sentences(problem, unseen_[IndexOf(problem.operation)], absl::StrCat(AnswerOf(problem)));
}

std::vector<std::string> Wordings::Wrong(const Problem& problem, RandomStream* random) const {
  TANREN_CHECK(problem.then == 0);
  std::vector<std::string> sentences;
  for (const std::vector<int>* patterns : {seen_, unseen_}) {
    for (const int pattern : patterns[IndexOf(problem.operation)]) {
      const std::string result = ChangeDigit(AnswerOf(problem), random);
      sentences.push_back(Sentences(problem, {pattern}, result)[0]);
    }
  }
  return sentences;
}

std::string SentencePrompt(const Problem& problem) {
  return absl::StrCat("Say in a sentence: ", problem.left, " ", std::string(1, problem.operation), " ",
                      problem.right, " = ?");
}

void Shuffle(std::vector<std::string>* sentences, RandomStream* random) { ShuffleVector(sentences, random); }

}  // namespace tanren
