// Copies that leave the cache alone: for output that is written once and read much later.
#ifndef TANREN_PARALLEL_COMM_COPY_H_
#define TANREN_PARALLEL_COMM_COPY_H_

#include <cstdint>

namespace tanren {

// memcpy with non-temporal stores: the destination's lines are not read first, which saves a third of the
// traffic when they are not in the cache. The stores are ordered before anything later on return.
void CopyPastCache(void* to, const void* from, int64_t bytes);

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_COPY_H_
