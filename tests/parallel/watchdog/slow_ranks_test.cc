#include "parallel/watchdog/slow_ranks.h"

#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A job whose ranks take `seconds` of their own work for a step, ten steps a call of Run.
class Job {
 public:
  explicit Job(std::vector<double> seconds) : seconds_(std::move(seconds)), ranks_(seconds_.size()) {
    for (RankView& view : ranks_) std::strcpy(view.identity.host, "node");
  }

  void Take(int rank, double seconds) { seconds_[rank] = seconds; }

  // The ranks that are reported after the next ten steps, and `pause` seconds.
  std::vector<int> Run(int steps = 10, double pause = 10) {
    for (size_t r = 0; r < ranks_.size(); ++r) {
      ranks_[r].record.timed_steps += steps;
      ranks_[r].record.compute_seconds += steps * seconds_[r];
    }
    now_ += pause;
    last = slow_ranks_.Update(ranks_, now_);
    std::vector<int> reported;
    for (const SlowRank& slow : last) reported.push_back(slow.rank);
    return reported;
  }

  std::vector<SlowRank> last;

 private:
  std::vector<double> seconds_;
  std::vector<RankView> ranks_;
  SlowRanks slow_ranks_{1.5};
  double now_ = 0;
};

TEST(SlowRanksTest, ASlowRankIsReportedAfterTwoWindowsWithFigures) {
  Job job({0.1, 0.1, 0.5});
  EXPECT_THAT(job.Run(), ElementsAre());  // the first call only begins a window
  EXPECT_THAT(job.Run(), ElementsAre());
  EXPECT_THAT(job.Run(), ElementsAre(2));
  EXPECT_NEAR(job.last[0].ratio, 5, 1e-6);
  EXPECT_THAT(job.last[0].text,
              HasSubstr("rank 2 of 3 on node (pid 0) is slow: 0.5000 s of its own work a step, 5.00 "
                        "times the 0.1000 s of the median rank"));
}

TEST(SlowRanksTest, OfTwoRanksTheFasterOneIsTheMeasure) {
  Job job({0.1, 0.2});
  job.Run();
  job.Run();
  EXPECT_THAT(job.Run(), ElementsAre(1));
}

TEST(SlowRanksTest, EvenRanksAndASingleHiccupAreNotReported) {
  Job even({0.10, 0.12, 0.14, 0.10});
  Job hiccup({0.1, 0.1, 0.1});
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(even.Run(), ElementsAre());
    hiccup.Take(1, i == 4 ? 1 : 0.1);
    EXPECT_THAT(hiccup.Run(), ElementsAre());
  }
}

TEST(SlowRanksTest, IsRepeatedAfterTenMinutesAndForgottenWhenItIsOver) {
  Job job({0.1, 0.1, 0.5});
  job.Run();
  job.Run();
  EXPECT_THAT(job.Run(), ElementsAre(2));
  int reports = 0;
  for (int i = 0; i < 59; ++i) reports += static_cast<int>(job.Run().size());
  EXPECT_EQ(reports, 0);
  EXPECT_THAT(job.Run(), ElementsAre(2));
  job.Take(2, 0.1);
  job.Run();
  job.Take(2, 0.5);
  EXPECT_THAT(job.Run(), ElementsAre());
  EXPECT_THAT(job.Run(), ElementsAre(2));
}

TEST(SlowRanksTest, AWindowHasEnoughStepsAndTime) {
  Job steps({0.1, 0.5});
  for (int i = 0; i < 7; ++i) EXPECT_THAT(steps.Run(/*steps=*/1), ElementsAre());
  for (int i = 0; i < 3; ++i) EXPECT_THAT(steps.Run(1), ElementsAre());
  EXPECT_THAT(steps.Run(1), ElementsAre(1));  // the second window of five steps is full
  Job time({0.1, 0.5});
  for (int i = 0; i < 10; ++i) EXPECT_THAT(time.Run(10, /*pause=*/1), ElementsAre());
  EXPECT_THAT(time.Run(10, 1), ElementsAre(1));
}

}  // namespace
}  // namespace tanren
