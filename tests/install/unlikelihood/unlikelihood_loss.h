// Likelihood of good answers and unlikelihood of bad ones (Welleck et al. 2020, "Neural Text Generation with
// Unlikelihood Training"), token by token:
//
//   good:  w / W (-log p)          bad:  w / W * strength * blame * (-log(1 - p))
//
// w is the column "weight" and W its sum over the trained tokens of the global step; the column "bad" is 0 or
// 1; the column "blame", in [0, 1], says how far a token of a bad answer is at fault.
#ifndef UNLIKELIHOOD_LOSS_H_
#define UNLIKELIHOOD_LOSS_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "stages/losses/primitives.h"

namespace tanren::lab {

struct UnlikelihoodFunctor {
  // Beyond this log p the term of a bad token goes on as a straight line: its slope is as steep as a float
  // can tell apart, and the gradient by the logits, which is p, has stopped growing.
  static constexpr double kMostCertain = -1e-4;

  static constexpr uint32_t kStatistics = kLogp;
  static std::vector<std::string> Columns() { return {"weight", "bad", "blame"}; }
  static std::vector<std::string> Metrics() { return {"good_loss", "bad_loss"}; }  // they add up to the loss

  template <class T>
  TANREN_HOST_DEVICE T operator()(const TokenStats<T>& stats, const T* columns,
                                  const Normalizers& normalizers, TokenStats<T>* seed, T* metrics) const {
    const T share = columns[0] / static_cast<T>(normalizers.trained_weight);
    if (columns[1] == T(0)) {
      seed->logp = -share;
      return metrics[0] = -share * stats.logp;
    }
    const T force = share * static_cast<T>(strength) * columns[2];
    const T logp = std::min(stats.logp, static_cast<T>(kMostCertain));
    const T slope = T(1) / std::expm1(-logp);  // of -log(1 - p) by log p
    seed->logp = force * slope;
    return metrics[1] = force * (slope * (stats.logp - logp) - Log1mExp(logp));
  }

  double strength = 1;
};

}  // namespace tanren::lab

#endif  // UNLIKELIHOOD_LOSS_H_
