#include "kernels/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/elementwise.h"

namespace tanren::kernels {
namespace {

using testing::ExpectThreadIndependent;
using testing::ForEachInstructionSet;
using testing::Poisoned;
using testing::RandomInteger;
using testing::RandomNormal;
using testing::SameBits;
using testing::TestStream;
using testing::ToDoubles;

struct State {
  std::vector<float> w, m, v;
};

State RandomState(int64_t count) {
  State state{RandomNormal<float>(count), RandomNormal<float>(count, 0.1f), RandomNormal<float>(count, 0.1f)};
  for (float& v : state.v) v *= v;
  return state;
}

AdamWArgs Args(int64_t count, int64_t step) {
  return {.count = count,
          .learning_rate = 3e-3f,
          .beta1 = 0.9f,
          .beta2 = 0.95f,
          .epsilon = 1e-8f,
          .weight_decay = 0.1f,
          .step = step,
          .gradient_scale = 0.5f};
}

TEST(AdamW, FollowsTorchInDoubleForManySteps) {
  ForEachInstructionSet([] {
    for (const int64_t count : {1, 7, 16, 17, 1000}) {
      State state{RandomNormal<float>(count), std::vector<float>(count), std::vector<float>(count)};
      reference::AdamWState expected{ToDoubles(state.w), ToDoubles(state.m), ToDoubles(state.v)};
      const AdamWArgs args = Args(count, 1);
      for (int64_t step = 1; step <= 30; ++step) {
        const auto g = RandomNormal<float>(count, step % 5 == 0 ? 100.0f : 0.01f);
        auto scaled = ToDoubles(g);
        for (double& value : scaled) value *= args.gradient_scale;
        reference::AdamW(args.learning_rate, args.beta1, args.beta2, args.epsilon, args.weight_decay, step,
                         scaled, expected);
        auto w_model = Poisoned<BFloat16>(count);
        AdamW(TestStream(), Args(count, step), g.data(), state.w.data(), state.m.data(), state.v.data(),
              w_model.data());
        for (int64_t i = 0; i < count; ++i) ASSERT_EQ(w_model[i].bits, BFloat16(state.w[i]).bits);
      }
      // Rounding of thirty steps; m may cancel, so its error is measured against the size of the gradients.
      for (int64_t i = 0; i < count; ++i) {
        EXPECT_NEAR(state.w[i], expected.w[i], 3e-6 * (std::fabs(expected.w[i]) + 0.1));
        EXPECT_NEAR(state.m[i], expected.m[i], 1e-5 * std::sqrt(expected.v[i]));
        EXPECT_NEAR(state.v[i], expected.v[i], 1e-5 * expected.v[i]);
      }
    }
  });
}

// The first step moves each weight by the learning rate against its gradient's sign, whatever the size: a
// bias correction or an epsilon inside the root would show.
TEST(AdamW, FirstStepIsTheSignOfTheGradient) {
  const std::vector<float> g = {1e-3f, -1e-3f, 50.0f, -2e4f, 0.0f};
  State state{std::vector<float>(5, 1.0f), std::vector<float>(5), std::vector<float>(5)};
  AdamWArgs args = Args(5, 1);
  args.weight_decay = 0;
  args.gradient_scale = 1;
  auto w_model = Poisoned<float>(5);
  AdamW(TestStream(), args, g.data(), state.w.data(), state.m.data(), state.v.data(), w_model.data());
  const float expected[] = {1 - 3e-3f, 1 + 3e-3f, 1 - 3e-3f, 1 + 3e-3f, 1};
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(state.w[i], expected[i], 1e-7) << i;
  EXPECT_TRUE(SameBits(w_model, state.w));
}

TEST(AdamW, DecayIsDecoupled) {
  State state{std::vector<float>(3, 2.0f), std::vector<float>(3), std::vector<float>(3)};
  const std::vector<float> g(3, 0.0f);
  AdamW(TestStream(), Args(3, 1), g.data(), state.w.data(), state.m.data(), state.v.data(), {});
  for (const float w : state.w) EXPECT_FLOAT_EQ(w, 2.0f * (1 - 3e-3f * 0.1f));
}

TEST(AdamW, SameBitsWhereverCut) {
  constexpr int64_t kCount = 60007;
  const State before = RandomState(kCount);
  const auto g = RandomNormal<float>(kCount);
  ForEachInstructionSet([&] {
    State whole = before, cut = before;
    auto whole_model = Poisoned<BFloat16>(kCount), cut_model = Poisoned<BFloat16>(kCount);
    AdamW(TestStream(), Args(kCount, 3), g.data(), whole.w.data(), whole.m.data(), whole.v.data(),
          whole_model.data());
    for (int64_t begin = 0; begin < kCount;) {
      const int64_t count = std::min(RandomInteger(1, 200), kCount - begin);
      AdamW(TestStream(), Args(count, 3), g.data() + begin, cut.w.data() + begin, cut.m.data() + begin,
            cut.v.data() + begin, cut_model.data() + begin);
      begin += count;
    }
    EXPECT_TRUE(SameBits(whole.w, cut.w));
    EXPECT_TRUE(SameBits(whole.m, cut.m));
    EXPECT_TRUE(SameBits(whole.v, cut.v));
    EXPECT_TRUE(SameBits(whole_model, cut_model));
  });
}

// The model's copy may lie elsewhere within a vector than the rest, and every array within its own.
TEST(AdamW, SameBitsAtAnyAlignment) {
  constexpr int64_t kCount = 1003;
  const State before = RandomState(kCount);
  const auto g = RandomNormal<float>(kCount);
  State expected = before;
  auto expected_model = Poisoned<BFloat16>(kCount);
  AdamW(TestStream(), Args(kCount, 7), g.data(), expected.w.data(), expected.m.data(), expected.v.data(),
        expected_model.data());
  const auto shifted = [](const std::vector<float>& values, int64_t by) {
    std::vector<float> result(by, 0.5f);
    result.insert(result.end(), values.begin(), values.end());
    return result;
  };
  for (const auto [common, model, other] :
       {std::array<int64_t, 3>{1, 1, 1}, {3, 3, 3}, {0, 1, 0}, {2, 2, 3}}) {
    const auto shifted_g = shifted(g, other);
    State state{shifted(before.w, common), shifted(before.m, common), shifted(before.v, common)};
    auto w_model = Poisoned<BFloat16>(model + kCount);
    AdamW(TestStream(), Args(kCount, 7), shifted_g.data() + other, state.w.data() + common,
          state.m.data() + common, state.v.data() + common, w_model.data() + model);
    EXPECT_TRUE(SameBits(state.w, shifted(expected.w, common)));
    EXPECT_TRUE(SameBits(state.m, shifted(expected.m, common)));
    EXPECT_TRUE(SameBits(state.v, shifted(expected.v, common)));
    EXPECT_TRUE(SameBits(std::vector<BFloat16>(w_model.begin() + model, w_model.end()), expected_model));
  }
}

TEST(AdamW, SameBitsOnAnyThreads) {
  constexpr int64_t kCount = 200003;
  const State before = RandomState(kCount);
  const auto g = RandomNormal<float>(kCount);
  ExpectThreadIndependent([&] {
    State state = before;
    AdamW(TestStream(), Args(kCount, 3), g.data(), state.w.data(), state.m.data(), state.v.data(), {});
    return state.w;
  });
}

TEST(AdamW, EmptyRange) { AdamW(TestStream(), Args(0, 1), nullptr, nullptr, nullptr, nullptr, {}); }

}  // namespace
}  // namespace tanren::kernels
