// Sampling without sorting the vocabulary.
//
// Candidates, the tokens near the largest logit, are dealt into kBins bins by their distance below it, which
// keeps the order of probability between bins. Counts and masses of bins locate where top-k, top-p and the
// random number cut the descending order; only a bin in which a cut falls is sorted. Where a cut falls beyond
// the near tokens, all tokens become candidates.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sampling.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/backend.h"
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/cpu/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/random.h"
#include "kernels/sampling.h"

#ifndef TANREN_KERNELS_CPU_SAMPLING_ONCE_
#define TANREN_KERNELS_CPU_SAMPLING_ONCE_
namespace tanren::kernels {

struct RowRange {
  float max;
  float min_finite;  // of the values that are not -infinity
  bool has_nan;
};

struct Candidates {
  float* weights;    // exp(-distance)
  float* distances;  // (max - logit) / temperature
  int32_t* ids;      // ascending
  int64_t count;
};

inline constexpr int kBins = 1024;
inline constexpr int64_t kSlack = 16;  // elements that a compressing store may write beyond the last

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
    // The last vector overlaps the one before; only a row shorter than a vector is padded, with its first
    // value.
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

// Sum of exp((max - logit) / -temperature) over all tokens, in blocks added in double: a lane adds at most 64
// numbers in fp32, whose roundings stay under 4e-6 of the sum. Tokens at most `reach` away become candidates;
// with candidates.ids null, none do. Arrays of candidates have room for count + kSlack.
double SumWeights(int64_t count, const float* logits, float max, float temperature, float reach,
                  Candidates& candidates) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const int64_t lanes = hn::Lanes(d);
  const int64_t block = 64 * lanes;
  const VF32 top = hn::Set(d, max);
  const VF32 divisor = hn::Set(d, temperature);
  const VF32 limit = hn::Set(d, reach);
  const VF32 far = hn::Set(d, std::numeric_limits<float>::infinity());
  candidates.count = 0;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t end = std::min(count, begin + block);
    VF32 sum = hn::Zero(d);
    for (int64_t i = begin; i < end; i += lanes) {
      VF32 distance = hn::Div(hn::Sub(top, LoadUpTo(d, logits + i, end - i)), divisor);
      auto inside = hn::FirstN(d, static_cast<size_t>(std::min(lanes, end - i)));
      distance = hn::IfThenElse(inside, distance, far);
      const VF32 weight = Exp(d, hn::Neg(distance));
      sum = hn::Add(sum, weight);
      if (candidates.ids == nullptr) continue;
      inside = hn::And(inside, hn::Le(distance, limit));
      if (hn::AllFalse(d, inside)) continue;
      hn::CompressStore(weight, inside, d, candidates.weights + candidates.count);
      hn::CompressStore(distance, inside, d, candidates.distances + candidates.count);
      const auto ids = hn::Iota(di, static_cast<int32_t>(i));
      candidates.count +=
          hn::CompressStore(ids, hn::RebindMask(di, inside), di, candidates.ids + candidates.count);
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
HWY_EXPORT(SumWeights);

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Ascending order of keys = descending logit, then ascending id.
uint64_t OrderKey(float logit, int64_t id) {
  const uint32_t word = std::bit_cast<uint32_t>(logit + 0.0f);  // -0 becomes +0
  const uint32_t ascending = (word & 0x80000000u) ? ~word : word | 0x80000000u;
  return uint64_t{~ascending} << 32 | static_cast<uint64_t>(id);
}

// The candidates of one row in descending order, found bin by bin. Its memory is used again for the next row.
class DescendingRow {
 public:
  // A place in the descending order: after `rank` tokens of `bin`. Mass is the sum of weights before it.
  struct Cut {
    int bin = 0;
    int64_t rank = 0;
    double mass = 0;
  };

  // Takes the tokens at most `reach` below the largest as candidates; returns the mass of the whole row.
  double Load(const float* logits, int64_t count, RowRange range, float temperature, float reach) {
    logits_ = logits;
    weights_.resize(count + kSlack);
    distances_.resize(count + kSlack);
    ids_.resize(count + kSlack);
    Candidates candidates{weights_.data(), distances_.data(), ids_.data(), 0};
    const double total =
        HWY_DYNAMIC_DISPATCH(SumWeights)(count, logits, range.max, temperature, reach, candidates);
    count_ = candidates.count;
    FillBins(std::min(reach, (range.max - range.min_finite) / temperature));
    sorted_bin_ = -1;
    return total;
  }

  int64_t count() const { return count_; }
  double mass() const { return mass_; }
  Cut End() const { return {kBins, 0, mass_}; }

  // After the first `rank` candidates.
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

  // After the first token, at or before `limit`, with which the mass reaches `mass` (`strictly`: exceeds it);
  // after the last token of positive weight before `limit` if rounding leaves none. At least one token is
  // before it.
  Cut CutAtMass(double mass, bool strictly, const Cut& limit) {
    const auto reached = [&](double sum) { return strictly ? sum > mass : sum >= mass; };
    Cut last;
    double before = 0;
    for (int bin = 0; bin < kBins && bin <= limit.bin; ++bin) {
      const bool partial = bin == limit.bin;
      const int64_t ranks = partial ? limit.rank : bin_count_[bin];
      if (ranks == 0) continue;
      const double after = before + bin_mass_[bin];
      if (partial || reached(after)) {
        SortBin(bin);
        double sum = before;
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const double weight = WeightAt(rank);
          sum += weight;
          if (weight > 0) last = {bin, rank + 1, sum};
          if (weight > 0 && reached(sum)) return last;
        }
      } else if (bin_mass_[bin] > 0) {
        last = {bin + 1, 0, after};
      }
      before = after;
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
    return order_[cut.rank - 1].id;
  }

 private:
  struct Ordered {
    uint64_t key;
    int32_t id;
    float weight;
  };

  // Bins are even in distance up to `spread`; what is farther shares the last one.
  void FillBins(float spread) {
    constexpr float kNarrowest = 1e-3f,
                    kWidest = 64;  // all logits equal; weights below exp(-64) hardly count
    const float bins_per_unit = (kBins - 1) / std::clamp(spread, kNarrowest, kWidest);
    bins_.resize(ids_.size());
    bin_count_.fill(0);
    bin_mass_.fill(0);
    for (int64_t i = 0; i < count_; ++i) {
      const int bin =
          static_cast<int>(std::min(distances_[i] * bins_per_unit, static_cast<float>(kBins - 1)));
      bins_[i] = static_cast<int16_t>(bin);
      ++bin_count_[bin];
      bin_mass_[bin] += static_cast<double>(weights_[i]);
    }
    mass_ = std::accumulate(bin_mass_.begin(), bin_mass_.end(), 0.0);
  }

  void SortBin(int bin) {
    if (sorted_bin_ == bin) return;
    sorted_bin_ = bin;
    order_.clear();
    for (int64_t i = 0; i < count_; ++i) {
      if (bins_[i] == bin) order_.push_back({OrderKey(logits_[ids_[i]], ids_[i]), ids_[i], weights_[i]});
    }
    std::sort(order_.begin(), order_.end(), [](const Ordered& a, const Ordered& b) { return a.key < b.key; });
  }
  double WeightAt(int64_t rank) const { return order_[rank].weight; }

  const float* logits_ = nullptr;
  int64_t count_ = 0;
  double mass_ = 0;
  std::vector<float> weights_, distances_;
  std::vector<int32_t> ids_;
  std::vector<int16_t> bins_;
  std::array<int64_t, kBins> bin_count_;
  std::array<double, kBins> bin_mass_;
  int sorted_bin_ = -1;
  std::vector<Ordered> order_;
};

// Infinite logits share all the mass: they become 0 and the others minus infinity.
const float* ReplaceInfinities(int64_t count, const float* logits, std::vector<float>& storage) {
  storage.resize(count);
  for (int64_t id = 0; id < count; ++id) storage[id] = logits[id] == kInfinity ? 0.0f : -kInfinity;
  return storage.data();
}

// The drawn token, or -1 where a cut may lie beyond the candidates. `total` is the mass of the whole row.
int64_t Draw(DescendingRow& row, int64_t vocab, double total, const SamplingParams& params) {
  const bool all = row.count() == vocab;
  const bool limited = params.top_k > 0 && params.top_k < vocab;
  if (limited && row.count() < params.top_k) return -1;
  DescendingRow::Cut kept = limited ? row.CutAtRank(params.top_k) : row.End();
  double mass = limited || all ? kept.mass : total;
  if (params.top_p < 1) {
    const double target = params.top_p * mass;
    if (!all && target >= row.mass()) return -1;
    kept = row.CutAtMass(target, /*strictly=*/false, kept);
    mass = kept.mass;
  }
  const double target = RandomUniform(params.seed, params.stream_id, params.index) * mass;
  if (!all && target >= row.mass()) return -1;
  return row.TokenBefore(row.CutAtMass(target, /*strictly=*/true, kept));
}

// Of `token` in a row whose weights add up to `total`.
float LogProbability(const float* logits, int64_t token, float max, float temperature, double total) {
  const double distance = (static_cast<double>(max) - logits[token]) / temperature;
  return static_cast<float>(-distance - std::log(total));
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
    Candidates none{};
    const double total = HWY_DYNAMIC_DISPATCH(SumWeights)(vocab, logits, range.max, 1, 0, none);
    const int64_t token = std::find(logits, logits + vocab, range.max) - logits;
    return {static_cast<int32_t>(token), static_cast<float>(-std::log(total))};
  }
  // Of the first token's mass, each token beyond a reach r has at most exp(-r).
  double total = 0;
  int64_t token = -1;
  for (const float reach : {8.0f, 16.0f, kInfinity}) {
    total = row.Load(logits, vocab, range, params.temperature, reach);
    token = Draw(row, vocab, total, params);
    if (token >= 0) break;
  }
  return {static_cast<int32_t>(token), LogProbability(logits, token, range.max, params.temperature, total)};
}

float ScoreRow(int64_t vocab, const float* logits, float temperature, int32_t token) {
  thread_local std::vector<float> storage;
  float max = HWY_DYNAMIC_DISPATCH(FindRange)(vocab, logits).max;
  if (max == kInfinity) {
    logits = ReplaceInfinities(vocab, logits, storage);
    max = 0;
  }
  const float divisor = temperature == 0 ? 1 : temperature;
  Candidates none{};
  const double total = HWY_DYNAMIC_DISPATCH(SumWeights)(vocab, logits, max, divisor, 0, none);
  return LogProbability(logits, token, max, divisor, total);
}

}  // namespace

void cpu::SampleTokens(const Stream&, int64_t rows, int64_t vocab, int64_t vocab_stride, const float* logits,
                       const SamplingParams* params, SampleResult* results) {
  TANREN_KERNEL_CHECK(vocab > 0 && vocab <= std::numeric_limits<int32_t>::max());
  cpu::ParallelItems(rows, [&](int64_t row) {
    TANREN_KERNEL_CHECK(params[row].temperature >= 0);
    results[row] = SampleRow(vocab, logits + row * vocab_stride, params[row]);
  });
}

void cpu::ScoreSamples(const Stream&, int64_t rows, int64_t vocab, int64_t vocab_stride, const float* logits,
                       const SamplingParams* params, SampleResult* results) {
  cpu::ParallelItems(rows, [&](int64_t row) {
    SampleResult& result = results[row];
    if (result.token < 0) return;
    TANREN_KERNEL_CHECK(result.token < vocab);
    result.logp = ScoreRow(vocab, logits + row * vocab_stride, params[row].temperature, result.token);
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
