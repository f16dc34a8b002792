// Norms, activations and the head's passes over the logits, as shares of a triad measured in the same run.
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/activation.h"
#include "kernels/head.h"
#include "kernels/norm.h"
#include "tests/kernels/machine_peak.h"

namespace tanren::kernels::benchmarks {
namespace {

constexpr int64_t kRows = 4096, kWidth = 768;

void SetBytes(benchmark::State& state, double bytes) {
  static const double triad = TriadBytesPerSecond();
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_triad"] =
      benchmark::Counter(bytes / triad, benchmark::Counter::kIsIterationInvariantRate);
}

template <class T>
void LayerNormWithResidual(benchmark::State& state) {
  std::vector<T> x(kRows * kWidth, T(0.5f)), delta = x, sum = x, y = x, weight(kWidth, T(1.0f)),
                                             bias = weight;
  std::vector<float> mean(kRows), rstd(kRows);
  NormForwardArgs args;
  args.kind = NormKind::kLayer, args.rows = kRows, args.width = kWidth;
  args.x = x.data(), args.delta = delta.data(), args.sum = sum.data(), args.y = y.data();
  args.weight = weight.data(), args.bias = bias.data();
  args.mean = mean.data(), args.rstd = rstd.data();
  for (auto _ : state) NormForward({}, args);
  SetBytes(state, 4.0 * kRows * kWidth * sizeof(T));
}
BENCHMARK(LayerNormWithResidual<float>)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(LayerNormWithResidual<BFloat16>)->UseRealTime()->Unit(benchmark::kMicrosecond);

template <class T>
void LayerNormBackward(benchmark::State& state) {
  std::vector<T> x(kRows * kWidth, T(0.5f)), dy = x, dresidual = x, dx = x, weight(kWidth, T(1.0f));
  std::vector<float> mean(kRows), rstd(kRows, 1), dweight(kWidth), dbias(kWidth);
  NormBackwardArgs args;
  args.kind = NormKind::kLayer, args.rows = kRows, args.width = kWidth;
  args.x = x.data(), args.dy = dy.data(), args.dresidual = dresidual.data(), args.dx = dx.data();
  args.weight = weight.data(), args.mean = mean.data(), args.rstd = rstd.data();
  args.dweight = dweight.data(), args.dbias = dbias.data();
  for (auto _ : state) NormBackward({}, args);
  SetBytes(state, 4.0 * kRows * kWidth * sizeof(T));
}
BENCHMARK(LayerNormBackward<float>)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(LayerNormBackward<BFloat16>)->UseRealTime()->Unit(benchmark::kMicrosecond);

template <class T, Activation kKind>
void Activate(benchmark::State& state) {
  const int64_t width = 3072, in = width * (IsGated(kKind) ? 2 : 1);
  std::vector<T> x(kRows * in, T(0.5f)), y(kRows * width);
  for (auto _ : state) ActivationForward({}, kKind, kRows, width, x.data(), y.data());
  SetBytes(state, double(sizeof(T)) * kRows * (in + width));
}
BENCHMARK(Activate<float, Activation::kGelu>)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(Activate<float, Activation::kGeluTanh>)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(Activate<BFloat16, Activation::kSwiGlu>)->UseRealTime()->Unit(benchmark::kMicrosecond);

struct Logits {
  Logits() {
    shard = {.rows = 256, .vocab = 50304, .valid = 50257};
    shard.targets = targets.data();
  }
  std::vector<int32_t> targets = std::vector<int32_t>(256, 17);
  std::vector<float> logits = std::vector<float>(256 * 50304, 0.5f),
                     statistic = std::vector<float>(256, 10.0f);
  std::vector<float> sums = std::vector<float>(3 * 256);
  LogitShard shard;
};

void LogitMaxPass(benchmark::State& state) {
  Logits l;
  for (auto _ : state) LogitRowMax({}, l.shard, l.logits.data(), l.statistic.data());
  SetBytes(state, 4.0 * l.logits.size());
}
BENCHMARK(LogitMaxPass)->UseRealTime()->Unit(benchmark::kMicrosecond);

void LogitSumsPass(benchmark::State& state) {
  Logits l;
  for (auto _ : state) LogitRowSums({}, l.shard, l.logits.data(), l.statistic.data(), l.sums.data());
  SetBytes(state, 4.0 * l.logits.size());
}
BENCHMARK(LogitSumsPass)->UseRealTime()->Unit(benchmark::kMicrosecond);

void LogitGradientPass(benchmark::State& state) {
  Logits l;
  std::vector<BFloat16> dlogits(l.logits.size());
  const float* s = l.statistic.data();
  for (auto _ : state) LogitGradient({}, l.shard, l.logits.data(), s, s, s, s, nullptr, dlogits.data());
  SetBytes(state, 6.0 * l.logits.size());
}
BENCHMARK(LogitGradientPass)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tanren::kernels::benchmarks
