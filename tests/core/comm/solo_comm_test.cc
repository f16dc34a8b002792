#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <vector>

#include "core/comm/comm.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;

class SoloCommTest : public ::testing::Test {
 protected:
  std::unique_ptr<Comm> comm_ = MakeSoloComm("data");
  Stream stream_;
};

TEST_F(SoloCommTest, KnowsItsPlace) {
  EXPECT_EQ(comm_->axis(), "data");
  EXPECT_EQ(comm_->rank(), 0);
  EXPECT_EQ(comm_->size(), 1);
}

TEST_F(SoloCommTest, ReductionsOverOneRankAreTheInput) {
  std::vector<float> data = {1, -2, 3};
  comm_->AllReduce(stream_, "sum", data.data(), 3, ReduceOp::kSum);
  EXPECT_THAT(data, ElementsAre(1, -2, 3));
  std::vector<float> out(3, std::numeric_limits<float>::quiet_NaN());
  comm_->ReduceScatter(stream_, "scatter", data.data(), out.data(), 3);
  EXPECT_EQ(out, data);
}

TEST_F(SoloCommTest, GathersCopyOutOfPlaceAndLeaveInPlaceAlone) {
  const std::vector<int64_t> in = {7, 8};
  std::vector<int64_t> out(2, -1);
  comm_->AllGather(stream_, "gather", in.data(), out.data(), 2);
  EXPECT_EQ(out, in);
  comm_->AllGather(stream_, "gather", out.data(), out.data(), 2);
  EXPECT_EQ(out, in);
  comm_->Broadcast(stream_, "broadcast", out.data(), 2, 0);
  EXPECT_EQ(out, in);
  comm_->Barrier("barrier");
}

TEST_F(SoloCommTest, ZeroElementsNeedNoBuffer) {
  comm_->AllReduce(stream_, "empty", Buffer(), 0, ReduceOp::kMax);
  comm_->AllGather(stream_, "empty", ConstBuffer(), Buffer(), 0);
}

TEST_F(SoloCommTest, AgreementIsTheStatusItself) {
  EXPECT_TRUE(AgreeStatus(*comm_, "config", absl::OkStatus()).ok());
  const absl::Status status = AgreeStatus(*comm_, "config", absl::NotFoundError("no corpus"));
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no corpus");
}

TEST_F(SoloCommTest, StringsComeBack) {
  const std::string text = std::string("a\0b", 3) + std::string(200'000, 'x');
  EXPECT_EQ(BroadcastString(*comm_, "text", text, 0), text);
  EXPECT_THAT(AllGatherStrings(*comm_, "texts", text), ElementsAre(text));
  EXPECT_EQ(BroadcastString(*comm_, "text", "", 0), "");
  EXPECT_THAT(AllGatherStrings(*comm_, "texts", ""), ElementsAre(""));
}

TEST_F(SoloCommTest, MisuseAborts) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  float value = 0;
  EXPECT_DEATH(comm_->Send(stream_, "activations", &value, 1, 1), "send 'activations' to rank 1");
  EXPECT_DEATH(comm_->AllReduce(stream_, "sum", Buffer(), 1, ReduceOp::kSum),
               "'sum' of 1 elements without a buffer");
  EXPECT_DEATH(comm_->AllReduce(stream_, "sum", &value, -1, ReduceOp::kSum), "'sum' with count -1");
}

}  // namespace
}  // namespace tanren
