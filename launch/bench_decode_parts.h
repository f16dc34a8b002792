// The parts of a decoding step, timed.
#ifndef TANREN_LAUNCH_BENCH_DECODE_PARTS_H_
#define TANREN_LAUNCH_BENCH_DECODE_PARTS_H_

#include <cstdint>

#include "core/model/shape.h"
#include "kernels/types.h"

namespace tanren {

// A step of `rows` sequences whose caches hold `position` tokens of `max_tokens`, on one rank; a line a part.
// Weights, activations and angles are random numbers.
void PrintDecodeParts(const Stream& stream, DType dtype, const ModelShape& shape, int64_t rows,
                      int64_t position, int64_t max_tokens);

}  // namespace tanren

#endif  // TANREN_LAUNCH_BENCH_DECODE_PARTS_H_
