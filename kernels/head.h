// Token statistics of a chunk of logits, and the logit gradient from seeds, over a vocabulary shard.
//
// With z the raw logits of a row, the effective logits are  u = cap * tanh(z / cap) / temperature  (no cap
// when cap is 0). Over the whole vocabulary: lse = log sum exp u; logp = u[target] - lse; p = exp(u - lse);
// entropy H = lse - sum p u.
//
// With tensor parallelism each rank holds `vocab` columns from `first_id`; only the first `valid` of them are
// real (the rest is padding and counts for nothing). The caller combines ranks: RowMax (all-reduce max),
// RowSums (all-reduce sum).
#ifndef TANREN_KERNELS_HEAD_H_
#define TANREN_KERNELS_HEAD_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

struct LogitShard {
  int64_t rows = 0;
  int64_t vocab = 0;     // columns, also the row stride
  int64_t valid = 0;     // real columns
  int64_t first_id = 0;  // vocabulary id of column 0
  float soft_cap = 0;
  float temperature = 1;
  const int32_t* targets = nullptr;  // [rows], global ids; -1: no target (logp is not meaningful)
};

// max [rows] = largest u of the shard's valid columns (-inf where it has none).
void LogitRowMax(const Stream& stream, const LogitShard& shard, const float* logits, float* max);

// sums [3, rows]: sum exp(u - max), u[target] (0 when another rank holds it), sum exp(u - max) * u.
void LogitRowSums(const Stream& stream, const LogitShard& shard, const float* logits, const float* max,
                  float* sums);

// Both in one pass over the logits where the backend has it: for a shard that holds the whole vocabulary.
void LogitRowMaxAndSums(const Stream& stream, const LogitShard& shard, const float* logits, float* max,
                        float* sums);

// From the reduced max and sums: logp, lse, entropy, [rows] each.
void TokenStatistics(const Stream& stream, int64_t rows, const float* max, const float* sums, float* logp,
                     float* lse, float* entropy);

// Turns seeds (derivatives of the loss by each statistic, [rows] each; dlse and dentropy may be null) into
// the gradient of the raw logits:
//   du_v = dlogp (1[v = target] - p_v) + dlse p_v - dentropy p_v (log p_v + H),
//   dz_v = du_v (1 - (tanh(z/cap))^2) / temperature.
// dlogits [rows, vocab] is kF32 (may be the logits' own memory) or kBF16; padded columns are written as zero.
void LogitGradient(const Stream& stream, const LogitShard& shard, const float* logits, const float* lse,
                   const float* entropy, const float* dlogp, const float* dlse, const float* dentropy,
                   Buffer dlogits);

// y [rows] (fp32) = x [rows, width] . weight [width] + bias (a scalar head: critic, reward).
void ScalarHeadForward(const Stream& stream, int64_t rows, int64_t width, ConstBuffer x, ConstBuffer weight,
                       float bias, float* y);
// dx [rows, width] += dy w (kF32 or x's dtype); dweight [width] += sum dy x, in fixed blocks of rows; dbias
// [1] += sum dy (may be null).
void ScalarHeadBackward(const Stream& stream, int64_t rows, int64_t width, const float* dy, ConstBuffer x,
                        ConstBuffer weight, Buffer dx, float* dweight, float* dbias);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_HEAD_H_
