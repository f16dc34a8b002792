// Turns a functor, templated on the scalar type, into a Loss.
//
// A token functor:
//   struct MyLoss {
//     static constexpr uint32_t kStatistics = kLogp | kEntropy;
//     static std::vector<std::string> Columns();         // token columns, in the order of `columns`
//     static std::vector<std::string> Metrics();
//     template <class T>
//     TANREN_HOST_DEVICE T operator()(const TokenStats<T>& stats, const T* columns,
//                                     const Normalizers& normalizers, TokenStats<T>* seed, T* metrics) const;
//   };
// It returns the token's share of the loss, sets *seed (zero on entry) to the derivatives by each statistic
// and metrics (zero on entry) to the token's shares.
//
// A sequence functor has the same shape with a span of segments of one unit:
//   static std::vector<std::string> SegmentColumns();
//   template <class T>
//   T operator()(int64_t segments, const SegmentStats<T>* stats, const Normalizers&, SegmentSeed<T>* seeds,
//   T* metrics) const;
//
// The same functor in double is what the gradient checks differentiate.
#ifndef TANREN_CORE_LOSS_FUNCTOR_H_
#define TANREN_CORE_LOSS_FUNCTOR_H_

#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/loss/loss.h"

namespace tanren {

inline constexpr int kMaxLossColumns = 8;
inline constexpr int kMaxLossMetrics = 12;

template <class T>
struct TokenStats {
  T logp = 0;
  T lse = 0;
  T entropy = 0;
  T value = 0;
};

template <class T>
struct SegmentStats {
  T logp_sum = 0;
  T trained_tokens = 0;
  T value = 0;
  T column_sums[kMaxLossColumns] = {};
  T segment_columns[kMaxLossColumns] = {};
};

template <class T>
struct SegmentSeed {
  T logp_sum = 0;
  T value = 0;
};

template <class Functor>
class TokenLossOf final : public Loss {
 public:
  explicit TokenLossOf(Functor functor = {}, float temperature = 1)
      : functor_(std::move(functor)),
        temperature_(temperature),
        columns_(Functor::Columns()),
        metrics_(Functor::Metrics()) {
    TANREN_CHECK(columns_.size() <= kMaxLossColumns && metrics_.size() <= kMaxLossMetrics);
  }

  Coupling coupling() const override { return Coupling::kToken; }
  uint32_t statistics() const override { return Functor::kStatistics; }
  float temperature() const override { return temperature_; }
  const std::vector<std::string>& columns() const override { return columns_; }
  const std::vector<std::string>& segment_columns() const override { return no_columns_; }
  const std::vector<std::string>& metrics() const override { return metrics_; }

  void Tokens(const Stream&, const TokenStatsView& stats, const Normalizers& normalizers,
              const TokenSeedsView& seeds, double* sums) const override {
    for (int64_t i = 0; i < stats.count; ++i) {
      TokenStats<float> token;
      if (stats.logp) token.logp = stats.logp[i];
      if (stats.lse) token.lse = stats.lse[i];
      if (stats.entropy) token.entropy = stats.entropy[i];
      if (stats.value) token.value = stats.value[i];
      float columns[kMaxLossColumns] = {};
      for (size_t c = 0; c < columns_.size(); ++c) columns[c] = stats.columns[c][i];
      TokenStats<float> seed;
      float metrics[kMaxLossMetrics] = {};
      sums[0] += functor_(token, columns, normalizers, &seed, metrics);
      for (size_t m = 0; m < metrics_.size(); ++m) sums[1 + m] += metrics[m];
      if (seeds.logp) seeds.logp[i] = seed.logp;
      if (seeds.lse) seeds.lse[i] = seed.lse;
      if (seeds.entropy) seeds.entropy[i] = seed.entropy;
      if (seeds.value) seeds.value[i] = seed.value;
    }
  }

  void Segments(const Stream&, const SegmentStatsView&, const Normalizers&, const SegmentSeedsView&,
                double*) const override {
    TANREN_CHECK_MSG(false, "a token loss was asked for segments");
  }

 private:
  Functor functor_;
  float temperature_;
  std::vector<std::string> columns_;
  std::vector<std::string> no_columns_;
  std::vector<std::string> metrics_;
};

template <class Functor>
class SequenceLossOf final : public Loss {
  // Only these are summed or taken per segment.
  static_assert((Functor::kStatistics & ~uint32_t{kLogp | kValue}) == 0);

 public:
  explicit SequenceLossOf(Functor functor = {}, float temperature = 1)
      : functor_(std::move(functor)),
        temperature_(temperature),
        columns_(Functor::Columns()),
        segment_columns_(Functor::SegmentColumns()),
        metrics_(Functor::Metrics()) {
    TANREN_CHECK(columns_.size() <= kMaxLossColumns && segment_columns_.size() <= kMaxLossColumns &&
                 metrics_.size() <= kMaxLossMetrics);
  }

  Coupling coupling() const override { return Coupling::kSequence; }
  uint32_t statistics() const override { return Functor::kStatistics; }
  float temperature() const override { return temperature_; }
  const std::vector<std::string>& columns() const override { return columns_; }
  const std::vector<std::string>& segment_columns() const override { return segment_columns_; }
  const std::vector<std::string>& metrics() const override { return metrics_; }

  void Tokens(const Stream&, const TokenStatsView&, const Normalizers&, const TokenSeedsView&,
              double*) const override {
    TANREN_CHECK_MSG(false, "a sequence loss was asked for tokens");
  }

  void Segments(const Stream&, const SegmentStatsView& stats, const Normalizers& normalizers,
                const SegmentSeedsView& seeds, double* sums) const override {
    std::vector<SegmentStats<float>> unit;
    std::vector<SegmentSeed<float>> unit_seeds;
    for (int64_t u = 0; u < stats.units; ++u) {
      const int32_t begin = stats.unit_segments[u];
      const int32_t count = stats.unit_segments[u + 1] - begin;
      unit.assign(count, {});
      unit_seeds.assign(count, {});
      for (int32_t s = 0; s < count; ++s) unit[s] = Gather(stats, begin + s);
      float metrics[kMaxLossMetrics] = {};
      sums[0] += functor_(static_cast<int64_t>(count), unit.data(), normalizers, unit_seeds.data(), metrics);
      for (size_t m = 0; m < metrics_.size(); ++m) sums[1 + m] += metrics[m];
      for (int32_t s = 0; s < count; ++s) {
        if (seeds.logp_sum) seeds.logp_sum[begin + s] = unit_seeds[s].logp_sum;
        if (seeds.value) seeds.value[begin + s] = unit_seeds[s].value;
      }
    }
  }

 private:
  SegmentStats<float> Gather(const SegmentStatsView& stats, int64_t segment) const {
    SegmentStats<float> out;
    if (stats.logp_sum) out.logp_sum = stats.logp_sum[segment];
    out.trained_tokens = stats.trained_tokens[segment];
    if (stats.value) out.value = stats.value[segment];
    for (size_t c = 0; c < columns_.size(); ++c) out.column_sums[c] = stats.column_sums[c][segment];
    for (size_t c = 0; c < segment_columns_.size(); ++c)
      out.segment_columns[c] = stats.segment_columns[c][segment];
    return out;
  }

  Functor functor_;
  float temperature_;
  std::vector<std::string> columns_;
  std::vector<std::string> segment_columns_;
  std::vector<std::string> metrics_;
};

}  // namespace tanren

#endif  // TANREN_CORE_LOSS_FUNCTOR_H_
