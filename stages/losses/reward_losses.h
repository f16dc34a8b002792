// Losses of a reward model: from rankings to scores. A score is that of the scalar head at the answer's end
// (segment statistic `value`), and perhaps the answer's log-probability on top.
//
// Segment columns: "rank", 1 the best, equal ranks are ties; "margin" of the pairwise loss. A unit is a
// ranking of two or more answers and counts once, however many pairs it has.
#ifndef TANREN_STAGES_LOSSES_REWARD_LOSSES_H_
#define TANREN_STAGES_LOSSES_REWARD_LOSSES_H_

#include <string>
#include <vector>

#include "stages/losses/primitives.h"

namespace tanren {

// The scalar head's value alone.
struct HeadScore {
  static constexpr uint32_t kStatistics = kValue;

  template <class T>
  TANREN_HOST_DEVICE T operator()(const SegmentStats<T>& stats) const {
    return stats.value;
  }
  template <class T>
  TANREN_HOST_DEVICE void AddSeed(const SegmentStats<T>&, T slope, SegmentSeed<T>* seed) const {
    seed->value += slope;
  }
};

// value + weight * log p(answer | prompt), summed over the answer's tokens or their mean: the implicit reward
// of Rafailov et al. 2023 (eq. 5) without a reference, which Meng et al. 2024 (SimPO) use as mean. What the
// language model knows of each step counts from the start, and the head learns what it does not.
struct HeadAndLikelihoodScore {
  static constexpr uint32_t kStatistics = kValue | kLogp;

  double weight = 1;
  bool mean = false;

  template <class T>
  TANREN_HOST_DEVICE T Slope(const SegmentStats<T>& stats) const {
    return static_cast<T>(weight) / (mean ? stats.trained_tokens : T(1));
  }
  template <class T>
  TANREN_HOST_DEVICE T operator()(const SegmentStats<T>& stats) const {
    return stats.value + Slope(stats) * stats.logp_sum;
  }
  template <class T>
  TANREN_HOST_DEVICE void AddSeed(const SegmentStats<T>& stats, T slope, SegmentSeed<T>* seed) const {
    seed->value += slope;
    seed->logp_sum += slope * Slope(stats);
  }
};

// Adds the mean and the mean square of a unit's scores, in shares of the step's units.
template <class Score, class T>
TANREN_HOST_DEVICE void AddScoreMoments(const Score& score, int64_t segments, const SegmentStats<T>* stats,
                                        T scale, T* mean, T* square) {
  for (int64_t s = 0; s < segments; ++s) {
    const T value = score(stats[s]);
    *mean += scale * value / static_cast<T>(segments);
    *square += scale * value * value / static_cast<T>(segments);
  }
}

// Bradley-Terry over all pairs of a ranking (Ouyang et al. 2022), with a margin (Touvron et al. 2023) and a
// pull of each pair's sum to zero (Eisenstein et al. 2023), which acts on the head's values v:
//   mean over pairs (i better than j) of  -log sigmoid(r_i - r_j - margin_i) + centering (v_i + v_j)^2
template <class Score = HeadScore>
struct PairwiseRewardFunctor {
  static constexpr uint32_t kStatistics = Score::kStatistics;
  static std::vector<std::string> Columns() { return {}; }
  static std::vector<std::string> SegmentColumns() { return {"rank", "margin"}; }
  // accuracy: share of the pairs in the right order, an equal score half right; margin: mean of r_i - r_j.
  static std::vector<std::string> Metrics() { return {"accuracy", "margin", "reward_mean", "reward_square"}; }

  double centering = 0.01;
  Score score = {};

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t segments, const SegmentStats<T>* stats,
                                  const Normalizers& normalizers, SegmentSeed<T>* seeds, T* metrics) const {
    const T unit = T(1) / static_cast<T>(normalizers.units);
    AddScoreMoments(score, segments, stats, unit, &metrics[2], &metrics[3]);
    int64_t pairs = 0;
    for (int64_t i = 0; i < segments; ++i) {
      for (int64_t j = 0; j < segments; ++j)
        pairs += stats[i].segment_columns[0] < stats[j].segment_columns[0];
    }
    if (pairs == 0) return T(0);
    const T scale = unit / static_cast<T>(pairs);
    T loss = 0;
    for (int64_t i = 0; i < segments; ++i) {
      for (int64_t j = 0; j < segments; ++j) {
        if (!(stats[i].segment_columns[0] < stats[j].segment_columns[0])) continue;
        const T difference = score(stats[i]) - score(stats[j]);
        const T x = difference - stats[i].segment_columns[1];
        const T sum = stats[i].value + stats[j].value;
        const T slope = -Sigmoid(-x);
        const T pull = T(2) * static_cast<T>(centering) * sum;
        score.AddSeed(stats[i], scale * slope, &seeds[i]);
        score.AddSeed(stats[j], scale * -slope, &seeds[j]);
        seeds[i].value += scale * pull;
        seeds[j].value += scale * pull;
        loss += scale * (-LogSigmoid(x) + static_cast<T>(centering) * sum * sum);
        metrics[0] += difference > T(0) ? scale : difference == T(0) ? scale / T(2) : T(0);
        metrics[1] += scale * difference;
      }
    }
    return loss;
  }
};

// Plackett-Luce with Breslow's ties: an item's term is -(s - logsumexp of all items that are not placed
// before its rank), tied items sharing the denominator; the mean is over all items of the ranking. The last
// item alone has a term of 0 and counts in that mean. The same pull to zero, of each item: centering v^2.
template <class Score = HeadScore>
struct ListwiseRewardFunctor {
  static constexpr uint32_t kStatistics = Score::kStatistics;
  static std::vector<std::string> Columns() { return {}; }
  static std::vector<std::string> SegmentColumns() { return {"rank"}; }
  static std::vector<std::string> Metrics() { return {"accuracy", "margin", "reward_mean", "reward_square"}; }

  double centering = 0.01;
  Score score = {};

  template <class T>
  TANREN_HOST_DEVICE T operator()(int64_t segments, const SegmentStats<T>* stats,
                                  const Normalizers& normalizers, SegmentSeed<T>* seeds, T* metrics) const {
    const T unit = T(1) / static_cast<T>(normalizers.units);
    AddScoreMoments(score, segments, stats, unit, &metrics[2], &metrics[3]);
    const T scale = unit / static_cast<T>(segments);
    T loss = 0;
    for (int64_t i = 0; i < segments; ++i) {
      const T rank = stats[i].segment_columns[0];
      T largest = score(stats[i]);
      for (int64_t j = 0; j < segments; ++j) {
        if (stats[j].segment_columns[0] >= rank && score(stats[j]) > largest) largest = score(stats[j]);
      }
      T sum = 0;
      for (int64_t j = 0; j < segments; ++j) {
        if (stats[j].segment_columns[0] >= rank) sum += std::exp(score(stats[j]) - largest);
      }
      loss += scale * (largest + std::log(sum) - score(stats[i]) +
                       static_cast<T>(centering) * stats[i].value * stats[i].value);
      score.AddSeed(stats[i], -scale, &seeds[i]);
      seeds[i].value += scale * T(2) * static_cast<T>(centering) * stats[i].value;
      for (int64_t j = 0; j < segments; ++j) {
        if (stats[j].segment_columns[0] >= rank)
          score.AddSeed(stats[j], scale * std::exp(score(stats[j]) - largest) / sum, &seeds[j]);
      }
    }
    AddOrder(segments, stats, unit, metrics);
    return loss;
  }

 private:
  template <class T>
  TANREN_HOST_DEVICE void AddOrder(int64_t segments, const SegmentStats<T>* stats, T unit, T* metrics) const {
    T pairs = 0, right = 0, margin = 0;
    for (int64_t i = 0; i < segments; ++i) {
      for (int64_t j = 0; j < segments; ++j) {
        if (!(stats[i].segment_columns[0] < stats[j].segment_columns[0])) continue;
        const T difference = score(stats[i]) - score(stats[j]);
        pairs += T(1);
        right += difference > T(0) ? T(1) : difference == T(0) ? T(0.5) : T(0);
        margin += difference;
      }
    }
    if (!(pairs > T(0))) return;
    metrics[0] += unit * right / pairs;
    metrics[1] += unit * margin / pairs;
  }
};

}  // namespace tanren

#endif  // TANREN_STAGES_LOSSES_REWARD_LOSSES_H_
