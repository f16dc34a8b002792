// A ranking as pairs, for preference losses that learn from all of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stages/preference/preference_stage.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

Example Ranking(std::vector<int32_t> ranks) {
  Example example;
  example.format = ExampleFormat::kRanking;
  example.prompt = {{MessageRole::kUser, "q", true}};
  for (size_t i = 0; i < ranks.size(); ++i) example.responses.emplace_back(1, static_cast<char>('a' + i));
  example.ranks = std::move(ranks);
  example.source = "file:7";
  return example;
}

std::vector<std::string> Pairs(std::vector<int32_t> ranks) {
  std::vector<std::string> pairs;
  for (const Example& pair : RankedPairs({Ranking(std::move(ranks))})) {
    EXPECT_EQ(pair.format, ExampleFormat::kPreference);
    EXPECT_EQ(pair.responses.size(), 2u);
    EXPECT_THAT(pair.ranks, ElementsAre(1, 2));
    EXPECT_EQ(pair.source, "file:7");
    EXPECT_EQ(pair.prompt.at(0).content, "q");
    pairs.push_back(pair.responses[0] + ">" + pair.responses[1]);
  }
  return pairs;
}

TEST(RankedPairs, EveryPairOfDifferentRanksBetterFirst) {
  EXPECT_THAT(Pairs({2, 1, 3}), UnorderedElementsAre("b>a", "a>c", "b>c"));
  EXPECT_THAT(Pairs({1, 2, 2}), UnorderedElementsAre("a>b", "a>c"));
  EXPECT_THAT(Pairs({2, 1}), ElementsAre("b>a"));
}

TEST(RankedPairs, OtherExamplesStayAsTheyAre) {
  Example preference = Ranking({1, 2});
  preference.format = ExampleFormat::kPreference;
  const std::vector<Example> pairs = RankedPairs({preference, Ranking({2, 1, 3})});
  ASSERT_EQ(pairs.size(), 4u);
  EXPECT_THAT(pairs[0].responses, ElementsAre("a", "b"));
  EXPECT_THAT(RankedPairs({}), IsEmpty());
}

}  // namespace
}  // namespace tanren
