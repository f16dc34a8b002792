// Logits of single tokens, changed before drawing and put back after it.
#include <cmath>
#include <limits>

#include "kernels/backend.h"
#include "kernels/sampling.h"

namespace tanren::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void cpu::PenalizeLogits(const Stream&, int64_t count, const TokenPenalty* penalties, int64_t vocab_stride,
                         float* logits, float* plain) {
  for (int64_t i = 0; i < count; ++i) {
    const auto& [row, token, penalty] = penalties[i];
    float& logit = logits[row * vocab_stride + token];
    plain[i] = logit;
    if (std::isnan(logit)) continue;
    logit = penalty == kInfinity ? -kInfinity : logit > 0 ? logit / penalty : logit * penalty;
  }
}

void cpu::RestoreLogits(const Stream&, int64_t count, const TokenPenalty* penalties, int64_t vocab_stride,
                        const float* plain, float* logits) {
  for (int64_t i = 0; i < count; ++i) {
    logits[penalties[i].row * vocab_stride + penalties[i].token] = plain[i];
  }
}

}  // namespace tanren::kernels
