#include "core/data/source.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using testing::HasSubstr;

// Units of random lengths, a function of their index; ends after `count`.
class RandomUnits final : public Source {
 public:
  explicit RandomUnits(int64_t count, int64_t longest = 60) : count_(count), longest_(longest) {}
  absl::StatusOr<UnitRef> Next() override {
    if (next_ == count_) return absl::OutOfRangeError("the end");
    const int64_t index = next_++;
    return UnitRef{index, LengthOf(index), index * 3};
  }
  absl::Status Load(const UnitRef& ref, Unit* unit) override {
    unit->ids.assign(ref.tokens, static_cast<int32_t>(ref.index));
    unit->targets.assign(ref.tokens, -1);
    unit->mask.assign(ref.tokens, 0);
    unit->segment_lengths = {static_cast<int32_t>(ref.tokens)};
    return absl::OkStatus();
  }
  std::string SaveState() const override { return std::to_string(next_); }
  absl::Status RestoreState(const std::string& state) override {
    next_ = std::stoll(state);
    return absl::OkStatus();
  }

 private:
  int64_t LengthOf(int64_t index) const { return 1 + static_cast<int64_t>(std::mt19937(index)() % longest_); }
  int64_t count_, longest_, next_ = 0;
};

TEST(StepPlanner, KeepsTheOrderFillsWholeUnitsAndLosesNone) {
  RandomUnits source(1000);
  StepPlanner planner(&source, {128, 4, 0, false});
  int64_t expected = 0;
  while (true) {
    const auto plan = planner.Next();
    if (absl::IsOutOfRange(plan.status())) break;
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_LE(plan->micro_batches.size(), 4u);
    for (size_t m = 0; m < plan->micro_batches.size(); ++m) {
      int64_t used = 0;
      for (const UnitRef& unit : plan->micro_batches[m]) {
        EXPECT_EQ(unit.index, expected++);
        used += unit.tokens;
      }
      EXPECT_LE(used, 128);
      // The next unit would not have fitted.
      if (m + 1 < plan->micro_batches.size()) {
        EXPECT_GT(used + plan->micro_batches[m + 1][0].tokens, 128);
      }
    }
  }
  EXPECT_EQ(expected, 1000);
}

TEST(StepPlanner, AStepOfUnitsHasJustSoMany) {
  RandomUnits source(100);
  StepPlanner planner(&source, {128, 0, 7, false});
  for (int step = 0; step < 14; ++step) {
    const auto plan = planner.Next();
    ASSERT_TRUE(plan.ok());
    size_t units = 0;
    for (const auto& micro_batch : plan->micro_batches) units += micro_batch.size();
    EXPECT_EQ(units, 7u);
  }
}

TEST(StepPlanner, GoesOnExactlyWhereItWasSaved) {
  RandomUnits a(1000), b(1000);
  StepPlanner one(&a, {128, 3, 0, false}), two(&b, {128, 3, 0, false});
  for (int step = 0; step < 20; ++step) {
    ASSERT_TRUE(one.Next().ok());
    ASSERT_TRUE(two.RestoreState(one.SaveState()).ok());
    RandomUnits c(1000);
    StepPlanner expected(&c, {128, 3, 0, false});
    ASSERT_TRUE(expected.RestoreState(one.SaveState()).ok());
    const auto from_two = two.Next();
    const auto from_expected = expected.Next();
    ASSERT_TRUE(from_two.ok() && from_expected.ok());
    EXPECT_EQ(from_two->micro_batches[0][0].index, from_expected->micro_batches[0][0].index);
    EXPECT_EQ(two.SaveState(), expected.SaveState());
  }
  EXPECT_FALSE(two.RestoreState("").ok());
  EXPECT_FALSE(two.RestoreState(std::string(25, '\7')).ok());
}

// Also behind a step that left a unit read and not yet planned.
TEST(StepPlanner, SkipsAsManyStepsAsItWouldHavePlanned) {
  RandomUnits a(1000), b(1000);
  StepPlanner one(&a, {128, 3, 0, false}), two(&b, {128, 3, 0, false});
  ASSERT_TRUE(one.Next().ok() && two.Next().ok());
  for (int step = 0; step < 7; ++step) ASSERT_TRUE(one.Next().ok());
  ASSERT_TRUE(two.Skip(7).ok());
  EXPECT_EQ(one.SaveState(), two.SaveState());
  EXPECT_TRUE(absl::IsOutOfRange(two.Skip(1000)));
}

TEST(StepPlanner, RefusesOrCountsUnitsThatDoNotFit) {
  RandomUnits refuse(1000, 200), drop(1000, 200);
  StepPlanner strict(&refuse, {64, 1000, 0, false});
  EXPECT_THAT(strict.Next().status().message(), HasSubstr("more than batch.micro_batch_tokens (64)"));
  StepPlanner lenient(&drop, {64, 100000, 0, true});
  const auto plan = lenient.Next();
  ASSERT_TRUE(plan.ok());
  size_t units = 0;
  for (const auto& micro_batch : plan->micro_batches) units += micro_batch.size();
  EXPECT_EQ(units + plan->oversize_units, 1000u);
  EXPECT_GT(plan->oversize_units, 0);
}

TEST(DealMicroBatches, CoversTheStepInOrder) {
  for (int size = 1; size <= 9; ++size) {
    for (int64_t count = 0; count <= 20; ++count) {
      int64_t next = 0;
      for (int rank = 0; rank < size; ++rank) {
        const DealtRange range = DealMicroBatches(count, rank, size);
        EXPECT_EQ(range.begin, next);
        EXPECT_LE(range.end - range.begin, (count + size - 1) / size);
        next = range.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

}  // namespace
}  // namespace tanren
