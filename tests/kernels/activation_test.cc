#include "kernels/activation.h"

#include <gtest/gtest.h>

#include "tests/kernels/test_stream.h"
#include "tests/kernels/testing.h"
#include "tests/reference/activation.h"

namespace tanren::kernels::testing {
namespace {

constexpr Activation kKinds[] = {Activation::kGelu, Activation::kGeluTanh, Activation::kSwiGlu,
                                 Activation::kGeGlu};

double Value(Activation kind, double x) {
  if (kind == Activation::kGelu) return reference::Gelu(x);
  return kind == Activation::kSwiGlu ? reference::Silu(x) : reference::GeluTanh(x);
}
double Slope(Activation kind, double x) {
  if (kind == Activation::kGelu) return reference::GeluSlope(x);
  return kind == Activation::kSwiGlu ? reference::SiluSlope(x) : reference::GeluTanhSlope(x);
}

std::vector<double> ReferenceForward(Activation kind, int64_t rows, int64_t width,
                                     const std::vector<double>& x) {
  std::vector<double> y(rows * width);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; ++i) {
      y[r * width + i] = IsGated(kind) ? Value(kind, x[r * 2 * width + i]) * x[(r * 2 + 1) * width + i]
                                       : Value(kind, x[r * width + i]);
    }
  }
  return y;
}

std::vector<double> ReferenceBackward(Activation kind, int64_t rows, int64_t width,
                                      const std::vector<double>& dy, const std::vector<double>& x) {
  std::vector<double> dx(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; ++i) {
      const double grad = dy[r * width + i];
      if (!IsGated(kind)) {
        dx[r * width + i] = grad * Slope(kind, x[r * width + i]);
        continue;
      }
      const int64_t gate = r * 2 * width + i, up = gate + width;
      dx[gate] = grad * x[up] * Slope(kind, x[gate]);
      dx[up] = grad * Value(kind, x[gate]);
    }
  }
  return dx;
}

template <class T>
class ActivationTest : public ::testing::Test {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(ActivationTest, Types);

TYPED_TEST(ActivationTest, AgreesWithTheReference) {
  using T = TypeParam;
  ForEachInstructionSet([] {
    for (const Activation kind : kKinds) {
      for (const auto& [rows, width] :
           {std::pair<int64_t, int64_t>{1, 7}, {3, 17}, {61, 65}, {5, 4099}, {3, 8}, {67, 768}, {9, 11008}}) {
        SCOPED_TRACE(::testing::Message() << "kind " << int(kind) << ", " << rows << " x " << width);
        const std::vector<double> x = NormalOf<T>(rows * width * (IsGated(kind) ? 2 : 1), 2);
        const std::vector<double> dy = NormalOf<T>(rows * width);
        const std::vector<T> typed_x = To<T>(x), typed_dy = To<T>(dy);
        std::vector<T> y = Poisoned<T>(rows * width), dx = Poisoned<T>(x.size()), in_place = typed_x;
        ActivationForward(TestStream(), kind, rows, width, typed_x.data(), y.data());
        ActivationBackward(TestStream(), kind, rows, width, typed_dy.data(), typed_x.data(), dx.data());
        ActivationBackward(TestStream(), kind, rows, width, typed_dy.data(), in_place.data(),
                           in_place.data());
        ExpectNear(y, ReferenceForward(kind, rows, width, x), "y");
        ExpectNear(dx, ReferenceBackward(kind, rows, width, dy, x), "dx");
        EXPECT_TRUE(SameBits(dx, in_place));
      }
    }
  });
}

// Elements that go in vectors and those that go one by one meet the same arithmetic.
TYPED_TEST(ActivationTest, DoesNotDependOnAlignment) {
  using T = TypeParam;
  const int64_t rows = 5, width = 1024;
  for (const Activation kind : kKinds) {
    const std::vector<T> x = RandomNormal<T>(rows * width * (IsGated(kind) ? 2 : 1), 2),
                         dy = RandomNormal<T>(rows * width);
    std::vector<T> shifted_x(1), shifted_dy(1);
    shifted_x.insert(shifted_x.end(), x.begin(), x.end());
    shifted_dy.insert(shifted_dy.end(), dy.begin(), dy.end());
    std::vector<T> y = Poisoned<T>(dy.size()), dx = Poisoned<T>(x.size()), shifted_y = y, shifted_dx = dx;
    ActivationForward(TestStream(), kind, rows, width, x.data(), y.data());
    ActivationForward(TestStream(), kind, rows, width, shifted_x.data() + 1, shifted_y.data());
    EXPECT_TRUE(SameBits(y, shifted_y)) << "kind " << int(kind);
    ActivationBackward(TestStream(), kind, rows, width, dy.data(), x.data(), dx.data());
    ActivationBackward(TestStream(), kind, rows, width, shifted_dy.data() + 1, shifted_x.data() + 1,
                       shifted_dx.data());
    EXPECT_TRUE(SameBits(dx, shifted_dx)) << "kind " << int(kind);
  }
}

TYPED_TEST(ActivationTest, NothingToDo) {
  TypeParam* const none = nullptr;
  for (const Activation kind : kKinds) {
    ActivationForward(TestStream(), kind, 0, 16, none, none);
    ActivationBackward(TestStream(), kind, 0, 16, none, none, none);
  }
}

// On a GPU: from one run to the next.
TYPED_TEST(ActivationTest, DoesNotDependOnThreads) {
  using T = TypeParam;
  const int64_t rows = 67, width = 1031;
  for (const Activation kind : kKinds) {
    const std::vector<T> x = RandomNormal<T>(rows * width * (IsGated(kind) ? 2 : 1)),
                         dy = RandomNormal<T>(rows * width);
    ExpectThreadIndependent([&] {
      std::vector<T> y = Poisoned<T>(rows * width);
      ActivationForward(TestStream(), kind, rows, width, x.data(), y.data());
      return y;
    });
    ExpectThreadIndependent([&] {
      std::vector<T> dx = Poisoned<T>(x.size());
      ActivationBackward(TestStream(), kind, rows, width, dy.data(), x.data(), dx.data());
      return dx;
    });
  }
}

// The tails matter: a value that is wrong in relation to itself hides in a norm over many values.
TEST(ActivationTailTest, EveryValueIsAccurateInRelationToItself) {
  std::vector<float> x;
  for (int i = -1600; i <= 1600; ++i) x.push_back(static_cast<float>(i) / 128 + 1e-3f);
  ForEachInstructionSet([&] {
    for (const Activation kind : {Activation::kGelu, Activation::kGeluTanh}) {
      std::vector<float> y = Poisoned<float>(x.size());
      ActivationForward(TestStream(), kind, 1, x.size(), x.data(), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        // The reference of the tanh form cancels below -4; its exact form is x * sigmoid.
        const double exact = kind == Activation::kGelu
                                 ? reference::Gelu<double>(x[i])
                                 : x[i] / (1 + std::exp(-2 * std::sqrt(2 / M_PI) *
                                                        (x[i] + 0.044715 * std::pow(double(x[i]), 3))));
        const double tolerance = kind == Activation::kGelu ? 1e-5 : 1e-4;  // e^-x has an error of |x| ulp
        ASSERT_NEAR(y[i], exact, tolerance * std::abs(exact) + 1e-37) << "x = " << x[i];
      }
    }
  });
}

TEST(ActivationTailTest, LargeInputs) {
  const std::vector<float> x = {-1e30f, -200.0f, -0.0f, 0.0f, 200.0f, 1e30f, kNaN};
  const std::vector<float> ones(x.size(), 1.0f);
  ForEachInstructionSet([&] {
    for (const Activation kind : {Activation::kGelu, Activation::kGeluTanh}) {
      std::vector<float> y(x.size(), -7.0f), dx(x.size(), -7.0f);
      ActivationForward(TestStream(), kind, 1, x.size(), x.data(), y.data());
      ActivationBackward(TestStream(), kind, 1, x.size(), ones.data(), x.data(), dx.data());
      for (int i : {0, 1, 2, 3}) EXPECT_EQ(y[i], 0.0f) << x[i];
      for (int i : {4, 5}) EXPECT_EQ(y[i], x[i]);
      for (int i : {0, 1}) EXPECT_EQ(dx[i], 0.0f) << x[i];
      for (int i : {2, 3}) EXPECT_EQ(dx[i], 0.5f);
      for (int i : {4, 5}) EXPECT_EQ(dx[i], 1.0f);
      EXPECT_TRUE(std::isnan(y[6]) && std::isnan(dx[6]));
    }
  });
}

TEST(ActivationReferenceTest, SlopesAgreeWithDifferences) {
  std::vector<double> x = {-3, -1.1, -0.3, 0, 0.2, 0.9, 2.5};
  for (const Activation kind : {Activation::kGelu, Activation::kGeluTanh, Activation::kSwiGlu}) {
    std::vector<double> slopes;
    for (double value : x) slopes.push_back(Slope(kind, value));
    const auto sum = [&] {
      double total = 0;
      for (double value : x) total += Value(kind, value);
      return total;
    };
    EXPECT_LT(Gap(slopes, Differences(x, sum)), 1e-8);
  }
}

}  // namespace
}  // namespace tanren::kernels::testing
