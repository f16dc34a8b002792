#include "core/trainer/replica_check.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

ReplicaDigest Of(int64_t tensor_rank, uint64_t own, uint64_t replicated) {
  return {tensor_rank, {own, replicated}};
}

TEST(DeviatingRanks, NobodyWhereAllAgree) {
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1)}), IsEmpty());
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1), Of(1, 6, 1), Of(0, 5, 1), Of(1, 6, 1)}), IsEmpty());
}

TEST(DeviatingRanks, TheOnesThatAreNotAsMost) {
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1), Of(0, 7, 1), Of(0, 5, 1)}), ElementsAre(1));
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1), Of(1, 6, 1), Of(0, 5, 1), Of(1, 9, 1), Of(0, 5, 1), Of(1, 6, 1)}),
              ElementsAre(3));
}

TEST(DeviatingRanks, AllOfThemWhereNoMajorityIs) {
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1), Of(0, 7, 1)}), ElementsAre(0, 1));
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1), Of(1, 6, 1), Of(0, 5, 1), Of(1, 9, 1)}), ElementsAre(1, 3));
}

// Tensor ranks hold different shards, so only the parameters that all have whole can tell.
TEST(DeviatingRanks, ReplicatedParametersAcrossTheTensorAxis) {
  EXPECT_THAT(DeviatingRanks({Of(0, 5, 1), Of(1, 6, 1), Of(2, 7, 2), Of(3, 8, 1)}), ElementsAre(2));
}

}  // namespace
}  // namespace tanren
