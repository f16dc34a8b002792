// Agreement of judges, against figures worked out elsewhere.
#include "core/reward/agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tanren {
namespace {

PairAgreement Compare(const std::vector<int32_t>& first, const std::vector<int32_t>& second) {
  return ComparePairs(first, second);
}

// The example in the documentation of scipy.stats.kendalltau: tau-b of [12, 2, 1, 12, 2] and [1, 4, 7, 1, 0].
TEST(PairAgreement, TauBIsScipys) {
  EXPECT_NEAR(Compare({12, 2, 1, 12, 2}, {1, 4, 7, 1, 0}).tau_b(), -0.47140452079103173, 1e-15);
}

TEST(PairAgreement, SameAndReverse) {
  EXPECT_EQ(Compare({2, 1, 3}, {2, 1, 3}).tau_b(), 1);
  EXPECT_EQ(Compare({2, 1, 3}, {2, 3, 1}).tau_b(), -1);
  EXPECT_EQ(Compare({1, 2, 2}, {1, 2, 2}).tau_b(), 1);
  EXPECT_EQ(Compare({1, 2, 2}, {1, 2, 2}).agreement(), 1);
  EXPECT_TRUE(std::isnan(Compare({1, 1}, {1, 2}).tau_b()));
  EXPECT_TRUE(std::isnan(Compare({1}, {1}).agreement()));
}

TEST(PairAgreement, CountsEveryPairOnce) {
  // Pairs ab ac ad bc bd cd; the first: < < < = < <, the second: > < = < < =.
  PairAgreement pairs = Compare({1, 2, 2, 3}, {2, 1, 3, 2});
  EXPECT_EQ(pairs.pairs(), 6);
  EXPECT_EQ(pairs.same, 2);         // ac, bd
  EXPECT_EQ(pairs.opposite, 2);     // ab, cd
  EXPECT_EQ(pairs.tied_first, 1);   // bc
  EXPECT_EQ(pairs.tied_second, 1);  // ad
  EXPECT_EQ(pairs.tied_both, 0);
  pairs.Add(Compare({1, 1, 2}, {1, 1, 2}));
  EXPECT_EQ(pairs.pairs(), 9);
  EXPECT_EQ(pairs.tied_both, 1);
  EXPECT_DOUBLE_EQ(pairs.agreement(), 5.0 / 9);
}

LabelAgreement Table(int both_good, int only_first, int only_second, int both_bad) {
  LabelAgreement labels;
  for (int i = 0; i < both_good; ++i) labels.Add(true, true);
  for (int i = 0; i < only_first; ++i) labels.Add(true, false);
  for (int i = 0; i < only_second; ++i) labels.Add(false, true);
  for (int i = 0; i < both_bad; ++i) labels.Add(false, false);
  return labels;
}

// Textbook tables: 20 / 5 / 10 / 15 of 50 gives 0.4; 45 / 15 / 25 / 15 of 100 gives 0.1304, and 25 / 35 / 5 /
// 35, with the same share of equal labels, 0.2593.
TEST(LabelAgreement, KappaOfKnownTables) {
  EXPECT_NEAR(Table(20, 5, 10, 15).kappa(), 0.4, 1e-15);
  EXPECT_NEAR(Table(45, 15, 25, 15).kappa(), 0.1304, 5e-5);
  EXPECT_NEAR(Table(25, 35, 5, 35).kappa(), 0.2593, 5e-5);
  EXPECT_DOUBLE_EQ(Table(20, 5, 10, 15).agreement(), 0.7);
}

TEST(LabelAgreement, Ends) {
  EXPECT_EQ(Table(3, 0, 0, 4).kappa(), 1);
  EXPECT_EQ(Table(0, 5, 5, 0).kappa(), -1);
  EXPECT_TRUE(std::isnan(Table(4, 0, 0, 0).kappa()));
  EXPECT_TRUE(std::isnan(LabelAgreement().agreement()));
}

}  // namespace
}  // namespace tanren
