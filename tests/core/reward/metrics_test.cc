// Figures over several answers, against enumeration by hand; penalties for the form.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "core/reward/sample_metrics.h"
#include "core/reward/shaping.h"

namespace tanren {
namespace {

using Texts = std::vector<std::string>;
using Weights = std::vector<double>;

TEST(PassAtK, EqualsTheShareOfSubsetsWithARightOne) {
  for (int n = 1; n <= 10; ++n) {
    for (int c = 0; c <= n; ++c) {
      for (int k = 1; k <= n; ++k) {
        int subsets = 0;
        int passed = 0;
        for (unsigned chosen = 0; chosen < 1u << n; ++chosen) {
          if (std::popcount(chosen) != k) continue;
          ++subsets;
          if (chosen & ((1u << c) - 1)) ++passed;  // the first c are right
        }
        ASSERT_NEAR(PassAtK(n, c, k), static_cast<double>(passed) / subsets, 1e-12)
            << n << " " << c << " " << k;
      }
    }
  }
  EXPECT_NEAR(PassAtK(100000, 50000, 1), 0.5, 1e-9);
}

TEST(MajorityVote, CountsEqualNumbersTogether) {
  EXPECT_EQ(MajorityVote(Texts{"5", "12", "12.0", "5 apples", "$12"}, {}), 1);
  EXPECT_EQ(MajorityVote(Texts{"b", "a", "a", "b"}, {}), 0);  // a tie: the first
  EXPECT_EQ(MajorityVote(Texts{"", "", "3"}, {}), 2);
  EXPECT_EQ(MajorityVote(Texts{"", ""}, {}), 0);
  EXPECT_EQ(MajorityVote(Texts{}, {}), -1);
  EXPECT_EQ(MajorityVote(Texts{"1", "1", "2"}, Weights{.1, .2, .5}), 2);
  EXPECT_EQ(MajorityVote(Texts{"1", "2"}, Weights{std::nan(""), .5}), 1);
}

TEST(BestOf, IsTheFirstLargestAndNeverNan) {
  const double nan = std::nan("");
  EXPECT_EQ(BestOf(Weights{nan, 1, 3, 3}), 2);
  EXPECT_EQ(BestOf(Weights{nan}), -1);
  EXPECT_EQ(BestOf(Weights{}), -1);
  EXPECT_EQ(BestOf(Weights{-std::numeric_limits<double>::infinity()}), 0);
}

TEST(Diversity, CountsTextsAndNgrams) {
  EXPECT_DOUBLE_EQ(Consistency(Texts{"1", "1.0", "2", ""}), 0.5);
  EXPECT_EQ(Consistency(Texts{}), 0);
  EXPECT_EQ(DistinctTexts(Texts{"a b", " a \n b ", "ab", "", " "}), 3);
  EXPECT_EQ(DistinctWordings(Texts{"Ann has 4.", "Ann  has 12.", "Ann has four.", "Ann has 1 2."}), 3);
  EXPECT_EQ(DistinctWordings(Texts{"4", "12", "0", "3.5"}), 2);
  EXPECT_EQ(DistinctWordings({}), 0);
  EXPECT_DOUBLE_EQ(DistinctNgrams(Texts{"a b a", "b a"}, 1), 2.0 / 5);
  EXPECT_DOUBLE_EQ(DistinctNgrams(Texts{"a b a", "b a"}, 2), 2.0 / 3);
  EXPECT_EQ(DistinctNgrams(Texts{"a"}, 2), 0);
  EXPECT_EQ(DistinctNgrams(Texts{"a"}, 0), 0);
}

TEST(Shaping, PenaltyFallsLinearlyInTheBuffer) {
  EXPECT_EQ(OverlongPenalty(80, 100, 20), 0);
  EXPECT_DOUBLE_EQ(OverlongPenalty(85, 100, 20), -0.25);
  EXPECT_EQ(OverlongPenalty(100, 100, 20), -1);
  EXPECT_EQ(OverlongPenalty(1000, 100, 20), -1);
  EXPECT_EQ(OverlongPenalty(101, 100, 0), -1);
  EXPECT_EQ(OverlongPenalty(99, 100, 0), 0);
}

TEST(Shaping, RepetitionIsTheShareSeenBefore) {
  EXPECT_EQ(RepetitionShare(std::vector<int32_t>{1, 2, 3, 4}, 2), 0);
  EXPECT_DOUBLE_EQ(RepetitionShare(std::vector<int32_t>{1, 2, 1, 2, 1}, 2), 0.5);
  EXPECT_DOUBLE_EQ(RepetitionShare(std::vector<int32_t>{7, 7, 7, 7}, 1), 0.75);
  EXPECT_EQ(RepetitionShare(std::vector<int32_t>{1, 1}, 2), 0);
  EXPECT_EQ(RepetitionShare({}, 1), 0);
}

}  // namespace
}  // namespace tanren
