// The one reduction loop of all CPU communicators: it fixes the order of additions.
#ifndef TANREN_PARALLEL_COMM_REDUCE_H_
#define TANREN_PARALLEL_COMM_REDUCE_H_

#include <cstdint>

#include "core/comm/comm.h"

namespace tanren {

// out[i] = sources[0][i] op sources[1][i] op ..., evaluated from the left: ((s0 + s1) + s2) + ...
// float32 adds in float32, float64 in float64, bfloat16 in float32 and rounds once; integers wrap around.
// kMax and kMin return NaN when any source is NaN (an overflow on one rank must not vanish in a maximum).
// `out` may be exactly one of the sources, or overlap none. float16 is not supported.
void ReduceInOrder(DType dtype, ReduceOp op, const void* const* sources, int source_count, void* out,
                   int64_t count);

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_REDUCE_H_
