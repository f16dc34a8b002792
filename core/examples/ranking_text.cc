#include "core/examples/ranking_text.h"

#include <algorithm>

#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

char LetterOf(size_t answer) { return static_cast<char>('A' + answer); }

// "A, B and C" for a few answers, "A to Z" for many.
std::string LettersOf(size_t answers) {
  if (answers == 1) return "A";
  if (answers > 3) return absl::StrFormat("A to %c", LetterOf(answers - 1));
  return answers == 2 ? "A and B" : "A, B and C";
}

absl::Status NoPermutation(std::string_view text, const std::string& why) {
  return InvalidInput("no permutation: ranking %s %s", Quoted(text), why);
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ParseRankingText(std::string_view text, size_t answers) {
  TANREN_CHECK(answers >= 1 && answers <= kMostRankedByLetter);
  std::vector<int32_t> ranks(answers, 0);
  int32_t rank = 1;
  bool want_letter = true;
  for (const char c : text) {
    if (c == ' ') continue;
    if (want_letter) {
      if (c < 'A' || c > LetterOf(answers - 1)) {
        return NoPermutation(
            text, absl::StrCat("has ", Quoted(std::string_view(&c, 1)),
                               " in the place of an answer; the answers are ", LettersOf(answers)));
      }
      int32_t& its_rank = ranks[static_cast<size_t>(c - 'A')];
      if (its_rank != 0) return NoPermutation(text, absl::StrFormat("names %c twice", c));
      its_rank = rank;
    } else if (c == '>') {
      ++rank;
    } else if (c != '=') {
      return NoPermutation(text, absl::StrCat("has ", Quoted(std::string_view(&c, 1)),
                                              " between two answers, in the place of > or ="));
    }
    want_letter = !want_letter;
  }
  if (const auto missing = std::find(ranks.begin(), ranks.end(), 0); missing != ranks.end()) {
    return NoPermutation(
        text, absl::StrFormat("does not name %c; it must rank %s",
                              LetterOf(static_cast<size_t>(missing - ranks.begin())), LettersOf(answers)));
  }
  if (want_letter) return NoPermutation(text, "does not end with an answer");
  return ranks;
}

std::string RankingText(std::span<const int32_t> ranks) {
  std::vector<size_t> order(ranks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranks[a] < ranks[b]; });
  std::string text;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0) text += ranks[order[i]] == ranks[order[i - 1]] ? " = " : " > ";
    text += LetterOf(order[i]);
  }
  return text;
}

}  // namespace tanren
