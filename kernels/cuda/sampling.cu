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
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/random.h"
#include "kernels/sampling.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Mass = unsigned long long;  // as the atomics of CUDA name it
using Key = unsigned long long;

constexpr Key kLastKey = ~Key{0};

// Tokens at most this far below the largest logit, after division by the temperature, are near.
constexpr float kReach = 8;
constexpr unsigned kListCapacity = 4096;  // near tokens kept a row
constexpr int64_t kRowsAtOnce = 512;      // bounds the scratch memory

constexpr int kSegmentThreads = 256;
constexpr int kThreadLogits = 16;
constexpr unsigned kSegment = kSegmentThreads * kThreadLogits;

constexpr int kDrawThreads = 512;
constexpr int kDrawWarps = kDrawThreads / kWarp;
constexpr int kBins = kDrawThreads;  // a thread looks after one
constexpr int kBinBits = 9;
static_assert(kBins == 1 << kBinBits);

// Of the logits of a segment or a row. A NaN among them makes `max` NaN; `min` is that of the values other
// than -infinity.
struct Range {
  float max;
  float min;
};

struct RowMass {
  Mass total;
  Mass near_count;
};

// Ascending order of keys = descending logit, then ascending id.
__device__ __forceinline__ Key OrderKey(float logit, uint32_t id) {
  const uint32_t word = logit == 0 ? 0 : __float_as_uint(logit);  // -0 is 0
  const uint32_t ascending = (word & 0x80000000u) ? ~word : word | 0x80000000u;
  return Key{~ascending} << 32 | id;
}
__device__ __forceinline__ float LogitOf(Key key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  return __uint_as_float((ascending & 0x80000000u) ? ascending & 0x7fffffffu : ~ascending);
}
__device__ __forceinline__ uint32_t IdOf(Key key) { return static_cast<uint32_t>(key); }

// A row's distribution. Infinite logits share all the mass: they become 0 and the others minus infinity.
struct Distribution {
  float max, min;
  float temperature;  // 1 when greedy
  float unit;         // masses in a probability of 1 relative to the largest
  bool infinite;
  bool exists;

  __device__ __forceinline__ float Logit(float raw) const {
    return infinite ? (raw == kInfinity ? 0.0f : -kInfinity) : raw;
  }
  __device__ __forceinline__ float Distance(float logit) const {
    const float difference = __fsub_rn(max, logit);
    return temperature == 1 ? difference : __fdiv_rn(difference, temperature);
  }
  __device__ __forceinline__ Mass MassAt(float distance) const {
    // fmaxf turns the NaN of an infinite temperature into no mass.
    return __float2ull_rn(__fmul_rn(fmaxf(expf(-distance), 0.0f), unit));
  }
};

// All threads of a block of kThreads call it, for the ranges of their row's segments.
template <int kThreads>
__device__ Distribution ReadDistribution(const Range* ranges, unsigned segments, float temperature,
                                         float unit) {
  float max = -kInfinity, min = kInfinity;
  bool nan = false;
#pragma unroll 1
  for (unsigned s = threadIdx.x; s < segments; s += kThreads) {
    const Range range = ranges[s];
    nan |= isnan(range.max);
    max = fmaxf(max, range.max);
    min = fminf(min, range.min);
  }
  nan = __syncthreads_or(nan) != 0;
  Distribution result;
  result.max = BlockMax<kThreads>(max);
  result.min = -BlockMax<kThreads>(-min);
  result.temperature = temperature == 0 ? 1.0f : temperature;
  result.unit = unit;
  result.infinite = result.max == kInfinity;
  if (result.infinite) result.max = result.min = 0;
  result.exists = !nan && result.max != -kInfinity && temperature >= 0;
  return result;
}

// Of a token in a row whose masses add up to `total`.
__device__ __forceinline__ float LogProbability(const Distribution& distribution, float logit, Mass total) {
  const double distance =
      (static_cast<double>(distribution.max) - logit) / static_cast<double>(distribution.temperature);
  const double log_total = log(static_cast<double>(total) / distribution.unit);
  return static_cast<float>(-distance - log_total);
}

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

// --- 3: drawing. ---

// Tokens, and their mass.
struct Tally {
  unsigned count;
  Mass mass;
};
enum class Measure { kCount, kMass };

// Bins while they are filled: shared memory adds words of 32 bits, so a mass is two of them.
struct Bins {
  unsigned count[kBins];
  unsigned low[kBins];
  unsigned high[kBins];
};
// For every bin, the sum of the bins up to it.
struct Sums {
  unsigned count[kBins];
  Mass mass[kBins];
};

struct DrawMemory {
  Bins bins;
  Sums whole;  // of the source, by distance
  Sums part;   // of one of its bins, by key
  Tally warps[kDrawWarps];
  Key low[kDrawWarps];
  Key high[kDrawWarps];
  int bin;
  unsigned gathered;
};

// The tokens that are looked through: the first `count` of the list, or of the row.
struct Source {
  bool is_list;
  unsigned count;
};

// The token with which a sum reaches its target, and the sum of masses up to it.
struct Cut {
  bool found;
  Key key;
  Mass mass;
};

__device__ __forceinline__ Tally InclusiveScan(Tally tally) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned count = __shfl_up_sync(kAllLanes, tally.count, offset);
    const Mass mass = __shfl_up_sync(kAllLanes, tally.mass, offset);
    if (lane >= offset) {
      tally.count += count;
      tally.mass += mass;
    }
  }
  return tally;
}

// All threads of the block call every method, with the same arguments.
class Drawer {
 public:
  __device__ Drawer(DrawMemory& memory, const Distribution& distribution, const float* logits, unsigned vocab,
                    Key* list, unsigned capacity)
      : memory_(memory),
        distribution_(distribution),
        logits_(logits),
        vocab_(vocab),
        list_(list),
        capacity_(capacity) {}

  // The drawn token; none where a cut may lie beyond the source. `total` is the mass of the row.
  __device__ Cut Draw(const Source& source, const SamplingParams& params, Mass total) {
    enum Step { kTopK, kTopP, kRandom, kEnd };
    FillBins(source);
    const bool greedy = params.temperature == 0;
    const bool limited = greedy || (params.top_k > 0 && static_cast<unsigned>(params.top_k) < vocab_);
    Mass mass = source.count < vocab_ ? total : memory_.whole.mass[kBins - 1];
    Cut cut{false, 0, 0};
#pragma unroll 1
    for (int step = limited ? kTopK : kTopP; step < kEnd; ++step) {
      Measure measure = Measure::kMass;
      Mass need = 1;
      if (step == kTopK) {
        measure = Measure::kCount;
        if (!greedy) need = params.top_k;
      } else if (step == kTopP) {
        if (!(params.top_p < 1)) continue;
        const double target = ceil(static_cast<double>(params.top_p) * static_cast<double>(mass));
        if (target > 1) need = min(mass, static_cast<Mass>(target));
      } else {
        // A sum of integers exceeds u * mass where it reaches floor(u * mass) + 1; u has 53 bits.
        const Mass u = RandomBits(params.seed, params.stream_id, params.index) >> 11 << 11;
        need = __umul64hi(u, mass) + 1;
      }
      cut = Locate(source, measure, need);
      if (!cut.found || greedy) break;
      mass = cut.mass;
    }
    return cut;
  }

 private:
  // Calls visit(key) for this thread's share of the tokens.
  template <class Visit>
  __device__ __forceinline__ void ForEach(const Source& source, const Visit& visit) {
    constexpr int kAhead = 6;  // tokens in flight
#pragma unroll 1
    for (unsigned first = threadIdx.x; first < source.count; first += kDrawThreads * kAhead) {
      Key keys[kAhead];
      if (source.is_list) {
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const unsigned i = first + a * kDrawThreads;
          keys[a] = i < source.count ? list_[i] : 0;
        }
      } else {
        float logits[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const unsigned id = first + a * kDrawThreads;
          logits[a] = id < source.count ? logits_[id] : 0;
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          keys[a] = OrderKey(distribution_.Logit(logits[a]), first + a * kDrawThreads);
        }
      }
      // One copy of visit's code; the keys move up instead, which keeps them in registers.
#pragma unroll 1
      for (unsigned i = first; i < min(source.count, first + kDrawThreads * kAhead); i += kDrawThreads) {
        visit(keys[0]);
#pragma unroll
        for (int a = 0; a + 1 < kAhead; ++a) keys[a] = keys[a + 1];
      }
    }
  }

  // What is farther than the bins reach shares the last one, as does the NaN of an infinite temperature.
  __device__ __forceinline__ int BinOf(float distance) const {
    return static_cast<int>(fminf(__fmul_rn(distance, bins_per_unit_), static_cast<float>(kBins - 1)));
  }
  __device__ __forceinline__ float DistanceOf(Key key) const { return distribution_.Distance(LogitOf(key)); }

  __device__ __forceinline__ void ClearBins() {
    __syncthreads();  // readers of an earlier sum are done
    memory_.bins.count[threadIdx.x] = 0;
    memory_.bins.low[threadIdx.x] = 0;
    memory_.bins.high[threadIdx.x] = 0;
    __syncthreads();
  }
  __device__ __forceinline__ void AddToBin(int bin, Mass mass) {
    atomicAdd(&memory_.bins.count[bin], 1u);
    const unsigned low = static_cast<unsigned>(mass);
    const unsigned carry = low > ~atomicAdd(&memory_.bins.low[bin], low) ? 1 : 0;
    const unsigned high = static_cast<unsigned>(mass >> 32) + carry;
    if (high > 0) atomicAdd(&memory_.bins.high[bin], high);
  }

  __device__ void SumBins(Sums& sums) {
    const int own = threadIdx.x, lane = own % kWarp, warp = own / kWarp;
    __syncthreads();  // the bins are full
    const Bins& bins = memory_.bins;
    Tally tally = InclusiveScan({bins.count[own], Mass{bins.high[own]} << 32 | bins.low[own]});
    if (lane == kWarp - 1) memory_.warps[warp] = tally;
    __syncthreads();
    if (warp == 0) {
      const Tally upper = InclusiveScan(lane < kDrawWarps ? memory_.warps[lane] : Tally{0, 0});
      if (lane < kDrawWarps) memory_.warps[lane] = upper;
    }
    __syncthreads();
    if (warp > 0) {
      tally.count += memory_.warps[warp - 1].count;
      tally.mass += memory_.warps[warp - 1].mass;
    }
    sums.count[own] = tally.count;
    sums.mass[own] = tally.mass;
    __syncthreads();
  }

  __device__ void FillBins(const Source& source) {
    constexpr float kNarrowest = 1e-3f;  // all logits equal
    constexpr float kWidest = 32;        // beyond it a token has hardly any mass
    const float spread = fminf(source.is_list ? kReach : kWidest, distribution_.Distance(distribution_.min));
    bins_per_unit_ = (kBins - 1) / fmaxf(spread, kNarrowest);
    ClearBins();
    ForEach(source, [&](Key key) {
      const float distance = DistanceOf(key);
      AddToBin(BinOf(distance), distribution_.MassAt(distance));
    });
    SumBins(memory_.whole);
  }

  // The bin with which `before` and the bins up to it reach `need`, which some bin does and `before` does
  // not; what lies before the bin is added to `before`.
  __device__ int SelectBin(const Sums& sums, Measure measure, Mass need, Tally& before) {
    const auto sum_to = [&](int bin) {
      return measure == Measure::kCount ? before.count + Mass{sums.count[bin]} : before.mass + sums.mass[bin];
    };
    const int own = threadIdx.x;
    if (sum_to(own) >= need && (own == 0 || sum_to(own - 1) < need)) memory_.bin = own;
    __syncthreads();
    const int bin = memory_.bin;
    if (bin > 0) {
      before.count += sums.count[bin - 1];
      before.mass += sums.mass[bin - 1];
    }
    return bin;
  }

  // The least and the greatest of all threads' keys.
  __device__ void Enclose(Key& low, Key& high) {
    const auto reduce = [&] {
#pragma unroll
      for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        low = min(low, __shfl_xor_sync(kAllLanes, low, offset));
        high = max(high, __shfl_xor_sync(kAllLanes, high, offset));
      }
    };
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    reduce();
    __syncthreads();  // readers of an earlier call are done
    if (lane == 0) {
      memory_.low[warp] = low;
      memory_.high[warp] = high;
    }
    __syncthreads();
    low = memory_.low[lane % kDrawWarps];
    high = memory_.high[lane % kDrawWarps];
    reduce();
  }

  // The first token in order with which the count or the mass reaches `need` > 0.
  __device__ Cut Locate(Source source, Measure measure, Mass need) {
    const Sums& whole = memory_.whole;
    if (need > (measure == Measure::kCount ? whole.count[kBins - 1] : whole.mass[kBins - 1])) {
      return {false, 0, 0};
    }
    Tally before{0, 0};
    const int bin = SelectBin(whole, measure, need, before);
    Key low = kLastKey, high = 0;
    const auto enclose = [&](Key key) {
      low = min(low, key);
      high = max(high, key);
    };
    // A bin of the row that fits becomes the list, which does from here on.
    const unsigned inside = whole.count[bin] - before.count;
    const bool gathers = !source.is_list && inside <= capacity_;
    if (threadIdx.x == 0) memory_.gathered = 0;
    __syncthreads();
    ForEach(source, [&](Key key) {
      if (BinOf(DistanceOf(key)) != bin) return;
      if (gathers) list_[atomicAdd(&memory_.gathered, 1u)] = key;
      enclose(key);
    });
    if (gathers) source = {true, inside};
    Enclose(low, high);
#pragma unroll 1
    while (low != high) {
      const int bits = 64 - __clzll(static_cast<long long>(high - low));
      const int shift = max(0, bits - kBinBits);
      ClearBins();
      ForEach(source, [&](Key key) {
        if (key >= low && key <= high) {
          AddToBin(static_cast<int>((key - low) >> shift), distribution_.MassAt(DistanceOf(key)));
        }
      });
      SumBins(memory_.part);
      const Key first = low + (Key(SelectBin(memory_.part, measure, need, before)) << shift);
      const Key last = min(high, first + ((Key{1} << shift) - 1));
      low = kLastKey, high = 0;
      ForEach(source, [&](Key key) {
        if (key >= first && key <= last) enclose(key);
      });
      Enclose(low, high);
    }
    return {true, low, before.mass + distribution_.MassAt(DistanceOf(low))};
  }

  DrawMemory& memory_;
  const Distribution& distribution_;
  const float* logits_;
  const unsigned vocab_;
  Key* list_;
  const unsigned capacity_;
  float bins_per_unit_ = 0;
};

__global__ __launch_bounds__(kDrawThreads,
                             2) void DrawKernel(unsigned segments, unsigned vocab, int64_t stride,
                                                const float* logits, const SamplingParams* params,
                                                const Range* ranges, float unit, unsigned capacity,
                                                const RowMass* masses, Key* lists, SampleResult* results) {
  __shared__ DrawMemory memory;
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
    range<<<count * segments, kSegmentThreads, 0, Handle(stream)>>>(segments, width, vocab_stride, z, ranges,
                                                                    masses);
    TANREN_CUDA_LAUNCHED();
    mass<<<count * segments, kSegmentThreads, 0, Handle(stream)>>>(
        segments, width, vocab_stride, z, params + first, ranges, unit, capacity, masses, lists);
    TANREN_CUDA_LAUNCHED();
    finish(Rows{count, segments, width, vocab_stride, z, params + first, results + first, unit, capacity,
                ranges, masses, lists});
    TANREN_CUDA_LAUNCHED();
  }
}

}  // namespace
}  // namespace cuda

void cuda::SampleTokens(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                        const float* logits, const SamplingParams* params, SampleResult* results) {
  const auto capacity = static_cast<unsigned>(std::min<int64_t>(kListCapacity, vocab));
  ForRows(stream, rows, vocab, vocab_stride, logits, params, results, capacity, [&](const Rows& r) {
    DrawKernel<<<r.count, kDrawThreads, 0, Handle(stream)>>>(r.segments, r.vocab, r.stride, r.logits,
                                                             r.params, r.ranges, r.unit, r.capacity, r.masses,
                                                             r.lists, r.results);
  });
}

void cuda::ScoreSamples(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                        const float* logits, const SamplingParams* params, SampleResult* results) {
  ForRows(stream, rows, vocab, vocab_stride, logits, params, results, /*capacity=*/0, [&](const Rows& r) {
    ScoreKernel<<<r.count, kSegmentThreads, 0, Handle(stream)>>>(r.segments, r.stride, r.logits, r.params,
                                                                 r.ranges, r.unit, r.masses, r.results);
  });
}

}  // namespace tanren::kernels
