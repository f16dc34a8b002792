// Choosing the next token of each row of logits.
//
// Where a row discourages tokens, it is drawn from other logits than those its log-probability is of:
//
//   PenalizeLogits(stream, count, penalties, stride, logits, plain);
//   SampleTokens(stream, rows, vocab, stride, logits, params, results);
//   RestoreLogits(stream, count, penalties, stride, plain, logits);
//   ScoreSamples(stream, rows, vocab, stride, logits, params, results);
//
// Then `results` holds tokens of the penalised distribution with log-probabilities of the plain one, and a
// row without penalties what SampleTokens alone gives it, bit for bit.
#ifndef TANREN_KERNELS_SAMPLING_H_
#define TANREN_KERNELS_SAMPLING_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

struct SamplingParams {
  float temperature = 1;  // 0: greedy (the lowest id among equals)
  int32_t top_k = 0;      // 0: all; else the k most likely (ties broken by lower id)
  float top_p = 1;        // the smallest set of most likely tokens whose mass reaches top_p, after top_k
  uint64_t seed = 0;
  uint64_t stream_id = 0;  // one per sample
  uint64_t index = 0;      // position of the token in its sample
};

struct SampleResult {
  int32_t token = 0;
  float logp = 0;  // log-probability under the full distribution at `temperature` (1 when greedy)
};

// logits [rows, vocab] fp32 (stride vocab_stride), params [rows], results [rows]. A row's result depends on
// its own logits and parameters only. Random number: RandomUniform(seed, stream_id, index), inverse of the
// cumulative distribution in descending order of probability.
// top_p counts the mass that top_k left as the whole. Logits of +infinity share all mass evenly. A NaN in a
// row, or nothing but -infinity, gives token -1.
void SampleTokens(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                  const float* logits, const SamplingParams* params, SampleResult* results);

// A token that its row is to be drawn with another logit of.
struct TokenPenalty {
  int32_t row = 0;
  int32_t token = 0;
  float penalty = 1;  // divides a logit above 0, multiplies one below (Keskar et al. 2019, CTRL,
                      // section 4.1); infinity: the token is not drawn, its logit becomes -infinity
};

// Changes the logits of `count` penalties, each token of a row at most once, and keeps what stood there in
// plain [count]. A NaN stays one. RestoreLogits puts it back.
void PenalizeLogits(const Stream& stream, int64_t count, const TokenPenalty* penalties, int64_t vocab_stride,
                    float* logits, float* plain);
void RestoreLogits(const Stream& stream, int64_t count, const TokenPenalty* penalties, int64_t vocab_stride,
                   const float* plain, float* logits);

// Sets results[row].logp to that of results[row].token under the full distribution of these logits: bit for
// bit what SampleTokens gives a token that it draws from them. Token -1 keeps its NaN.
void ScoreSamples(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                  const float* logits, const SamplingParams* params, SampleResult* results);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_SAMPLING_H_
