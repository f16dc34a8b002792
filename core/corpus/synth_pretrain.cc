#include "core/corpus/synth_pretrain.h"

#include <vector>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int kFacts = 4;
constexpr int kSentences = 3;

std::string FactOf(const Problem& problem) {
  return absl::StrCat(ExpressionOf(problem), "=", AnswerOf(problem));
}

ProblemKind PlainKind(RandomStream* random) {
  return static_cast<ProblemKind>(random->Between(0, static_cast<int>(ProblemKind::kMultiply)));
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

std::string PretrainDocument(absl::FunctionRef<Problem(ProblemKind)> draw, const Wordings& wordings,
                             RandomStream* random) {
  enum Layout { kFactLines, kQuestion, kWorkOut, kTold, kAsked, kInSentences, kLayouts };
  std::string text;
  switch (random->Between(0, kLayouts - 1)) {
    case kFactLines:
      for (int i = 0; i < kFacts; ++i) {
        absl::StrAppend(&text, i > 0 ? "\n" : "", FactOf(draw(PlainKind(random))));
      }
      return text;
    case kQuestion:
      return TextOf(draw(AnyKind(random)));
    case kWorkOut: {
      const Problem problem = draw(AnyKind(random));
      const std::string work = problem.then == 0 ? StepsOf(problem) : WorkOf(problem);
      return absl::StrCat("Work out ", ExpressionOf(problem), ".\n", work, "\nSo ", FactOf(problem), ".");
    }
    case kTold:
      return draw(StoryKind(random)).told;
    case kAsked: {
      const Problem problem = draw(StoryKind(random));
      return absl::StrCat(problem.question, " ", EquationsOf(problem), ".");
    }
    default:
      for (int i = 0; i < kSentences; ++i) {
        const std::vector<std::string> sentences = wordings.Seen(draw(PlainKind(random)));
        const auto chosen =
            static_cast<size_t>(random->Between(0, static_cast<int64_t>(sentences.size()) - 1));
        absl::StrAppend(&text, i > 0 ? " " : "", sentences[chosen]);
      }
      return text;
  }
}

}  // namespace tanren
