// Sampling without sorting the vocabulary.
//
// Tokens are dealt into kBins bins by their distance below the largest logit, which keeps the order of probability
// between bins. Counts and masses of bins locate where top-k, top-p and the random number cut the descending
// order; only a bin in which a cut falls is sorted.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sampling.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include "kernels/sampling.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/random.h"

#ifndef TANREN_KERNELS_CPU_SAMPLING_ONCE_
#define TANREN_KERNELS_CPU_SAMPLING_ONCE_
namespace tanren::kernels {

struct RowRange {
  float max;
  float min_finite;  // of the values that are not -infinity
  bool has_nan;
};

inline constexpr int kBins = 2048;
inline constexpr float kDistanceCap = 64;  // weights beyond exp(-64) share the last bin
inline constexpr float kMinSpread = 1e-3f;  // keeps the scale of bins finite when all logits are equal

}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_SAMPLING_ONCE_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

RowRange FindRange(int64_t count, const float* logits) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VF32 infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  const VF32 minus_infinity = hn::Neg(infinity);
  VF32 max = minus_infinity, min = infinity;
  auto nan = hn::IsNaN(max);
  for (int64_t i = 0; i < count; i += lanes) {
    // The last vector overlaps the one before; only a row shorter than a vector is padded, with its first value.
    VF32 value;
    if (i + lanes <= count) {
      value = hn::LoadU(d, logits + i);
    } else if (count >= lanes) {
      value = hn::LoadU(d, logits + count - lanes);
    } else {
      alignas(64) float padded[HWY_MAX_BYTES / 4];
      for (int64_t lane = 0; lane < lanes; ++lane) padded[lane] = logits[lane < count ? lane : 0];
      value = hn::Load(d, padded);
    }
    nan = hn::Or(nan, hn::IsNaN(value));
    max = hn::Max(max, value);
    min = hn::Min(min, hn::IfThenElse(hn::Eq(value, minus_infinity), infinity, value));
  }
  return {hn::GetLane(hn::MaxOfLanes(d, max)), hn::GetLane(hn::MinOfLanes(d, min)), !hn::AllFalse(d, nan)};
}

// weights[i] = exp((logits[i] - max) / temperature) and its bin; returns the sum of weights, in blocks of 4096 added in
// double. `bins` may be null.
double WeightsAndBins(int64_t count, const float* logits, float max, float temperature, float bins_per_unit,
                      float* weights, int32_t* bins) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const int64_t lanes = hn::Lanes(d);
  constexpr int64_t kBlock = 4096;
  const VF32 top = hn::Set(d, max);
  const VF32 divisor = hn::Set(d, temperature);
  const VF32 scale = hn::Set(d, bins_per_unit);
  const VF32 last = hn::Set(d, static_cast<float>(kBins - 1));
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    VF32 sum = hn::Zero(d);
    for (int64_t i = begin; i < end; i += lanes) {
      const VF32 distance = hn::Div(hn::Sub(top, LoadUpTo(d, logits + i, end - i)), divisor);
      const VF32 weight = Exp(d, hn::Neg(distance));
      StoreUpTo(d, weight, weights + i, end - i);
      if (bins != nullptr) {
        const auto bin = hn::ConvertTo(di, hn::Min(hn::Mul(distance, scale), last));
        alignas(64) int32_t buffer[HWY_MAX_BYTES / 4];
        hn::Store(bin, di, buffer);
        std::copy(buffer, buffer + std::min(lanes, end - i), bins + i);
      }
      sum = hn::Add(sum, LoadUpTo(d, weights + i, end - i));
    }
    total += static_cast<double>(SumLanes(d, sum));
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {

HWY_EXPORT(FindRange);
HWY_EXPORT(WeightsAndBins);

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Ascending order of keys = descending logit, then ascending id.
uint64_t OrderKey(float logit, int64_t id) {
  const uint32_t word = std::bit_cast<uint32_t>(logit + 0.0f);  // -0 becomes +0
  const uint32_t ascending = (word & 0x80000000u) ? ~word : word | 0x80000000u;
  return uint64_t{~ascending} << 32 | static_cast<uint64_t>(id);
}

// One row's tokens in descending order, found bin by bin. Scratch lives as long as the thread.
class DescendingRow {
 public:
  // A place in the descending order: after `rank` tokens of `bin`. Mass is the sum of weights before it.
  struct Cut {
    int bin = 0;
    int64_t rank = 0;
    double mass = 0;
  };

  double Load(const float* logits, int64_t count, RowRange range, float temperature) {
    logits_ = logits;
    count_ = count;
    weights_.resize(count);
    bins_.resize(count);
    const float spread = std::clamp((range.max - range.min_finite) / temperature, kMinSpread, kDistanceCap);
    const float bins_per_unit = (kBins - 1) / spread;
    const double total = HWY_DYNAMIC_DISPATCH(WeightsAndBins)(count, logits, range.max, temperature, bins_per_unit,
                                                              weights_.data(), bins_.data());
    bin_count_.fill(0);
    bin_mass_.fill(0);
    for (int64_t id = 0; id < count; ++id) {
      ++bin_count_[bins_[id]];
      bin_mass_[bins_[id]] += static_cast<double>(weights_[id]);
    }
    sorted_bin_ = -1;
    return total;
  }

  Cut End() {
    Cut end{kBins, 0, 0};
    for (const double mass : bin_mass_) end.mass += mass;
    return end;
  }

  // After the first `rank` tokens.
  Cut CutAtRank(int64_t rank) {
    Cut cut;
    for (; cut.bin < kBins && rank >= bin_count_[cut.bin]; ++cut.bin) {
      rank -= bin_count_[cut.bin];
      cut.mass += bin_mass_[cut.bin];
    }
    if (cut.bin == kBins || rank == 0) return cut;
    SortBin(cut.bin);
    for (; cut.rank < rank; ++cut.rank) cut.mass += WeightAt(cut.rank);
    return cut;
  }

  // After the first token, at or before `limit`, with which the mass reaches `mass` (`strictly`: exceeds it); after the
  // last token of positive weight before `limit` if rounding leaves none. At least one token is before it.
  Cut CutAtMass(double mass, bool strictly, const Cut& limit) {
    const auto reached = [&](double sum) { return strictly ? sum > mass : sum >= mass; };
    Cut cut, last;
    for (; cut.bin <= limit.bin && cut.bin < kBins; ++cut.bin) {
      if (bin_count_[cut.bin] == 0) continue;
      const bool partial = cut.bin == limit.bin;
      if (partial && limit.rank == 0) break;
      if (!partial && !reached(cut.mass + bin_mass_[cut.bin])) {
        if (bin_mass_[cut.bin] > 0) last = {cut.bin + 1, 0, cut.mass + bin_mass_[cut.bin]};
        cut.mass += bin_mass_[cut.bin];
        continue;
      }
      SortBin(cut.bin);
      const int64_t ranks = partial ? limit.rank : bin_count_[cut.bin];
      const double before = cut.mass;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const double weight = WeightAt(rank);
        cut.mass += weight;
        if (weight > 0) last = {cut.bin, rank + 1, cut.mass};
        if (reached(cut.mass) && weight > 0) return last;
      }
      cut.mass = partial ? cut.mass : before + bin_mass_[cut.bin];
    }
    return last;
  }

  // The last token of positive weight before a cut by mass.
  int64_t TokenBefore(Cut cut) {
    while (cut.rank == 0) {
      --cut.bin;
      cut.rank = bin_count_[cut.bin];
    }
    SortBin(cut.bin);
    while (cut.rank > 1 && WeightAt(cut.rank - 1) == 0) --cut.rank;
    return static_cast<int64_t>(order_[cut.rank - 1] & 0xffffffffu);
  }

 private:
  void SortBin(int bin) {
    if (sorted_bin_ == bin) return;
    sorted_bin_ = bin;
    order_.clear();
    for (int64_t id = 0; id < count_; ++id) {
      if (bins_[id] == bin) order_.push_back(OrderKey(logits_[id], id));
    }
    std::sort(order_.begin(), order_.end());
  }
  double WeightAt(int64_t rank) const { return weights_[order_[rank] & 0xffffffffu]; }

  const float* logits_ = nullptr;
  int64_t count_ = 0;
  std::vector<float> weights_;
  std::vector<int32_t> bins_;
  std::array<int64_t, kBins> bin_count_;
  std::array<double, kBins> bin_mass_;
  int sorted_bin_ = -1;
  std::vector<uint64_t> order_;
};

// Infinite logits share all the mass: they become 0 and the others minus infinity.
const float* ReplaceInfinities(int64_t count, const float* logits, std::vector<float>& storage) {
  storage.resize(count);
  for (int64_t id = 0; id < count; ++id) storage[id] = logits[id] == kInfinity ? 0.0f : -kInfinity;
  return storage.data();
}

SampleResult SampleRow(int64_t vocab, const float* logits, const SamplingParams& params) {
  thread_local DescendingRow row;
  thread_local std::vector<float> storage;
  RowRange range = HWY_DYNAMIC_DISPATCH(FindRange)(vocab, logits);
  if (range.has_nan || range.max == -kInfinity) return {-1, std::numeric_limits<float>::quiet_NaN()};
  if (range.max == kInfinity) {
    logits = ReplaceInfinities(vocab, logits, storage);
    range = {0, 0, false};
  }
  if (params.temperature == 0) {
    const int64_t token = std::find(logits, logits + vocab, range.max) - logits;
    thread_local std::vector<float> weights;
    weights.resize(vocab);
    const double total =
        HWY_DYNAMIC_DISPATCH(WeightsAndBins)(vocab, logits, range.max, 1, 0, weights.data(), nullptr);
    return {static_cast<int32_t>(token), static_cast<float>(-std::log(total))};
  }
  const double total = row.Load(logits, vocab, range, params.temperature);
  DescendingRow::Cut kept =
      params.top_k > 0 && params.top_k < vocab ? row.CutAtRank(params.top_k) : row.End();
  if (params.top_p < 1) kept = row.CutAtMass(params.top_p * kept.mass, /*strictly=*/false, kept);
  const double target = RandomUniform(params.seed, params.stream_id, params.index) * kept.mass;
  const int64_t token = row.TokenBefore(row.CutAtMass(target, /*strictly=*/true, kept));
  const double distance = (static_cast<double>(range.max) - logits[token]) / params.temperature;
  return {static_cast<int32_t>(token), static_cast<float>(-distance - std::log(total))};
}

}  // namespace

void SampleTokens(const Stream&, int64_t rows, int64_t vocab, int64_t vocab_stride, const float* logits,
                  const SamplingParams* params, SampleResult* results) {
  TANREN_KERNEL_CHECK(vocab > 0 && vocab <= std::numeric_limits<int32_t>::max());
  cpu::ParallelItems(rows, [&](int64_t row) {
    TANREN_KERNEL_CHECK(params[row].temperature >= 0);
    results[row] = SampleRow(vocab, logits + row * vocab_stride, params[row]);
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
