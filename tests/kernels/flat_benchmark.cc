// Kernels that move memory, as shares of a triad measured in the same run, and token sampling.
#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/embedding.h"
#include "kernels/optimizer.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/sampling.h"
#include "tests/kernels/machine_peak.h"

namespace tanren::kernels::benchmarks {
namespace {

constexpr int64_t kCount = 1 << 24;

void Clock(benchmark::internal::Benchmark* benchmark) {
  if (!MeasuresProcessorTime()) benchmark->UseRealTime();
}

void SetBytes(benchmark::State& state, double bytes) {
  static const double triad = TriadBytesPerSecond();
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_triad"] =
      benchmark::Counter(bytes / triad, benchmark::Counter::kIsIterationInvariantRate);
}

template <class Model, class Moment>
void AdamWStep(benchmark::State& state) {
  std::vector<float> g(kCount, 0.01f), w(kCount, 1);
  std::vector<Moment> m(kCount), v(kCount);
  std::vector<Model> w_model(kCount);
  AdamWArgs args{.count = kCount, .learning_rate = 1e-3f, .weight_decay = 0.1f};
  for (auto _ : state) {
    AdamW({}, args, g.data(), w.data(), m.data(), v.data(), w_model.data());
    ++args.step;
  }
  SetBytes(state, (12.0 + 4 * sizeof(Moment) + sizeof(Model)) * kCount);
}
BENCHMARK(AdamWStep<float, float>)->Apply(Clock)->Unit(benchmark::kMillisecond);
BENCHMARK(AdamWStep<BFloat16, float>)->Apply(Clock)->Unit(benchmark::kMillisecond);
BENCHMARK(AdamWStep<BFloat16, BFloat16>)->Apply(Clock)->Unit(benchmark::kMillisecond);

void SquareSum(benchmark::State& state) {
  const std::vector<float> x(kCount, 0.5f);
  double result;
  for (auto _ : state) SumOfSquares({}, x.data(), kCount, &result);
  SetBytes(state, 4.0 * kCount);
}
BENCHMARK(SquareSum)->Apply(Clock)->Unit(benchmark::kMillisecond);

void DigestBytes(benchmark::State& state) {
  const std::vector<float> x(kCount, 0.5f);
  uint64_t result;
  for (auto _ : state) Digest({}, 4 * kCount, x.data(), &result);
  SetBytes(state, 4.0 * kCount);
}
BENCHMARK(DigestBytes)->Apply(Clock)->Unit(benchmark::kMillisecond);

void CastToBf16(benchmark::State& state) {
  const std::vector<float> x(kCount, 0.5f);
  std::vector<BFloat16> y(kCount);
  for (auto _ : state) Cast({}, kCount, x.data(), y.data());
  SetBytes(state, 6.0 * kCount);
}
BENCHMARK(CastToBf16)->Apply(Clock)->Unit(benchmark::kMillisecond);

void SumColumns(benchmark::State& state) {
  const std::vector<BFloat16> x(4096 * 3072, BFloat16(0.5f));
  std::vector<float> out(3072);
  for (auto _ : state) ColumnSum({}, 4096, 3072, x.data(), 3072, out.data());
  SetBytes(state, 2.0 * 4096 * 3072);
}
BENCHMARK(SumColumns)->Apply(Clock)->Unit(benchmark::kMillisecond);

void Normals(benchmark::State& state) {
  std::vector<float> x(kCount);
  for (auto _ : state) FillNormal({}, 1, 2, 0, kCount, 0.02f, x.data());
  state.SetItemsProcessed(state.iterations() * kCount);
}
BENCHMARK(Normals)->Apply(Clock)->Unit(benchmark::kMillisecond);

void EmbeddingGradient(benchmark::State& state) {
  constexpr int64_t kTokens = 4096, kWidth = 768, kRows = 50304;
  std::vector<int32_t> ids(kTokens);
  for (int64_t t = 0; t < kTokens; ++t) {
    const double u = RandomUniform(1, 2, t);
    ids[t] = static_cast<int32_t>(u * u * u * u * kRows);  // few ids often, most seldom, as in text
  }
  const std::vector<BFloat16> dy(kTokens * kWidth, BFloat16(0.5f));
  std::vector<float> dtable(kRows * kWidth);
  const EmbeddingArgs args{
      .tokens = kTokens, .width = kWidth, .ids = ids.data(), .first_id = 0, .rows = kRows};
  for (auto _ : state) EmbeddingBackward({}, args, dy.data(), 1, dtable.data());
  SetBytes(state, (2.0 + 8.0) * kTokens * kWidth);
}
BENCHMARK(EmbeddingGradient)->Apply(Clock)->Unit(benchmark::kMillisecond);

// One row of a vocabulary of 128k; range(0): 0 greedy, 1 plain, 2 top-k 50, 3 top-p 0.9, 4 nearly uniform.
void Sample(benchmark::State& state) {
  constexpr int64_t kVocab = 128256;
  std::vector<float> logits(kVocab);
  FillNormal({}, 3, 4, 0, kVocab, state.range(0) == 4 ? 0.1f : 3.0f, logits.data());
  SamplingParams params;
  if (state.range(0) == 0) params.temperature = 0;
  if (state.range(0) == 2) params.top_k = 50;
  if (state.range(0) == 3) params.top_p = 0.9f;
  SampleResult result;
  for (auto _ : state) {
    SampleTokens({}, 1, kVocab, kVocab, logits.data(), &params, &result);
    ++params.index;
  }
}
BENCHMARK(Sample)->DenseRange(0, 4)->Apply(Clock)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tanren::kernels::benchmarks
