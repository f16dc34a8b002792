// Choosing the next token of each row of logits.
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

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_SAMPLING_H_
