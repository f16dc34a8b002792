// Sampling without sorting the vocabulary, in three kernels; scoring a token that was drawn takes the first
// two.
//
//   1. Each segment of each row: its largest and smallest logit.
//   2. Each segment again: the mass of its tokens, and the list of those near the row's largest logit.
//   3. One block a row: where top-k, top-p and the random number cut the descending order.
//
// Masses are probabilities in units of 2^-fraction of the largest, as 64-bit integers. Their sums do not
// depend on the order of the additions, so atomics give the same result every time, and every comparison of a
// sum with a target is exact.
//
// A cut is found by histograms. The first has bins of even width in distance below the largest logit, which
// keeps the order of probability between bins; the bin in which the cut falls is then cut finer, by the keys
// of its tokens (see OrderKey), until one token is left. Nearly always the list of near tokens is all that is
// read; where it is not complete enough, the whole row is.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/sampling_distribution.cuh"
#include "kernels/cuda/sampling_drawer.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/sampling.h"

namespace tanren::kernels {
namespace cuda {
namespace {

using namespace sampling;  // NOLINT: its own parts

constexpr unsigned kListCapacity = 4096;  // near tokens kept a row
constexpr int64_t kRowsAtOnce = 512;      // bounds the scratch memory

constexpr int kSegmentThreads = 256;
constexpr int kThreadLogits = 16;
constexpr unsigned kSegment = kSegmentThreads * kThreadLogits;

// --- 1 and 2: segments. ---

// The id of the first logit of the thread's pack number p.
template <int kCount>
__device__ __forceinline__ unsigned PackId(unsigned segment, int p) {
  return segment * kSegment + (p * kSegmentThreads + threadIdx.x) * kCount;
}

// What lies beyond the vocabulary is -infinity, which counts for nothing.
template <int kCount>
__device__ __forceinline__ void LoadSegment(const float* row, unsigned segment, unsigned vocab,
                                            float (&values)[kThreadLogits]) {
  constexpr int kPacks = kThreadLogits / kCount;
  if ((segment + 1) * kSegment <= vocab) {
    Pack<float, kCount> packs[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) packs[p] = LoadPack<kCount>(row + PackId<kCount>(segment, p));
#pragma unroll
    for (int i = 0; i < kThreadLogits; ++i) values[i] = packs[i / kCount].at[i % kCount];
  } else {
#pragma unroll
    for (int i = 0; i < kThreadLogits; ++i) {
      const unsigned id = PackId<kCount>(segment, i / kCount) + i % kCount;
      values[i] = id < vocab ? row[id] : -kInfinity;
    }
  }
}

template <int kCount>
__global__ __launch_bounds__(kSegmentThreads) void RangeKernel(unsigned segments, unsigned vocab,
                                                               int64_t stride, const float* logits,
                                                               Range* ranges, RowMass* masses) {
  AwaitEarlierKernels();
  const int64_t row = blockIdx.x / segments;
  const unsigned segment = blockIdx.x % segments;
  float values[kThreadLogits];
  LoadSegment<kCount>(logits + row * stride, segment, vocab, values);
  float max = -kInfinity, min = kInfinity;
  bool nan = false;
#pragma unroll
  for (const float value : values) {
    nan |= isnan(value);
    max = fmaxf(max, value);
    min = fminf(min, value == -kInfinity ? kInfinity : value);
  }
  nan = __syncthreads_or(nan) != 0;
  max = BlockMax<kSegmentThreads>(max);
  min = -BlockMax<kSegmentThreads>(-min);
  if (threadIdx.x != 0) return;
  ranges[blockIdx.x] = {nan ? __int_as_float(0x7fffffff) : max, min};
  if (segment == 0) masses[row] = {0, 0};
}

template <int kCount>
__global__ __launch_bounds__(kSegmentThreads) void MassKernel(
    unsigned segments, unsigned vocab, int64_t stride, const float* logits, const SamplingParams* params,
    const Range* ranges, float unit, unsigned capacity, RowMass* masses, Key* lists) {
  __shared__ unsigned count_of_block;
  __shared__ Mass begin_of_block;
  AwaitEarlierKernels();
  const int64_t row = blockIdx.x / segments;
  const unsigned segment = blockIdx.x % segments;
  float values[kThreadLogits];
  LoadSegment<kCount>(logits + row * stride, segment, vocab, values);
  const float temperature = params[row].temperature;
  const Distribution distribution =
      ReadDistribution<kSegmentThreads>(ranges + row * segments, segments, temperature, unit);
  if (!distribution.exists) return;
  const float reach = temperature == 0 ? 0.0f : kReach;

  if (threadIdx.x == 0) count_of_block = 0;
  Mass mass = 0;
  unsigned near = 0;  // a bit for each of the thread's logits
#pragma unroll
  for (int i = 0; i < kThreadLogits; ++i) {
    values[i] = distribution.Logit(values[i]);
    const float distance = distribution.Distance(values[i]);
    mass += distribution.MassAt(distance);
    near |= static_cast<unsigned>(distance <= reach) << i;
  }
  mass = BlockSum<kSegmentThreads>(mass);
  if (threadIdx.x == 0 && mass > 0) atomicAdd(&masses[row].total, mass);

  // The block's near tokens go to a stretch of the list; its place depends on chance, and does not matter.
  if (__syncthreads_or(near != 0) == 0) return;
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned count = __popc(near);
  unsigned end = count;  // the sum over lanes up to this one
#pragma unroll
  for (unsigned offset = 1; offset < kWarp; offset *= 2) {
    const unsigned below = __shfl_up_sync(kAllLanes, end, offset);
    if (lane >= offset) end += below;
  }
  unsigned begin_of_warp = 0;
  if (lane == kWarp - 1) begin_of_warp = atomicAdd(&count_of_block, end);
  begin_of_warp = __shfl_sync(kAllLanes, begin_of_warp, kWarp - 1);
  __syncthreads();
  if (threadIdx.x == 0) begin_of_block = atomicAdd(&masses[row].near_count, Mass{count_of_block});
  __syncthreads();
  int64_t place = static_cast<int64_t>(begin_of_block) + begin_of_warp + end - count;
#pragma unroll
  for (int i = 0; i < kThreadLogits; ++i) {
    if ((near >> i & 1) == 0) continue;
    const unsigned id = PackId<kCount>(segment, i / kCount) + i % kCount;
    if (place < capacity) lists[row * capacity + place] = OrderKey(values[i], id);
    ++place;
  }
}

__global__ __launch_bounds__(kDrawThreads,
                             2) void DrawKernel(unsigned segments, unsigned vocab, int64_t stride,
                                                const float* logits, const SamplingParams* params,
                                                const Range* ranges, float unit, unsigned capacity,
                                                const RowMass* masses, Key* lists, SampleResult* results) {
  __shared__ DrawMemory memory;
  AwaitEarlierKernels();
  const int64_t row = blockIdx.x;
  const SamplingParams& own = params[row];
  const Distribution distribution =
      ReadDistribution<kDrawThreads>(ranges + row * segments, segments, own.temperature, unit);
  if (!distribution.exists) {
    if (threadIdx.x == 0) results[row] = {-1, __int_as_float(0x7fffffff)};
    return;
  }
  const RowMass mass = masses[row];
  Drawer drawer(memory, distribution, logits + row * stride, vocab, lists + row * capacity, capacity);
  Source source{mass.near_count <= capacity, static_cast<unsigned>(mass.near_count)};
  if (!source.is_list) source.count = vocab;
  Cut token;
#pragma unroll 1
  while (true) {
    token = drawer.Draw(source, own, mass.total);
    if (token.found || !source.is_list) break;
    source = {false, vocab};
  }
  if (threadIdx.x != 0) return;
  results[row] = {static_cast<int32_t>(IdOf(token.key)),
                  LogProbability(distribution, LogitOf(token.key), mass.total)};
}

// One block a row.
__global__ __launch_bounds__(kSegmentThreads) void ScoreKernel(unsigned segments, int64_t stride,
                                                               const float* logits,
                                                               const SamplingParams* params,
                                                               const Range* ranges, float unit,
                                                               const RowMass* masses, SampleResult* results) {
  AwaitEarlierKernels();
  const int64_t row = blockIdx.x;
  const Distribution distribution =
      ReadDistribution<kSegmentThreads>(ranges + row * segments, segments, params[row].temperature, unit);
  SampleResult& result = results[row];
  if (threadIdx.x != 0 || !distribution.exists || result.token < 0) return;
  result.logp = LogProbability(distribution, distribution.Logit(logits[row * stride + result.token]),
                               masses[row].total);
}

// 2^fraction such that the masses of a vocabulary add up to at most 2^62.
float UnitOfMass(int64_t vocab) {
  constexpr int kSumBits = 62;
  int fraction = kSumBits;
  for (; vocab > 0; vocab /= 2) --fraction;
  return static_cast<float>(int64_t{1} << fraction);
}

// What the segments of some rows leave for the kernel that works on whole rows.
struct Rows {
  unsigned count;
  unsigned segments, vocab;
  int64_t stride;
  const float* logits;
  const SamplingParams* params;
  SampleResult* results;
  float unit;
  unsigned capacity;
  const Range* ranges;
  const RowMass* masses;
  Key* lists;
};

// Runs the kernels of the segments, with lists of `capacity` near tokens, and calls finish(Rows) for as many
// rows at a time as the scratch memory holds.
template <class Finish>
void ForRows(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride, const float* logits,
             const SamplingParams* params, SampleResult* results, unsigned capacity, const Finish& finish) {
  TANREN_CUDA_REQUIRE(vocab > 0 && vocab <= std::numeric_limits<int32_t>::max());
  if (rows <= 0) return;
  constexpr int n = kPackOf<float>;
  const bool packed = IsPacked<n>(logits, vocab_stride);
  const auto width = static_cast<unsigned>(vocab);
  const auto segments = static_cast<unsigned>(CeilDiv(vocab, kSegment));
  const float unit = UnitOfMass(vocab);
  const int64_t at_once = std::min(rows, kRowsAtOnce);
  const int64_t row_bytes =
      sizeof(RowMass) + int64_t{capacity} * sizeof(Key) + int64_t{segments} * sizeof(Range);
  auto* masses = static_cast<RowMass*>(Scratch(stream, at_once * row_bytes));
  auto* lists = reinterpret_cast<Key*>(masses + at_once);
  auto* ranges = reinterpret_cast<Range*>(lists + at_once * capacity);
  const auto range = packed ? RangeKernel<n> : RangeKernel<1>;
  const auto mass = packed ? MassKernel<n> : MassKernel<1>;
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const auto count = static_cast<unsigned>(std::min(kRowsAtOnce, rows - first));
    const float* z = logits + first * vocab_stride;
    LaunchChained(stream, range, count * segments, kSegmentThreads, segments, width, vocab_stride, z, ranges,
                  masses);
    LaunchChained(stream, mass, count * segments, kSegmentThreads, segments, width, vocab_stride, z,
                  params + first, ranges, unit, capacity, masses, lists);
    finish(Rows{count, segments, width, vocab_stride, z, params + first, results + first, unit, capacity,
                ranges, masses, lists});
  }
}

}  // namespace
}  // namespace cuda

void cuda::SampleTokens(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                        const float* logits, const SamplingParams* params, SampleResult* results) {
  const auto capacity = static_cast<unsigned>(std::min<int64_t>(kListCapacity, vocab));
  ForRows(stream, rows, vocab, vocab_stride, logits, params, results, capacity, [&](const Rows& r) {
    LaunchChained(stream, DrawKernel, r.count, kDrawThreads, r.segments, r.vocab, r.stride, r.logits,
                  r.params, r.ranges, r.unit, r.capacity, r.masses, r.lists, r.results);
  });
}

void cuda::ScoreSamples(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                        const float* logits, const SamplingParams* params, SampleResult* results) {
  ForRows(stream, rows, vocab, vocab_stride, logits, params, results, /*capacity=*/0, [&](const Rows& r) {
    LaunchChained(stream, ScoreKernel, r.count, kSegmentThreads, r.segments, r.stride, r.logits, r.params,
                  r.ranges, r.unit, r.masses, r.results);
  });
}

}  // namespace tanren::kernels
