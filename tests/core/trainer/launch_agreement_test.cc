#include "core/trainer/launch_agreement.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

config::Config Small() {
  config::Config config;
  config.set_run_directory("runs/a");
  config.mutable_optimizer()->set_learning_rate(0.003);
  config.mutable_data()->add_train()->set_path("shards");
  return config;
}

TEST(DifferentKeys, NothingWhereAllAreEqual) { EXPECT_EQ(DifferentKeys(Small(), Small()), ""); }

TEST(DifferentKeys, NamesKeysAndBothValues) {
  config::Config own = Small();
  own.mutable_optimizer()->set_learning_rate(0.001);
  own.mutable_data()->mutable_train(0)->set_path("other");
  const std::string keys = DifferentKeys(own, Small());
  EXPECT_THAT(keys, HasSubstr("optimizer.learning_rate: 0.001 and not 0.003"));
  EXPECT_THAT(keys, HasSubstr("data.train.0.path: \"other\" and not \"shards\""));
}

TEST(DifferentKeys, NamesWhatOneSideLacks) {
  config::Config own = Small();
  own.mutable_data()->add_train()->set_path("more");
  EXPECT_THAT(DifferentKeys(own, Small()), HasSubstr("data.train.1"));
  EXPECT_THAT(DifferentKeys(Small(), own), HasSubstr("data.train.1"));
}

TEST(DifferentKeys, TellsAFewOfMany) {
  config::Config own = Small(), first = Small();
  for (int i = 0; i < 9; ++i) {
    own.mutable_data()->add_train()->set_path("own");
    first.mutable_data()->add_train()->set_path("first");
  }
  EXPECT_THAT(DifferentKeys(own, first), HasSubstr("; and 5 more"));
}

std::vector<RankPlace> Two() {
  return {{"a", 10, "GPU 0000:01, X", 100},
          {"a", 11, "GPU 0000:02, X", 100.1},
          {"b", 12, "GPU 0000:01, X", 99.5},
          {"b", 13, "GPU 0000:02, X", 99.5}};
}

TEST(PlaceWarnings, NoneWhereClocksAgreeAndNoDeviceIsShared) { EXPECT_THAT(PlaceWarnings(Two()), IsEmpty()); }

TEST(PlaceWarnings, AHostsClockOnce) {
  std::vector<RankPlace> places = Two();
  places[2].clock = places[3].clock = 30.25;
  EXPECT_THAT(PlaceWarnings(places),
              ElementsAre(HasSubstr("the clock of b is 69.8 s behind that of a, rank 0's")));
}

TEST(PlaceWarnings, RanksThatShareADevice) {
  std::vector<RankPlace> places = Two();
  places[1].device = places[0].device;
  EXPECT_THAT(PlaceWarnings(places),
              ElementsAre(HasSubstr("ranks 0, 1 on a share one device (GPU 0000:01, X)")));
  for (RankPlace& place : places) place.device = "cpu 0";
  EXPECT_THAT(PlaceWarnings(places), IsEmpty());
}

TEST(RankTable, ALineARank) {
  MeshShape shape;
  shape.data = 2;
  shape.tensor = 2;
  EXPECT_THAT(RankTable(Two(), shape),
              HasSubstr("rank 3    data 1   tensor 1   b, process 13, GPU 0000:02, X\n"));
}

TEST(RankTable, ALineAHostOfManyRanks) {
  std::vector<RankPlace> places;
  for (int rank = 0; rank < 80; ++rank) places.push_back({rank < 40 ? "a" : "b", rank, "CPU", 0});
  EXPECT_EQ(RankTable(places, MeshShape()), "a: ranks 0 to 39, CPU\nb: ranks 40 to 79, CPU\n");
}

}  // namespace
}  // namespace tanren
