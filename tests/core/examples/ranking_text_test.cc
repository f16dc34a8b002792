// "B > A = C" and back, and everything that is no ranking.
#include "core/examples/ranking_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "core/base/status.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<int32_t> Ranks(std::string_view text, size_t answers) {
  const absl::StatusOr<std::vector<int32_t>> ranks = ParseRankingText(text, answers);
  EXPECT_TRUE(ranks.ok()) << text << ": " << ranks.status();
  return ranks.ok() ? *ranks : std::vector<int32_t>{};
}

std::string Problem(std::string_view text, size_t answers) {
  const absl::StatusOr<std::vector<int32_t>> ranks = ParseRankingText(text, answers);
  EXPECT_TRUE(absl::IsInvalidArgument(ranks.status())) << text;
  const std::string message(View(ranks.status().message()));
  EXPECT_THAT(message, StartsWith("no permutation: ranking "));
  return message;
}

TEST(RankingText, RanksAreDenseAndTiesAreEqual) {
  EXPECT_THAT(Ranks("B > A > C", 3), ElementsAre(2, 1, 3));
  EXPECT_THAT(Ranks("B>A=C", 3), ElementsAre(2, 1, 2));
  EXPECT_THAT(Ranks("  A = C > B  ", 3), ElementsAre(1, 2, 1));
  EXPECT_THAT(Ranks("C=B=A", 3), ElementsAre(1, 1, 1));
  EXPECT_THAT(Ranks("A", 1), ElementsAre(1));
}

TEST(RankingText, SaysWhatIsWrong) {
  EXPECT_THAT(Problem("", 3), HasSubstr("does not name A"));
  EXPECT_THAT(Problem("B > A", 3), HasSubstr("does not name C; it must rank A, B and C"));
  EXPECT_THAT(Problem("B > A > B", 3), HasSubstr("names B twice"));
  EXPECT_THAT(Problem("B > A > D", 3),
              HasSubstr("\"D\" in the place of an answer; the answers are A, B and C"));
  EXPECT_THAT(Problem("E > A", 4), HasSubstr("the answers are A to D"));
  EXPECT_THAT(Problem("B > A > C >", 3), HasSubstr("does not end with an answer"));
  EXPECT_THAT(Problem("> A", 2), HasSubstr("\">\" in the place of an answer; the answers are A and B"));
  EXPECT_THAT(Problem("A < B", 2), HasSubstr("\"<\" between two answers"));
  EXPECT_THAT(Problem("AB", 2), HasSubstr("\"B\" between two answers"));
  EXPECT_THAT(Problem("A >> B", 2), HasSubstr("\">\" in the place of an answer"));
  EXPECT_THAT(Problem("a > b", 2), HasSubstr("\"a\" in the place"));
  EXPECT_THAT(Problem(std::string_view("A\0> B", 5), 2), HasSubstr("\\000"));
  EXPECT_THAT(Problem("A \x1b[2J", 2), ::testing::Not(HasSubstr("\x1b")));
}

TEST(RankingText, TextOfRanksReadsBack) {
  EXPECT_EQ(RankingText(std::vector<int32_t>{2, 1, 2}), "B > A = C");
  EXPECT_EQ(RankingText(std::vector<int32_t>{1}), "A");
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const size_t answers = 1 + random() % kMostRankedByLetter;
    std::vector<int32_t> ranks(answers);
    for (int32_t& rank : ranks) rank = 1 + static_cast<int32_t>(random() % answers);
    const std::vector<int32_t> read = Ranks(RankingText(ranks), answers);
    ASSERT_EQ(read.size(), answers);
    int32_t most = 0;
    for (size_t i = 0; i < answers; ++i) {
      most = std::max(most, read[i]);
      for (size_t j = 0; j < answers; ++j) ASSERT_EQ(ranks[i] < ranks[j], read[i] < read[j]);
    }
    for (int32_t rank = 1; rank <= most; ++rank)
      EXPECT_NE(std::find(read.begin(), read.end(), rank), read.end()) << "a gap at " << rank;
  }
}

}  // namespace
}  // namespace tanren
