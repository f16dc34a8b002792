#include "core/activity/activity.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

TEST(ActivityTest, SaysWhereARankIs) {
  Activity activity;
  EXPECT_EQ(activity.Read().ToString(), "start");
  const int world = activity.AddAxis("world", 0);
  const int data = activity.AddAxis("data", 3);
  activity.Enter(world, "input");
  EXPECT_EQ(activity.Read().ToString(), "start, inside collective #1 'input' of axis world");
  activity.Leave(world);
  activity.BeginStep(12);
  const Work before = activity.Begin(Work::kBackward);
  for (int i = 0; i < 2; ++i) {
    activity.Enter(data, "gradients");
    activity.Leave(data);
  }
  EXPECT_EQ(activity.Read().ToString(),
            "step 12, backward, after collective #1 'input' of axis world and #2 'gradients' of axis data");
  activity.End(before);
  activity.EndStep();
  activity.Set(Phase::kSave);
  activity.Enter(data, "save_agree");
  const ActivityRecord record = activity.Read();
  EXPECT_EQ(record.ToString(), "save after step 12, inside collective #3 'save_agree' of axis data");
  EXPECT_EQ(record.axes[data].group, 3);
  EXPECT_EQ(record.InsideAxis(), data);
}

// Writes down what it is told, nested.
class Diary : public ActivityObserver {
 public:
  void Begins(Kind kind, const char* name) override {
    absl::StrAppend(&text_,
                    kind == Kind::kPhase  ? "phase "
                    : kind == Kind::kWork ? "work "
                                          : "call ",
                    name, "(");
  }
  void Ends() override { absl::StrAppend(&text_, ")"); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

TEST(ActivityTest, ObserversAreToldWhatBeginsAndEnds) {
  Activity activity;
  Diary first, second;
  activity.AddObserver(&first);
  activity.AddObserver(&second);
  const int axis = activity.AddAxis("world", 0);
  activity.BeginStep(7);
  const Work before = activity.Begin(Work::kBackward);
  activity.Enter(axis, "gradients");
  activity.Leave(axis);
  activity.End(before);
  activity.EndStep();
  activity.RemoveObserver(&second);
  activity.RemoveObserver(&second);  // is not there any more
  activity.End(activity.Begin(Phase::kSave));
  activity.RemoveObserver(&first);
  activity.End(activity.Begin(Phase::kLoad));
  EXPECT_EQ(second.text(), "phase step(work backward(call gradients()))");
  EXPECT_EQ(first.text(), second.text() + "phase save()");
}

TEST(ActivityTest, PointToPointCallsAreNotCounted) {
  Activity activity;
  const int data = activity.AddAxis("data", 0);
  activity.Enter(data, "activations", /*counted=*/false);
  const ActivityRecord record = activity.Read();
  EXPECT_EQ(record.axes[data].entered, 0);
  EXPECT_EQ(record.InsideAxis(), data);
}

TEST(ActivityTest, ProgressGrowsWithEverythingThatIsDone) {
  Activity activity;
  const int world = activity.AddAxis("world", 0);
  uint64_t last = activity.Read().progress;
  const auto grew = [&] {
    const uint64_t now = activity.Read().progress;
    return now > std::exchange(last, now);
  };
  EXPECT_FALSE(grew());
  activity.Tick();
  EXPECT_TRUE(grew());
  activity.Enter(world, "x");
  EXPECT_TRUE(grew());
  activity.Leave(world);
  EXPECT_TRUE(grew());
  activity.BeginStep(1);
  EXPECT_TRUE(grew());
  activity.EndStep();
  EXPECT_TRUE(grew());
}

TEST(ActivityTest, LongNamesAreCutAndSlotsAreFew) {
  Activity activity;
  const int slot = activity.AddAxis(std::string(100, 'a'), 0);
  activity.Enter(slot, std::string(100, 'n').c_str());
  const ActivityRecord record = activity.Read();
  EXPECT_EQ(std::string(record.axes[slot].axis), std::string(15, 'a'));
  EXPECT_EQ(std::string(record.axes[slot].collective), std::string(47, 'n'));
  for (int i = 1; i < kMaxAxes; ++i) activity.AddAxis("b", i);
  EXPECT_DEATH(activity.AddAxis("c", 0), "axis 'c'");
}

TEST(ActivityTest, TimeInsideCollectivesIsNotTheRanksOwn) {
  Activity activity;
  const int world = activity.AddAxis("world", 0);
  const auto rest = [](int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  };
  activity.BeginStep(1);
  rest(40);
  activity.Enter(world, "gradients");
  rest(300);
  activity.Leave(world);
  activity.EndStep();
  const ActivityRecord record = activity.Read();
  EXPECT_EQ(record.timed_steps, 1);
  EXPECT_GE(record.compute_seconds, 0.04);
  EXPECT_LT(record.compute_seconds, 0.3);
  EXPECT_GE(record.longest_step_seconds, 0.34);
}

TEST(ActivityTest, OnlyRecentStepsCountAsLong) {
  Activity activity;
  activity.BeginStep(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  activity.EndStep();
  for (int i = 0; i < 15; ++i) {
    activity.BeginStep(i + 2);
    activity.EndStep();
  }
  EXPECT_GE(activity.Read().longest_step_seconds, 0.05);
  activity.BeginStep(17);
  activity.EndStep();
  EXPECT_LT(activity.Read().longest_step_seconds, 0.05);
}

// A reader beside the writer sees counts that only grow and names that end.
TEST(ActivityTest, IsReadWhileItIsWritten) {
  Activity activity;
  const int world = activity.AddAxis("world", 0);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 0; i < 200'000; ++i) {
      activity.Enter(world, i % 2 ? "gradients" : std::string(47, 'x').c_str());
      activity.Leave(world);
    }
    done = true;
  });
  uint64_t progress = 0, entered = 0;
  while (!done) {
    const ActivityRecord record = activity.Read();
    ASSERT_GE(record.progress, progress);
    ASSERT_GE(record.axes[world].entered, entered);
    ASSERT_LT(strnlen(record.axes[world].collective, 48), 48);
    progress = record.progress;
    entered = record.axes[world].entered;
  }
  writer.join();
  EXPECT_EQ(activity.Read().axes[world].entered, 200'000);
  EXPECT_EQ(activity.Read().progress, 400'000);
}

TEST(ActivityTest, ScopesSayWhatIsDoneAndTakeItBack) {
  Activity& own = Activity::Own();
  {
    const Doing saving(Phase::kSave);
    const Doing running(Work::kCommand);
    EXPECT_EQ(own.Read().phase, Phase::kSave);
    EXPECT_EQ(own.Read().work, Work::kCommand);
  }
  EXPECT_EQ(own.Read().phase, Phase::kStart);
  EXPECT_EQ(own.Read().work, Work::kOther);
  { const DoingStep doing(5); }
  EXPECT_EQ(own.Read().step, 5);
  EXPECT_EQ(own.Read().timed_steps, 1);
}

// Not a test of speed, which a busy machine would fail: the figure is printed.
TEST(ActivityTest, CostOfACall) {
  Activity activity;
  const int world = activity.AddAxis("world", 0);
  constexpr int kCalls = 1'000'000;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kCalls; ++i) {
    activity.Enter(world, "gradients");
    activity.Leave(world);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%.1f ns a collective\n", 1e9 * seconds / kCalls);
  EXPECT_EQ(activity.Read().axes[world].entered, kCalls);
}

}  // namespace
}  // namespace tanren
