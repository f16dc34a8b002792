// Next-token cross-entropy with an optional z-loss (Chowdhery et al. 2022, PaLM, section 5).
//
//   loss = sum over trained tokens of  w (-logp + z_loss * lse^2)  / sum of w over the global step
//
// w is 1 for NextTokenLoss and the column "weight" for WeightedNextTokenLoss.
#ifndef TANREN_CORE_LOSS_NEXT_TOKEN_H_
#define TANREN_CORE_LOSS_NEXT_TOKEN_H_

#include <string>
#include <vector>

#include "core/loss/functor.h"

namespace tanren {

template <bool kWeighted>
struct NextTokenFunctor {
  static constexpr uint32_t kStatistics = kLogp | kLse;
  static std::vector<std::string> Columns() {
    return kWeighted ? std::vector<std::string>{"weight"} : std::vector<std::string>{};
  }
  // The part without the z-loss: what perplexity and bits per byte are made from.
  static std::vector<std::string> Metrics() { return {"cross_entropy"}; }

  template <class T>
  TANREN_HOST_DEVICE T operator()(const TokenStats<T>& stats, const T* columns,
                                  const Normalizers& normalizers, TokenStats<T>* seed, T* metrics) const {
    const T scale = kWeighted ? columns[0] / static_cast<T>(normalizers.trained_weight)
                              : T(1) / static_cast<T>(normalizers.trained_tokens);
    const T z = static_cast<T>(z_loss);
    seed->logp = -scale;
    seed->lse = scale * T(2) * z * stats.lse;
    metrics[0] = -scale * stats.logp;
    return scale * (-stats.logp + z * stats.lse * stats.lse);
  }

  double z_loss = 0;
};

using NextTokenLoss = TokenLossOf<NextTokenFunctor<false>>;
using WeightedNextTokenLoss = TokenLossOf<NextTokenFunctor<true>>;

}  // namespace tanren

#endif  // TANREN_CORE_LOSS_NEXT_TOKEN_H_
