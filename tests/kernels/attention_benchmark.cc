// Attention forward and backward over packed rows and decoding from a cache. Products run in fp32 for both
// element types, so shares are of the fp32 peak; only what a causal mask leaves is counted as work.
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/attention.h"
#include "tests/kernels/machine_peak.h"

namespace tanren::kernels::benchmarks {
namespace {

template <class T>
std::vector<T> Normal(int64_t count) {
  std::minstd_rand generator(1);
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(normal(generator));
  return values;
}

// Segments of equal length in a fused qkv buffer.
template <class T>
struct Problem {
  Problem(int64_t segments, int64_t length, int64_t heads, int64_t kv_heads, int64_t head_dim)
      : tokens(segments * length),
        stride((heads + 2 * kv_heads) * head_dim),
        width(heads * head_dim),
        qkv(Normal<T>(tokens * stride)),
        dqkv(tokens * stride),
        o(tokens * width),
        d_o(Normal<T>(tokens * width)),
        lse(heads * tokens) {
    for (int64_t s = 0; s <= segments; ++s) cu_seqlens.push_back(static_cast<int32_t>(s * length));
    shape = {.tokens = tokens,
             .segments = segments,
             .cu_seqlens = cu_seqlens.data(),
             .heads = heads,
             .kv_heads = kv_heads,
             .head_dim = head_dim,
             .scale = 1 / std::sqrt(static_cast<float>(head_dim))};
    flops = 4.0 * segments * (0.5 * length * (length + 1)) * width;
    k_offset = width, v_offset = width + kv_heads * head_dim;
  }
  void Forward() {
    AttentionForward({}, shape, {qkv.data(), stride}, {qkv.data() + k_offset, stride},
                     {qkv.data() + v_offset, stride}, {o.data(), width}, lse.data());
  }
  void Backward(void* workspace) {
    AttentionBackward({}, shape, {qkv.data(), stride}, {qkv.data() + k_offset, stride},
                      {qkv.data() + v_offset, stride}, {o.data(), width}, lse.data(), {d_o.data(), width},
                      {dqkv.data(), stride}, {dqkv.data() + k_offset, stride},
                      {dqkv.data() + v_offset, stride}, workspace);
  }
  int64_t tokens, stride, width, k_offset = 0, v_offset = 0;
  std::vector<T> qkv, dqkv, o, d_o;
  std::vector<float> lse;
  std::vector<int32_t> cu_seqlens;
  AttentionShape shape;
  double flops = 0;
};

void SetFlops(benchmark::State& state, double flops) {
  static const double peak = PeakFlops(DType::kF32);
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_peak"] = benchmark::Counter(flops / peak, benchmark::Counter::kIsIterationInvariantRate);
}

template <class T>
void AttentionForwardPass(benchmark::State& state) {
  Problem<T> p(state.range(0), state.range(1), state.range(2), state.range(3), state.range(4));
  for (auto _ : state) p.Forward();
  SetFlops(state, p.flops);
}

template <class T>
void AttentionBackwardPass(benchmark::State& state) {
  Problem<T> p(state.range(0), state.range(1), state.range(2), state.range(3), state.range(4));
  const int64_t bytes = (AttentionBackwardWorkspaceBytes({}, p.shape) + 63) / 64 * 64;
  void* workspace = std::aligned_alloc(64, bytes);
  p.Forward();
  for (auto _ : state) p.Backward(workspace);
  std::free(workspace);
  SetFlops(state, 2.5 * p.flops);
}

// One token for each of 8 slots that hold 1,024: the cache is read once.
template <class T>
void Decode(benchmark::State& state) {
  const int64_t slots = 8, length = 1024, heads = 12, head_dim = 64, width = heads * head_dim;
  const std::vector<T> k = Normal<T>(slots * length * width), v = Normal<T>(slots * length * width);
  const std::vector<T> q = Normal<T>(slots * width);
  std::vector<T> o(slots * width);
  std::vector<int32_t> slot(slots), position(slots, length - 1);
  for (int64_t s = 0; s < slots; ++s) slot[s] = static_cast<int32_t>(s);
  const CachedAttentionShape shape{.tokens = slots,
                                   .heads = heads,
                                   .kv_heads = heads,
                                   .head_dim = head_dim,
                                   .max_tokens = length,
                                   .slots = slot.data(),
                                   .positions = position.data(),
                                   .scale = 0.125f};
  for (auto _ : state) CachedAttention({}, shape, {q.data(), width}, k.data(), v.data(), {o.data(), width});
  static const double triad = TriadBytesPerSecond();
  const double bytes = 2.0 * slots * length * width * sizeof(T);
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_triad"] =
      benchmark::Counter(bytes / triad, benchmark::Counter::kIsIterationInvariantRate);
}

void Shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"segments", "length", "heads", "kv_heads", "head_dim"});
  b->Args({4, 1024, 12, 12, 64})->Args({4, 64, 12, 12, 64})->Args({1, 2048, 8, 2, 128});
  b->UseRealTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK(AttentionForwardPass<float>)->Apply(Shapes);
BENCHMARK(AttentionForwardPass<BFloat16>)->Apply(Shapes);
BENCHMARK(AttentionBackwardPass<float>)->Apply(Shapes);
BENCHMARK(AttentionBackwardPass<BFloat16>)->Apply(Shapes);
BENCHMARK(Decode<float>)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(Decode<BFloat16>)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tanren::kernels::benchmarks
