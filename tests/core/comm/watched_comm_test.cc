#include "core/comm/watched_comm.h"

#include <memory>
#include <string>
#include <utility>

#include "core/activity/activity.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

// A communicator of two on paper, which shows what is said while a call runs.
class Paper final : public Comm {
 public:
  explicit Paper(std::string* seen) : Comm("tensor", 0, 2), seen_(seen) {}
  ~Paper() override { See(); }
  void AllReduce(const Stream&, const char*, Buffer, int64_t, ReduceOp) override { See(); }
  void ReduceScatter(const Stream&, const char*, ConstBuffer, Buffer, int64_t) override { See(); }
  void AllGather(const Stream&, const char*, ConstBuffer, Buffer, int64_t) override { See(); }
  void Broadcast(const Stream&, const char*, Buffer, int64_t, int) override { See(); }
  void Send(const Stream&, const char*, ConstBuffer, int64_t, int) override { See(); }
  void Recv(const Stream&, const char*, Buffer, int64_t, int) override { See(); }
  void Barrier(const char*) override { See(); }

 private:
  void See() { *seen_ = Activity::Own().Read().ToString(); }
  std::string* seen_;
};

TEST(WatchedCommTest, SaysEveryCall) {
  std::string seen;
  float data[4] = {};
  std::unique_ptr<Comm> comm = MakeWatchedComm(std::make_unique<Paper>(&seen), 7);
  comm->AllReduce(Stream(), "a", data, 1, ReduceOp::kSum);
  EXPECT_THAT(seen, HasSubstr("inside collective #1 'a' of axis tensor"));
  comm->ReduceScatter(Stream(), "b", data, data, 1);
  EXPECT_THAT(seen, HasSubstr("#2 'b'"));
  comm->AllGather(Stream(), "c", data, data, 1);
  EXPECT_THAT(seen, HasSubstr("#3 'c'"));
  comm->Broadcast(Stream(), "d", data, 1, 0);
  EXPECT_THAT(seen, HasSubstr("#4 'd'"));
  comm->Send(Stream(), "e", data, 1, 1);
  EXPECT_THAT(seen, HasSubstr("#4 'e'"));
  comm->Recv(Stream(), "f", data, 1, 1);
  EXPECT_THAT(seen, HasSubstr("#4 'f'"));
  comm->Barrier("g");
  EXPECT_THAT(seen, HasSubstr("#5 'g'"));
  EXPECT_EQ(Activity::Own().Read().InsideAxis(), -1);
  comm.reset();
  EXPECT_THAT(seen, HasSubstr("inside collective #6 'close'"));
}

TEST(WatchedCommTest, NobodyWaitsInAGroupOfOne) {
  std::unique_ptr<Comm> solo = MakeSoloComm("data");
  Comm* before = solo.get();
  EXPECT_EQ(MakeWatchedComm(std::move(solo), 0).get(), before);
}

}  // namespace
}  // namespace tanren
