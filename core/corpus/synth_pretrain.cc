#include "core/corpus/synth_pretrain.h"

#include <vector>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int kFacts = 4;
constexpr int kSentences = 3;
constexpr int kLongerOneIn = 3;

std::string FactOf(const Problem& problem) {
  return absl::StrCat(ExpressionOf(problem), "=", AnswerOf(problem));
}

ProblemKind AnyKind(RandomStream* random) {
  return static_cast<ProblemKind>(random->Between(0, kProblemKinds - 1));
}

ProblemKind StoryKind(RandomStream* random) {
  return random->Between(0, 1) == 0 ? ProblemKind::kWord : ProblemKind::kTwoStep;
}

// "12+7=19, 19-5=14"
std::string EquationsOf(const Problem& problem) {
  std::string equations;
  for (const Problem& part : PartsOf(problem)) {
    absl::StrAppend(&equations, equations.empty() ? "" : ", ", FactOf(part));
  }
  return equations;
}

}  // namespace

std::string AlphabetDocument() {
  const auto range = [](char first, char last) {
    std::string characters;
    for (char c = first; c <= last; ++c) absl::StrAppend(&characters, " ", std::string(1, c));
    return characters;
  };
  return absl::StrCat("The letters are", range('a', 'z'), "\nand", range('A', 'Z'), ".\nThe digits are",
                      range('0', '9'), ".\nThe signs are", range('!', '/'), range(':', '@'), range('[', '`'),
                      range('{', '~'), ".");
}

std::string PretrainDocument(absl::FunctionRef<Problem(ProblemKind, ProblemSize)> draw,
                             const Wordings& wordings, RandomStream* random) {
  constexpr ProblemSize kUsual = ProblemSize::kUsual;
  enum Layout { kFactLines, kQuestion, kTold, kAsked, kInSentences, kWorkOut };
  std::string text;
  switch (random->Between(0, 2 * kWorkOut - 1)) {
    case kFactLines:
      for (int i = 0; i < kFacts; ++i) {
        absl::StrAppend(&text, i > 0 ? "\n" : "", FactOf(draw(PlainKind(random), ProblemSize::kOneDigit)));
      }
      return text;
    case kQuestion:
      return TextOf(draw(AnyKind(random), kUsual));
    case kTold:
      return draw(StoryKind(random), kUsual).told;
    case kAsked: {
      const Problem problem = draw(StoryKind(random), kUsual);
      return absl::StrCat(problem.question, " ", EquationsOf(problem), ".");
    }
    case kInSentences:
      for (int i = 0; i < kSentences; ++i) {
        const std::vector<std::string> sentences = wordings.Seen(draw(PlainKind(random), kUsual));
        const auto chosen =
            static_cast<size_t>(random->Between(0, static_cast<int64_t>(sentences.size()) - 1));
        absl::StrAppend(&text, i > 0 ? " " : "", sentences[chosen]);
      }
      return text;
    default: {
      const bool longer = random->Between(0, kLongerOneIn - 1) == 0;
      const Problem problem =
          longer ? draw(PlainKind(random), ProblemSize::kLonger) : draw(AnyKind(random), kUsual);
      const std::string work = problem.then == 0 ? StepsOf(problem) : WorkOf(problem);
      return absl::StrCat("Work out ", ExpressionOf(problem), ".\n", work, "\nSo ", FactOf(problem), ".");
    }
  }
}

}  // namespace tanren
