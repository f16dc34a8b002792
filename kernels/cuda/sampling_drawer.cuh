// One block finds where top-k, top-p and a random number cut the descending order of a row. See sampling.cu
// for the algorithm.
#ifndef TANREN_KERNELS_CUDA_SAMPLING_DRAWER_CUH_
#define TANREN_KERNELS_CUDA_SAMPLING_DRAWER_CUH_

#include <cstdint>

#include "kernels/cuda/sampling_distribution.cuh"
#include "kernels/random.h"
#include "kernels/sampling.h"

namespace tanren::kernels::cuda::sampling {

constexpr int kDrawThreads = 512;
constexpr int kDrawWarps = kDrawThreads / kWarp;
constexpr int kBins = kDrawThreads;  // a thread looks after one
constexpr int kBinBits = 9;
static_assert(kBins == 1 << kBinBits);

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

}  // namespace tanren::kernels::cuda::sampling

#endif  // TANREN_KERNELS_CUDA_SAMPLING_DRAWER_CUH_
