#include "core/data/batch.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Unit MakeUnit(std::vector<int32_t> lengths, int32_t first_id) {
  Unit unit;
  for (int32_t length : lengths) {
    for (int32_t t = 0; t < length; ++t) {
      unit.ids.push_back(first_id + t);
      unit.targets.push_back(t + 1 < length ? first_id + t + 1 : -1);
      unit.mask.push_back(t + 1 < length);
    }
    first_id += 100;
  }
  unit.segment_lengths = std::move(lengths);
  return unit;
}

TEST(PackMicroBatch, LaysUnitsSideBySideAndFillsTheRest) {
  MicroBatch batch;
  ASSERT_TRUE(PackMicroBatch({MakeUnit({3, 2}, 10), MakeUnit({4}, 500)}, 12, &batch).ok());
  EXPECT_THAT(batch.ids, ElementsAre(10, 11, 12, 110, 111, 500, 501, 502, 503, 0, 0, 0));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 0, 1, 0, 1, 2, 3, 0, 0, 0));
  EXPECT_THAT(batch.targets, ElementsAre(11, 12, -1, 111, -1, 501, 502, 503, -1, -1, -1, -1));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 3, 5, 9, 12));
  EXPECT_THAT(batch.trained, ElementsAre(0, 1, 3, 5, 6, 7));
  EXPECT_THAT(batch.trained_segment, ElementsAre(0, 0, 1, 2, 2, 2));
  EXPECT_THAT(batch.unit_segments, ElementsAre(0, 2, 3));
  EXPECT_EQ(batch.segments(), 3);
  EXPECT_EQ(batch.units(), 2);
  EXPECT_EQ(batch.LastToken(1), 4);
}

TEST(PackMicroBatch, CutsTheTailSoThatItsAttentionIsCheap) {
  MicroBatch batch;
  ASSERT_TRUE(PackMicroBatch({MakeUnit({10}, 0)}, 512, &batch).ok());
  for (int64_t s = batch.segments(); s < batch.all_segments(); ++s) {
    EXPECT_LE(batch.cu_seqlens[s + 1] - batch.cu_seqlens[s], 64);
  }
  EXPECT_EQ(batch.cu_seqlens.back(), 512);
}

TEST(PackMicroBatch, CarriesColumns) {
  Unit a = MakeUnit({2}, 0), b = MakeUnit({2, 1}, 0);
  a.columns.Get("advantage", 2) = {1, 2};
  b.columns.Get("advantage", 3) = {3, 4, 5};
  a.segment_columns.Get("margin", 1) = {7};
  b.segment_columns.Get("margin", 2) = {8, 9};
  MicroBatch batch;
  ASSERT_TRUE(PackMicroBatch({a, b}, 6, &batch).ok());
  EXPECT_THAT(*batch.columns.Find("advantage"), ElementsAre(1, 2, 3, 4, 5, 0));
  EXPECT_THAT(*batch.segment_columns.Find("margin"), ElementsAre(7, 8, 9));
}

TEST(PackMicroBatch, RefusesWhatWouldBeReadAsMadeUpValues) {
  MicroBatch batch;
  Unit with = MakeUnit({2}, 0), without = MakeUnit({2}, 0);
  with.columns.Get("advantage", 2);
  EXPECT_THAT(PackMicroBatch({with, without}, 8, &batch).message(), HasSubstr("different columns"));
  Unit other = MakeUnit({2}, 0);
  other.columns.Get("return", 2);
  EXPECT_THAT(PackMicroBatch({with, other}, 8, &batch).message(), HasSubstr("column return"));
  Unit untargeted = MakeUnit({2}, 0);
  untargeted.mask[1] = 1;
  EXPECT_THAT(PackMicroBatch({untargeted}, 8, &batch).message(), HasSubstr("has no target"));
  Unit inconsistent = MakeUnit({2}, 0);
  inconsistent.segment_lengths = {3};
  EXPECT_THAT(PackMicroBatch({inconsistent}, 8, &batch).message(), HasSubstr("inconsistent"));
  EXPECT_THAT(PackMicroBatch({MakeUnit({9}, 0)}, 8, &batch).message(), HasSubstr("do not fit"));
}

}  // namespace
}  // namespace tanren
