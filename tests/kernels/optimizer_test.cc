#include "kernels/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/random.h"
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
using testing::RelativeError;
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

// --- moments in bf16 ---

struct NarrowState {
  std::vector<float> w;
  std::vector<BFloat16> m, v;
};

NarrowState RandomNarrowState(int64_t count) {
  NarrowState state{RandomNormal<float>(count), RandomNormal<BFloat16>(count, 0.1f),
                    RandomNormal<BFloat16>(count, 0.1f)};
  for (BFloat16& v : state.v) v = BFloat16(static_cast<float>(v) * static_cast<float>(v));
  return state;
}

AdamWArgs NarrowArgs(int64_t count, int64_t step, int64_t first_index) {
  AdamWArgs args = Args(count, step);
  args.rounding_seed = 0x123456789abcdef0u;
  args.first_index = first_index;
  return args;
}

// The random word of an element, one at a time.
uint32_t WordOf(const AdamWArgs& args, int64_t i) {
  const auto index = static_cast<uint64_t>(args.first_index + i);
  return RandomBlock(args.rounding_seed, static_cast<uint64_t>(args.step), index / 4)[index % 4];
}

// The step on moments that were widened to fp32 makes the same weights, and its new moments, rounded one by
// one, are those stored: on each device, at any place of a range in the sequence.
TEST(AdamWNarrowMoments, RoundWhatTheWideStepGives) {
  ForEachInstructionSet([] {
    for (const int64_t count : {1, 3, 4, 7, 16, 17, 1000, 1024, 5003}) {
      for (const int64_t first_index : {int64_t{0}, int64_t{3}, int64_t{8}, (int64_t{1} << 34) - 2}) {
        const NarrowState before = RandomNarrowState(count);
        const auto g = RandomNormal<float>(count);
        State wide{before.w, std::vector<float>(count), std::vector<float>(count)};
        for (int64_t i = 0; i < count; ++i) {
          wide.m[i] = static_cast<float>(before.m[i]);
          wide.v[i] = static_cast<float>(before.v[i]);
        }
        const AdamWArgs args = NarrowArgs(count, 7, first_index);
        AdamW(TestStream(), args, g.data(), wide.w.data(), wide.m.data(), wide.v.data(), {});
        NarrowState narrow = before;
        auto w_model = Poisoned<BFloat16>(count);
        AdamW(TestStream(), args, g.data(), narrow.w.data(), narrow.m.data(), narrow.v.data(),
              w_model.data());
        EXPECT_TRUE(SameBits(narrow.w, wide.w));
        for (int64_t i = 0; i < count; ++i) {
          const uint32_t word = WordOf(args, i);
          ASSERT_EQ(narrow.m[i].bits, RoundAtRandom(wide.m[i], word & 0xffffu).bits) << i << " of " << count;
          ASSERT_EQ(narrow.v[i].bits, RoundAtRandom(wide.v[i], word >> 16).bits) << i << " of " << count;
          ASSERT_EQ(w_model[i].bits, BFloat16(narrow.w[i]).bits);
        }
      }
    }
  });
}

// Every part that is cut off, at every random number: counted, not sampled.
TEST(AdamWNarrowMoments, RoundingIsUnbiasedAndKeepsExactNumbers) {
  for (const float base : {1.0f, -1.0f, 1.9921875f, 3e-39f, -2.5e30f}) {
    const uint32_t upper = std::bit_cast<uint32_t>(base) & 0xffff0000u;
    for (const uint32_t cut : {0u, 1u, 0x7fffu, 0x8000u, 0xabcdu, 0xffffu}) {
      const float value = std::bit_cast<float>(upper | cut);
      uint32_t away = 0;
      for (uint32_t random = 0; random < 0x10000u; ++random) {
        const uint32_t bits = RoundAtRandom(value, random).bits;
        ASSERT_TRUE(bits == upper >> 16 || bits == (upper >> 16) + 1);
        away += bits != upper >> 16;
      }
      EXPECT_EQ(away, cut) << value;
    }
  }
  for (const uint32_t random : {0u, 0xffffu}) {
    EXPECT_EQ(RoundAtRandom(testing::kInfinity, random).bits, BFloat16(testing::kInfinity).bits);
    EXPECT_TRUE(std::isnan(static_cast<float>(RoundAtRandom(testing::kNaN, random))));
    EXPECT_TRUE(std::isnan(static_cast<float>(RoundAtRandom(std::bit_cast<float>(0xff800001u), random))));
    EXPECT_EQ(RoundAtRandom(-0.0f, random).bits, 0x8000u);
  }
}

// With beta2 = 0.999 each step changes v by a thousandth, a quarter of a unit in the last place, which
// rounding to nearest never lets through. At random the mean over many elements follows the exact course,
// and an element strays from it by what its own roundings add up to.
TEST(AdamWNarrowMoments, SecondMomentFollowsTheExactCourse) {
  constexpr int64_t kCount = 4096;
  constexpr int kSteps = 2000;
  AdamWArgs args = NarrowArgs(kCount, 1, 0);
  args.beta2 = 0.999f;
  args.gradient_scale = 1;
  for (const auto& [start, gradient] : {std::pair{1.0f, 0.5f}, {0.25f, 1.0f}, {0.0f, 0.7f}}) {
    NarrowState state{std::vector<float>(kCount), std::vector<BFloat16>(kCount),
                      std::vector<BFloat16>(kCount, BFloat16(start))};
    std::vector<BFloat16> frozen(1, BFloat16(start));
    const std::vector<float> g(kCount, gradient);
    double exact = start, exact_m = 0;
    for (args.step = 1; args.step <= kSteps; ++args.step) {
      AdamW(TestStream(), args, g.data(), state.w.data(), state.m.data(), state.v.data(), {});
      exact = exact * args.beta2 + (1.0 - args.beta2) * gradient * gradient;
      exact_m = exact_m * args.beta1 + (1.0 - args.beta1) * gradient;
      const float old = static_cast<float>(frozen[0]);
      frozen[0] = BFloat16(old * args.beta2 + (1 - args.beta2) * gradient * gradient);
    }
    double mean = 0, square = 0, mean_m = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      const double v = static_cast<float>(state.v[i]);
      mean += v / kCount;
      square += (v - exact) * (v - exact) / kCount;
      mean_m += static_cast<double>(static_cast<float>(state.m[i])) / kCount;
    }
    // A rounding errs by at most half a unit's width in deviation, 2^-8 of v; 1 / (1 - beta2^2) = 500 of them
    // add up: at most sqrt(500) * 2^-8 = 8.7 % of the largest v.
    const double largest = std::max<double>(start, gradient * gradient);
    EXPECT_LT(std::sqrt(square), 0.088 * largest);
    EXPECT_GT(std::sqrt(square), 0);
    // The mean of kCount independent elements, at five deviations.
    EXPECT_NEAR(mean, exact, 5 * 0.088 * largest / std::sqrt(1.0 * kCount));
    EXPECT_NEAR(mean_m, exact_m, 5 * 0.01 * gradient / std::sqrt(1.0 * kCount));
    if (start > 0) {
      EXPECT_GT(std::fabs(static_cast<float>(frozen[0]) - exact), 0.2 * exact) << "the bound tells nothing";
    }
  }
}

// Neighbours, steps and seeds draw independent numbers.
TEST(AdamWNarrowMoments, RoundingsDifferFromStepToStep) {
  constexpr int64_t kCount = 512;
  const auto up = [&](int64_t step, uint64_t seed) {
    AdamWArgs args = NarrowArgs(kCount, step, 0);
    args.rounding_seed = seed;
    args.beta1 = args.beta2 = 0.5f;
    args.gradient_scale = 1;
    // m = 1 + 2^-8, midway between two bf16 numbers.
    const std::vector<float> g(kCount, 1 + 0x1p-7f);
    NarrowState state{std::vector<float>(kCount), std::vector<BFloat16>(kCount, BFloat16(1.0f)),
                      std::vector<BFloat16>(kCount, BFloat16(1.0f))};
    AdamW(TestStream(), args, g.data(), state.w.data(), state.m.data(), state.v.data(), {});
    std::vector<int> result(kCount);
    for (int64_t i = 0; i < kCount; ++i) result[i] = state.m[i].bits != BFloat16(1.0f).bits;
    return result;
  };
  const std::vector<int> first = up(3, 5);
  EXPECT_EQ(first, up(3, 5));
  for (const auto& other : {up(4, 5), up(3, 6)}) {
    int same = 0;
    for (int64_t i = 0; i < kCount; ++i) same += first[i] == other[i];
    EXPECT_NEAR(same, kCount / 2, 5 * std::sqrt(kCount / 4.0));
  }
}

TEST(AdamWNarrowMoments, SameBitsWhereverCut) {
  constexpr int64_t kCount = 60007, kFirst = 5;
  const NarrowState before = RandomNarrowState(kCount);
  const auto g = RandomNormal<float>(kCount);
  ForEachInstructionSet([&] {
    NarrowState whole = before, cut = before;
    AdamW(TestStream(), NarrowArgs(kCount, 3, kFirst), g.data(), whole.w.data(), whole.m.data(),
          whole.v.data(), {});
    for (int64_t begin = 0; begin < kCount;) {
      const int64_t count = std::min(RandomInteger(1, 200), kCount - begin);
      AdamW(TestStream(), NarrowArgs(count, 3, kFirst + begin), g.data() + begin, cut.w.data() + begin,
            cut.m.data() + begin, cut.v.data() + begin, {});
      begin += count;
    }
    EXPECT_TRUE(SameBits(whole.w, cut.w));
    EXPECT_TRUE(SameBits(whole.m, cut.m));
    EXPECT_TRUE(SameBits(whole.v, cut.v));
  });
}

TEST(AdamWNarrowMoments, SameBitsAtAnyAlignment) {
  constexpr int64_t kCount = 1003;
  const NarrowState before = RandomNarrowState(kCount);
  const auto g = RandomNormal<float>(kCount);
  for (const int64_t first_index : {0, 1, 2, 3}) {
    NarrowState expected = before;
    AdamW(TestStream(), NarrowArgs(kCount, 7, first_index), g.data(), expected.w.data(), expected.m.data(),
          expected.v.data(), {});
    const auto shifted = [](const auto& values, int64_t by) {
      auto result = values;
      result.insert(result.begin(), by, values[0]);
      return result;
    };
    for (const auto [wide, narrow] : {std::array<int64_t, 2>{1, 1}, {3, 3}, {0, 1}, {2, 0}}) {
      const auto shifted_g = shifted(g, wide);
      NarrowState state{shifted(before.w, wide), shifted(before.m, narrow), shifted(before.v, narrow)};
      AdamW(TestStream(), NarrowArgs(kCount, 7, first_index), shifted_g.data() + wide, state.w.data() + wide,
            state.m.data() + narrow, state.v.data() + narrow, {});
      EXPECT_TRUE(SameBits(std::vector(state.w.begin() + wide, state.w.end()), expected.w));
      EXPECT_TRUE(SameBits(std::vector(state.m.begin() + narrow, state.m.end()), expected.m));
      EXPECT_TRUE(SameBits(std::vector(state.v.begin() + narrow, state.v.end()), expected.v));
    }
  }
}

// Start values and padding: what is zero stays zero, whatever is drawn.
TEST(AdamWNarrowMoments, ZeroStaysZero) {
  constexpr int64_t kCount = 100;
  NarrowState state{std::vector<float>(kCount), std::vector<BFloat16>(kCount), std::vector<BFloat16>(kCount)};
  const std::vector<float> g(kCount);
  for (int64_t step = 1; step <= 20; ++step) {
    AdamW(TestStream(), NarrowArgs(kCount, step, 0), g.data(), state.w.data(), state.m.data(), state.v.data(),
          {});
  }
  for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(state.m[i].bits | state.v[i].bits, 0) << i;
}

// Against torch's step in double: the weights stray from it by what the roundings of the moments add up to.
TEST(AdamWNarrowMoments, StaysNearTorchInDouble) {
  constexpr int64_t kCount = 2000;
  NarrowState state{RandomNormal<float>(kCount), std::vector<BFloat16>(kCount),
                    std::vector<BFloat16>(kCount)};
  reference::AdamWState expected{ToDoubles(state.w), std::vector<double>(kCount),
                                 std::vector<double>(kCount)};
  const std::vector<double> before = expected.w;
  const AdamWArgs args = Args(kCount, 1);
  std::vector<double> moved(kCount), gap(kCount);
  for (int64_t step = 1; step <= 50; ++step) {
    const auto g = RandomNormal<float>(kCount, 0.01f);
    auto scaled = ToDoubles(g);
    for (double& value : scaled) value *= args.gradient_scale;
    reference::AdamW(args.learning_rate, args.beta1, args.beta2, args.epsilon, args.weight_decay, step,
                     scaled, expected);
    AdamW(TestStream(), NarrowArgs(kCount, step, 0), g.data(), state.w.data(), state.m.data(), state.v.data(),
          {});
  }
  for (int64_t i = 0; i < kCount; ++i) {
    moved[i] = expected.w[i] - before[i];
    gap[i] = state.w[i] - before[i];
  }
  // A rounding errs by 0.2 % in deviation. What m and v remember of them adds up to 0.5 % of m and 0.4 % of
  // v's root, with independent signs from element to element: half a percent of a step, so twice that is
  // ample.
  EXPECT_LT(RelativeError(gap, moved), 0.01);
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
  const NarrowState narrow = RandomNarrowState(kCount);
  ExpectThreadIndependent([&] {
    NarrowState state = narrow;
    AdamW(TestStream(), NarrowArgs(kCount, 3, 0), g.data(), state.w.data(), state.m.data(), state.v.data(),
          {});
    return state.v;
  });
}

TEST(AdamW, EmptyRange) {
  for (const DType moments : {DType::kF32, DType::kBF16}) {
    AdamW(TestStream(), Args(0, 1), nullptr, nullptr, Buffer(nullptr, moments), Buffer(nullptr, moments), {});
  }
}

}  // namespace
}  // namespace tanren::kernels
