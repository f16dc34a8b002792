// The three products of the linear layers of GPT-2 124M, as shares of the measured peak.
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/matmul.h"
#include "tests/kernels/machine_peak.h"

namespace tanren::kernels::benchmarks {
namespace {

enum Product { kForwardProduct, kInputProduct, kWeightProduct, kPack };

template <class T>
std::vector<T> RandomValues(int64_t count) {
  std::minstd_rand generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> pattern(65521);
  for (float& value : pattern) value = normal(generator);
  std::vector<T> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(pattern[i % pattern.size()]);
  return values;
}

template <class T>
void RunProduct(benchmark::State& state, Product product) {
  static const double peak = PeakFlops(kDTypeOf<T>);
  const int64_t rows = state.range(0), out = state.range(1), in = state.range(2);
  const auto w = RandomValues<T>(out * in), x = RandomValues<T>(rows * in), dy = RandomValues<T>(rows * out);
  std::vector<T> y(rows * out), dx(rows * in);
  std::vector<float> dw(out * in);
  Linear linear(out, in, kDTypeOf<T>);
  const size_t bytes = linear.PackedBytes(true);
  void* packed = bytes > 0 ? std::aligned_alloc(64, bytes) : nullptr;
  linear.Bind(w.data(), packed, true);
  linear.Pack({});
  for (auto _ : state) {
    switch (product) {
      case kForwardProduct:
        linear.Forward({}, rows, {x.data(), in}, {}, {y.data(), out});
        break;
      case kInputProduct:
        linear.BackwardInput({}, rows, {dy.data(), out}, {dx.data(), in}, false);
        break;
      case kWeightProduct:
        linear.BackwardWeight({}, rows, {dy.data(), out}, {x.data(), in}, dw.data(), nullptr);
        break;
      case kPack:
        linear.Pack({});
        break;
    }
  }
  std::free(packed);
  if (product == kPack) {
    // A read and a write of each of the two copies.
    state.SetBytesProcessed(state.iterations() * out * in * static_cast<int64_t>(sizeof(T)) * 4);
    return;
  }
  const double flops = 2.0 * rows * out * in;
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_peak"] = benchmark::Counter(flops / peak, benchmark::Counter::kIsIterationInvariantRate);
}

void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "out", "in"})->Unit(benchmark::kMillisecond);
  if (!MeasuresProcessorTime()) benchmark->UseRealTime();
  for (const int64_t rows : {256, 1024, 4096}) {
    for (const auto& [out, in] : {std::pair{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}, {50304, 768}}) {
      if (out > 10000 && rows > 1024) continue;
      benchmark->Args({rows, out, in});
    }
  }
}
void PackShapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "out", "in"})->Unit(benchmark::kMillisecond);
  if (!MeasuresProcessorTime()) benchmark->UseRealTime();
  benchmark->Args({1, 3072, 768})->Args({1, 768, 3072})->Args({1, 50304, 768});
}

void Float32(benchmark::State& state, Product product) { RunProduct<float>(state, product); }
void BFloat(benchmark::State& state, Product product) { RunProduct<BFloat16>(state, product); }

BENCHMARK_CAPTURE(Float32, forward, kForwardProduct)->Apply(Shapes);
BENCHMARK_CAPTURE(Float32, input_gradient, kInputProduct)->Apply(Shapes);
BENCHMARK_CAPTURE(Float32, weight_gradient, kWeightProduct)->Apply(Shapes);
BENCHMARK_CAPTURE(Float32, pack, kPack)->Apply(PackShapes);
BENCHMARK_CAPTURE(BFloat, forward, kForwardProduct)->Apply(Shapes);
BENCHMARK_CAPTURE(BFloat, input_gradient, kInputProduct)->Apply(Shapes);
BENCHMARK_CAPTURE(BFloat, weight_gradient, kWeightProduct)->Apply(Shapes);
BENCHMARK_CAPTURE(BFloat, pack, kPack)->Apply(PackShapes);

}  // namespace
}  // namespace tanren::kernels::benchmarks
