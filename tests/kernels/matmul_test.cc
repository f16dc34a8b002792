#include "kernels/matmul.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/support.h"
#include "tests/kernels/test_stream.h"
#include "tests/reference/matmul.h"

namespace tanren::kernels {
namespace {

using testing::OnCuda;
using testing::Poisoned;
using testing::RandomInteger;
using testing::RandomNormal;
using testing::SameBits;
using testing::TestStream;
using testing::ThreadScope;
using testing::ToDoubles;

constexpr float kGap = 12288.0f;  // exact in bf16; fills what lies between the rows of a strided matrix

// A matrix inside a wider buffer.
template <class T>
struct Strided {
  int64_t rows, columns, stride;
  std::vector<T> data;

  Strided(int64_t r, int64_t c, int64_t gap, const std::vector<T>& values)
      : rows(r), columns(c), stride(c + gap), data(r * stride, static_cast<T>(kGap)) {
    Set(values);
  }
  void Set(const std::vector<T>& values) {
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(values.begin() + row * columns, columns, data.begin() + row * stride);
    }
  }
  std::vector<T> Dense() const {
    std::vector<T> values(rows * columns);
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(data.begin() + row * stride, columns, values.begin() + row * columns);
    }
    return values;
  }
  bool GapsUntouched() const {
    for (size_t i = 0; i < data.size(); ++i) {
      if (static_cast<int64_t>(i) % stride >= columns && static_cast<float>(data[i]) != kGap) return false;
    }
    return true;
  }
  ConstMatrix Const() const { return {data.data(), stride}; }
  Matrix Mutable() { return {data.data(), stride}; }
};

// How a matrix's gap between rows is drawn. Multiples of 16 bytes let a kernel read whole vectors.
using Gap = int64_t (*)();
int64_t AnyGap() { return RandomInteger(0, 9); }
int64_t VectorGap() { return 8 * RandomInteger(0, 2); }

// Random contents, or NaN where the product must write.
template <class T>
Strided<T> RandomMatrix(int64_t rows, int64_t columns, Gap gap) {
  return {rows, columns, gap(), RandomNormal<T>(rows * columns)};
}
template <class T>
Strided<T> PoisonedMatrix(int64_t rows, int64_t columns, Gap gap) {
  return {rows, columns, gap(), Poisoned<T>(rows * columns)};
}

template <class T>
struct Layer {
  int64_t out, in;
  std::vector<T> weight;
  Linear linear;
  std::vector<char> storage;
  void* packed;

  Layer(int64_t o, int64_t i)
      : out(o), in(i), weight(RandomNormal<T>(o * i)), linear(o, i, kDTypeOf<T>, TestStream().device) {
    const int64_t bytes = linear.PackedBytes(true);
    storage.assign(bytes + 64, '\xff');  // NaN in every dtype
    const auto address = reinterpret_cast<uintptr_t>(storage.data());
    packed = storage.data() + (64 - address % 64) % 64;
    linear.Bind(weight.data(), packed, true);
    linear.Pack(TestStream());
  }
};

// Error of a sum of `terms` products in fp32, in units of the sum's expected size. The CPU adds in blocks. A
// GPU may add all in one accumulator, whose error grows with the root of their number, and its tensor cores
// cut off what the accumulator does not hold, so that theirs grows with the number itself.
template <class In>
double SumTolerance(int64_t terms) {
  if (!OnCuda()) return 2e-6;
  return std::is_same_v<In, float> ? std::max(2e-6, 4e-8 * std::sqrt(terms)) : 2e-6 + 4e-9 * terms;
}

// Sums of `terms` products of unit normals in fp32, or rounded once to bf16. One element alone may cancel, so
// the error is measured against what the elements are expected to be.
template <class In, class Out>
void ExpectClose(const std::vector<Out>& actual, const std::vector<double>& expected, int64_t terms) {
  double square = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    square += std::pow(testing::ToDouble(actual.at(i)) - expected[i], 2);
  const double scale = std::sqrt(static_cast<double>((terms + 1) * expected.size()));
  EXPECT_LE(std::sqrt(square), scale * (std::is_same_v<Out, float> ? SumTolerance<In>(terms) : 1e-2));
}

template <class T, class Out>
void CheckForward(Layer<T>& layer, int64_t rows, bool with_bias, Gap gap = AnyGap) {
  const auto x = RandomMatrix<T>(rows, layer.in, gap);
  const std::vector<T> bias = with_bias ? RandomNormal<T>(layer.out) : std::vector<T>();
  auto y = PoisonedMatrix<Out>(rows, layer.out, gap);
  layer.linear.Forward(TestStream(), rows, x.Const(), with_bias ? ConstBuffer(bias.data()) : ConstBuffer(),
                       y.Mutable());
  const auto expected = reference::LinearForward(rows, layer.out, layer.in, ToDoubles(x.Dense()),
                                                 ToDoubles(layer.weight), ToDoubles(bias));
  ExpectClose<T>(y.Dense(), expected, layer.in);
  EXPECT_TRUE(y.GapsUntouched());
}

template <class T, class Out>
void CheckBackwardInput(Layer<T>& layer, int64_t rows, bool accumulate, Gap gap = AnyGap) {
  const auto dy = RandomMatrix<T>(rows, layer.out, gap);
  auto dx = PoisonedMatrix<Out>(rows, layer.in, gap);
  auto expected = reference::LinearBackwardInput(rows, layer.out, layer.in, ToDoubles(dy.Dense()),
                                                 ToDoubles(layer.weight));
  if (accumulate) {
    const auto before = RandomNormal<Out>(rows * layer.in);
    dx.Set(before);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<float>(before[i]);
  }
  layer.linear.BackwardInput(TestStream(), rows, dy.Const(), dx.Mutable(), accumulate);
  ExpectClose<T>(dx.Dense(), expected, layer.out);
  EXPECT_TRUE(dx.GapsUntouched());
}

template <class T>
void CheckBackwardWeight(Layer<T>& layer, int64_t rows, bool with_bias, Gap gap = AnyGap) {
  const auto dy = RandomMatrix<T>(rows, layer.out, gap);
  const auto x = RandomMatrix<T>(rows, layer.in, gap);
  auto dw = RandomNormal<float>(layer.out * layer.in);
  auto dbias = RandomNormal<float>(layer.out);
  auto expected_dw = ToDoubles(dw);
  auto expected_dbias = ToDoubles(dbias);
  reference::LinearBackwardWeight(rows, layer.out, layer.in, ToDoubles(dy.Dense()), ToDoubles(x.Dense()),
                                  expected_dw);
  if (with_bias) reference::ColumnSum(rows, layer.out, ToDoubles(dy.Dense()), expected_dbias);
  layer.linear.BackwardWeight(TestStream(), rows, dy.Const(), x.Const(), dw.data(),
                              with_bias ? dbias.data() : nullptr);
  ExpectClose<T>(dw, expected_dw, rows);
  ExpectClose<T>(dbias, expected_dbias, rows);
}

template <class T>
class LinearTest : public ::testing::Test {};
using WeightTypes = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(LinearTest, WeightTypes);

constexpr int64_t kShapes[][2] = {{1, 1}, {7, 13}, {97, 97}, {65, 128}, {192, 64}};
constexpr int64_t kRows[] = {1, 33, 257};

// One packing serves every number of rows, so each layer is packed once here.
TYPED_TEST(LinearTest, ThreeProductsMatchDouble) {
  for (const auto& [out, in] : kShapes) {
    Layer<TypeParam> layer(out, in);
    for (const int64_t rows : kRows) {
      SCOPED_TRACE(std::to_string(out) + "x" + std::to_string(in) + " rows " + std::to_string(rows));
      const bool flag = RandomInteger(0, 1) == 1;
      CheckForward<TypeParam, TypeParam>(layer, rows, flag);
      CheckForward<TypeParam, float>(layer, rows, !flag);
      CheckBackwardInput<TypeParam, TypeParam>(layer, rows, flag);
      CheckBackwardInput<TypeParam, float>(layer, rows, !flag);
      CheckBackwardInput<TypeParam, TypeParam>(layer, rows, !flag);
      CheckBackwardWeight<TypeParam>(layer, rows, flag);
    }
  }
}

// Shapes and strides of whole vectors and several tiles, as models have them.
TYPED_TEST(LinearTest, WholeVectorsAndTiles) {
  constexpr int64_t kOut = 256, kIn = 192, kCount = 256;
  Layer<TypeParam> layer(kOut, kIn);
  const bool flag = RandomInteger(0, 1) == 1;
  CheckForward<TypeParam, TypeParam>(layer, kCount, flag, VectorGap);
  CheckForward<TypeParam, float>(layer, kCount, !flag, VectorGap);
  CheckBackwardInput<TypeParam, TypeParam>(layer, kCount, flag, VectorGap);
  CheckBackwardInput<TypeParam, float>(layer, kCount, !flag, VectorGap);
  CheckBackwardWeight<TypeParam>(layer, kCount, flag, VectorGap);
}

// Decoding: few rows of whole vectors, with columns that no tile divides and depths of several sizes of pass.
TYPED_TEST(LinearTest, FewRowsOfWholeVectors) {
  for (const int64_t in : {8, 264, 1000, 2304}) {
    Layer<TypeParam> layer(37, in);
    for (int64_t rows = 1; rows <= 9; ++rows) {
      const bool flag = RandomInteger(0, 1) == 1;
      CheckForward<TypeParam, TypeParam>(layer, rows, flag, VectorGap);
      CheckForward<TypeParam, float>(layer, rows, !flag, VectorGap);
    }
  }
  Layer<TypeParam> wide(4130, 72);
  for (const int64_t rows : {1, 7, 8}) CheckForward<TypeParam, float>(wide, rows, true, VectorGap);
}

// Of up to 8 rows in bf16 on a GPU: a row has the same bits however many others there are.
TEST(LinearRowsTest, ARowDoesNotDependOnTheOthers) {
  if (!OnCuda()) GTEST_SKIP() << "the CPU's products choose their blocking by the number of rows";
  for (const int64_t out : {37, 4130}) {
    constexpr int64_t kIn = 520, kMost = 8;
    const auto weight = RandomNormal<BFloat16>(out * kIn), x = RandomNormal<BFloat16>(kMost * kIn);
    Linear linear(out, kIn, DType::kBF16, TestStream().device);
    linear.Bind(weight.data(), nullptr, false);
    linear.Pack(TestStream());
    std::vector<float> all(kMost * out);
    linear.Forward(TestStream(), kMost, {x.data(), kIn}, {}, {all.data(), out});
    for (const int64_t rows : {1, 3, 5}) {
      std::vector<float> some(rows * out);
      linear.Forward(TestStream(), rows, {x.data(), kIn}, {}, {some.data(), out});
      EXPECT_TRUE(SameBits(some, std::vector<float>(all.begin(), all.begin() + rows * out)))
          << rows << " rows";
    }
  }
}

// Everything begins one element into its memory.
TYPED_TEST(LinearTest, TakesOperandsAtAnyAddress) {
  constexpr int64_t kOut = 48, kIn = 64, kCount = 40;
  const auto tail = [](const auto& values) {
    auto doubles = ToDoubles(values);
    doubles.erase(doubles.begin());
    return doubles;
  };
  const auto weight = RandomNormal<TypeParam>(1 + kOut * kIn);
  const auto bias = RandomNormal<TypeParam>(1 + kOut);
  const auto x = RandomNormal<TypeParam>(1 + kCount * kIn);
  const auto dy = RandomNormal<TypeParam>(1 + kCount * kOut);
  auto y = Poisoned<TypeParam>(1 + kCount * kOut), dx = Poisoned<TypeParam>(1 + kCount * kIn);
  auto wide_y = Poisoned<float>(1 + kCount * kOut);
  std::vector<float> dw(1 + kOut * kIn, 0.5f), dbias(1 + kOut, 0.5f);
  auto expected_dw = tail(dw), expected_dbias = tail(dbias);

  Layer<TypeParam> layer(kOut, kIn);
  layer.linear.Bind(weight.data() + 1, layer.packed, true);
  layer.linear.Pack(TestStream());
  layer.linear.Forward(TestStream(), kCount, {x.data() + 1, kIn}, bias.data() + 1, {y.data() + 1, kOut});
  layer.linear.Forward(TestStream(), kCount, {x.data() + 1, kIn}, bias.data() + 1, {wide_y.data() + 1, kOut});
  layer.linear.BackwardInput(TestStream(), kCount, {dy.data() + 1, kOut}, {dx.data() + 1, kIn}, false);
  layer.linear.BackwardWeight(TestStream(), kCount, {dy.data() + 1, kOut}, {x.data() + 1, kIn}, dw.data() + 1,
                              dbias.data() + 1);

  const auto expected_y = reference::LinearForward(kCount, kOut, kIn, tail(x), tail(weight), tail(bias));
  const auto expected_dx = reference::LinearBackwardInput(kCount, kOut, kIn, tail(dy), tail(weight));
  reference::LinearBackwardWeight(kCount, kOut, kIn, tail(dy), tail(x), expected_dw);
  reference::ColumnSum(kCount, kOut, tail(dy), expected_dbias);
  ExpectClose<TypeParam>(std::vector(y.begin() + 1, y.end()), expected_y, kIn);
  ExpectClose<TypeParam>(std::vector(wide_y.begin() + 1, wide_y.end()), expected_y, kIn);
  ExpectClose<TypeParam>(std::vector(dx.begin() + 1, dx.end()), expected_dx, kOut);
  ExpectClose<TypeParam>(std::vector(dw.begin() + 1, dw.end()), expected_dw, kCount);
  ExpectClose<TypeParam>(std::vector(dbias.begin() + 1, dbias.end()), expected_dbias, kCount);
}

TYPED_TEST(LinearTest, NoRowsIsNoWork) {
  Layer<TypeParam> layer(5, 3);
  std::vector<float> dw(15, 1.0f), dbias(5, 1.0f);
  layer.linear.Forward(TestStream(), 0, {static_cast<TypeParam*>(nullptr), 3}, {},
                       {static_cast<TypeParam*>(nullptr), 5});
  layer.linear.BackwardInput(TestStream(), 0, {static_cast<TypeParam*>(nullptr), 5},
                             {static_cast<TypeParam*>(nullptr), 3}, false);
  layer.linear.BackwardWeight(TestStream(), 0, {static_cast<TypeParam*>(nullptr), 5},
                              {static_cast<TypeParam*>(nullptr), 3}, dw.data(), dbias.data());
  EXPECT_EQ(dw, std::vector<float>(15, 1.0f));
  EXPECT_EQ(dbias, std::vector<float>(5, 1.0f));
}

// A decode slot holds any sequence: a row's bits must not depend on its place or on its neighbours.
TYPED_TEST(LinearTest, RowBitsDependOnNeitherPlaceNorNeighbours) {
  constexpr int64_t kOut = 200, kIn = 130;
  for (const int threads : OnCuda() ? std::vector{1} : std::vector{1, 2, 5}) {
    const ThreadScope scope(threads);
    Layer<TypeParam> layer(kOut, kIn);
    const auto row = RandomNormal<TypeParam>(kIn);
    const auto bias = RandomNormal<TypeParam>(kOut);
    const auto dy_row = RandomNormal<TypeParam>(kOut);
    for (const int64_t rows : {8, 70, 128, 250}) {
      std::vector<TypeParam> first, first_dx;
      for (int64_t place = 0; place < rows; place += rows / 6) {
        auto x = RandomNormal<TypeParam>(rows * kIn);
        auto dy = RandomNormal<TypeParam>(rows * kOut);
        if (place > 0) x[0] = TypeParam(testing::kNaN);
        std::copy(row.begin(), row.end(), x.begin() + place * kIn);
        std::copy(dy_row.begin(), dy_row.end(), dy.begin() + place * kOut);
        std::vector<TypeParam> y(rows * kOut), dx(rows * kIn);
        layer.linear.Forward(TestStream(), rows, {x.data(), kIn}, bias.data(), {y.data(), kOut});
        layer.linear.BackwardInput(TestStream(), rows, {dy.data(), kOut}, {dx.data(), kIn}, false);
        const std::vector<TypeParam> result(y.begin() + place * kOut, y.begin() + (place + 1) * kOut);
        const std::vector<TypeParam> result_dx(dx.begin() + place * kIn, dx.begin() + (place + 1) * kIn);
        if (place == 0) first = result, first_dx = result_dx;
        ASSERT_TRUE(SameBits(result, first))
            << "rows " << rows << " place " << place << " threads " << threads;
        ASSERT_TRUE(SameBits(result_dx, first_dx)) << "rows " << rows << " place " << place;
      }
    }
  }
}

TYPED_TEST(LinearTest, RepeatsBitForBit) {
  constexpr int64_t kOut = 193, kIn = 321, kCount = 300;
  Layer<TypeParam> layer(kOut, kIn);
  const auto x = RandomNormal<TypeParam>(kCount * kIn);
  const auto dy = RandomNormal<TypeParam>(kCount * kOut);
  std::vector<TypeParam> y[2];
  std::vector<float> dw[2];
  for (int run = 0; run < 2; ++run) {
    Layer<TypeParam> other(kOut, kIn);  // a second object with the same weight
    std::copy(layer.weight.begin(), layer.weight.end(), other.weight.begin());
    other.linear.Pack(TestStream());
    y[run].resize(kCount * kOut);
    dw[run].assign(kOut * kIn, 0.5f);
    other.linear.Forward(TestStream(), kCount, {x.data(), kIn}, {}, {y[run].data(), kOut});
    other.linear.BackwardWeight(TestStream(), kCount, {dy.data(), kOut}, {x.data(), kIn}, dw[run].data(),
                                nullptr);
  }
  EXPECT_TRUE(SameBits(y[0], y[1]));
  EXPECT_TRUE(SameBits(dw[0], dw[1]));
}

TYPED_TEST(LinearTest, PackTakesTheChangedWeight) {
  Layer<TypeParam> layer(33, 70);
  CheckForward<TypeParam, float>(layer, 5, true);
  const auto changed = RandomNormal<TypeParam>(layer.weight.size());
  std::copy(changed.begin(), changed.end(), layer.weight.begin());
  layer.linear.Pack(TestStream());
  CheckForward<TypeParam, float>(layer, 5, true);
  CheckBackwardInput<TypeParam, float>(layer, 5, false);
}

// More row counts than the cache of compiled products holds.
TYPED_TEST(LinearTest, SurvivesManyRowCounts) {
  Layer<TypeParam> layer(20, 30);
  for (int64_t rows = 1; rows <= 60; ++rows) CheckForward<TypeParam, TypeParam>(layer, rows, true);
  CheckForward<TypeParam, TypeParam>(layer, 1, true);
}

TYPED_TEST(LinearTest, LargeRowCount) {
  Layer<TypeParam> layer(16, 8);
  CheckForward<TypeParam, TypeParam>(layer, 16411, true);
  CheckBackwardInput<TypeParam, TypeParam>(layer, 16411, false);
  CheckBackwardWeight<TypeParam>(layer, 16411, true);
}

// Runs the tests of the filter in a new process with variables set there: what reads them does so once.
struct Variable {
  const char* name;
  const char* value;
};
void ExpectChildPasses(std::vector<Variable> variables, const char* filter) {
  if (std::getenv("TANREN_TEST_CHILD") != nullptr) GTEST_SKIP() << "already a child";
  // Not from this process's heap, which the child of a process with a GPU does not have.
  std::array<Variable, 4> copies = {};
  ASSERT_LT(variables.size(), copies.size());
  std::copy(variables.begin(), variables.end(), copies.begin());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (const auto& [name, value] : copies) {
      if (name != nullptr) setenv(name, value, 1);
    }
    setenv("TANREN_TEST_CHILD", "1", 1);
    execl("/proc/self/exe", "tanren_kernels_test", filter, "--gtest_brief=1", nullptr);
    _exit(127);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// The other code paths are those of processors without AVX-512, and with AVX-512 but without bf16.
class LinearOnProcessor : public ::testing::TestWithParam<const char*> {};

TEST_P(LinearOnProcessor, PassesTheSameTests) {
  if (OnCuda()) GTEST_SKIP() << "instruction sets are the CPU's";
  // Threads wait passively: many short products, and more threads than cores.
  ExpectChildPasses({{"ONEDNN_MAX_CPU_ISA", GetParam()}, {"OMP_WAIT_POLICY", "passive"}},
                    "--gtest_filter=LinearTest*Three*:LinearTest*RowBits*");
}
INSTANTIATE_TEST_SUITE_P(Isa, LinearOnProcessor, ::testing::Values("AVX2", "AVX512_CORE"));

// On a GPU: the kernel for what cuBLASLt declines, and the choice of algorithms by time.
class LinearWithSwitch : public ::testing::TestWithParam<const char*> {};

TEST_P(LinearWithSwitch, PassesTheSameTests) {
  if (!OnCuda()) GTEST_SKIP() << "the switches are the CUDA backend's";
  ExpectChildPasses({{GetParam(), "1"}},
                    "--gtest_filter=LinearTest*Three*:LinearTest*RowBits*:LinearTest*Whole*:"
                    "LinearTest*Repeats*:LinearTest*AnyAddress*");
}
INSTANTIATE_TEST_SUITE_P(Switch, LinearWithSwitch,
                         ::testing::Values("TANREN_PLAIN_MATMUL", "TANREN_TUNE_MATMUL"));

}  // namespace
}  // namespace tanren::kernels
