// The loss contract: a pure function of per-token or per-segment statistics.
//
// A loss never sees a logit matrix, a rank or a collective. The head reduces logits to *statistics*; the loss
// maps them, with named columns of the batch, to its value and to *seeds*: the derivatives of the loss by
// each statistic. The head turns seeds into gradients.
//
// Scaling. A loss returns its share of the global step's loss: it divides by a field of Normalizers, which
// are counted over the whole global step before the first backward pass. It never divides by a number of
// ranks or micro-batches, so 1 rank x 16 micro-batches and 16 ranks x 1 give the same gradient.
//
// Two couplings:
//  - kToken: each trained token's loss depends on that token alone (pre-training, SFT, PPO, GRPO). Seeds are
//    made chunk by chunk in the pass that makes the statistics.
//  - kSequence: the loss of a unit depends on sums over its segments (reward model, DPO, GSPO). Statistics of
//    all chunks come first, then the loss, then the logits of each chunk are made again for the gradient.
//
// Writing one: a host/device functor templated on the scalar type (see the concepts below) wrapped in
// TokenLossOf or SequenceLossOf. docs/add_a_loss.md walks through it.
#ifndef TANREN_CORE_LOSS_LOSS_H_
#define TANREN_CORE_LOSS_LOSS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace tanren {

enum class Coupling : uint8_t { kToken, kSequence };

// Which statistics a loss reads; the engine computes no others.
enum Statistic : uint32_t {
  kLogp = 1,     // log-probability of the target, per trained token
  kLse = 2,      // log-sum-exp of the logits, per trained token
  kEntropy = 4,  // entropy of the distribution, per trained token
  kValue = 8,    // scalar head: per trained token (kToken), or at the last token of each segment (kSequence)
};

// Counted over the whole global step, all data ranks. Doubles, so that they divide.
struct Normalizers {
  double trained_tokens = 0;
  double trained_weight = 0;  // sum of the column "weight" over trained tokens; = trained_tokens without it
  double segments = 0;        // segments of units
  double units = 0;
};

// Per trained token, in row order, for one chunk. Statistics that were not asked for are null.
struct TokenStatsView {
  int64_t count = 0;
  const float* logp = nullptr;
  const float* lse = nullptr;
  const float* entropy = nullptr;
  const float* value = nullptr;
  const float* const* columns = nullptr;  // columns[c][i]: the loss's c-th column at trained token i
};
struct TokenSeedsView {
  float* logp = nullptr;  // d loss / d logp; null where the statistic was not asked for
  float* lse = nullptr;
  float* entropy = nullptr;
  float* value = nullptr;
};

// Per segment, for one micro-batch.
struct SegmentStatsView {
  int64_t units = 0;
  const int32_t* unit_segments = nullptr;         // [units + 1]
  const float* logp_sum = nullptr;                // sum of logp over the segment's trained tokens
  const float* trained_tokens = nullptr;          // their number
  const float* value = nullptr;                   // scalar head at the segment's last token
  const float* const* column_sums = nullptr;      // token columns summed over trained tokens
  const float* const* segment_columns = nullptr;  // columns given per segment
};
struct SegmentSeedsView {
  float* logp_sum = nullptr;
  float* value = nullptr;
};

class Loss {
 public:
  virtual ~Loss() = default;

  virtual Coupling coupling() const = 0;
  virtual uint32_t statistics() const = 0;  // bits of Statistic
  // The logits are divided by it first: a policy sampled at a temperature is trained at that temperature.
  virtual float temperature() const { return 1; }

  // Names of the columns that the batch must have, in the order of the views.
  virtual const std::vector<std::string>& columns() const = 0;
  virtual const std::vector<std::string>& segment_columns() const = 0;

  // Names of the sums reported beside the loss. sums[0] is the loss; sums[1 + m] is metric m. A metric is a
  // sum scaled like the loss, so that adding over chunks, micro-batches and ranks gives its mean.
  virtual const std::vector<std::string>& metrics() const = 0;

  // Writes seeds for every token and adds to sums[0 .. metrics]. kToken losses only.
  virtual void Tokens(const Stream& stream, const TokenStatsView& stats, const Normalizers& normalizers,
                      const TokenSeedsView& seeds, double* sums) const = 0;
  // Writes seeds for every segment and adds to sums. kSequence losses only.
  virtual void Segments(const Stream& stream, const SegmentStatsView& stats, const Normalizers& normalizers,
                        const SegmentSeedsView& seeds, double* sums) const = 0;
};

}  // namespace tanren

#endif  // TANREN_CORE_LOSS_LOSS_H_
