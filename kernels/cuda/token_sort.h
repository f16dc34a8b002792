// Tokens grouped by the table row that they look up.
#ifndef TANREN_KERNELS_CUDA_TOKEN_SORT_H_
#define TANREN_KERNELS_CUDA_TOKEN_SORT_H_

#include <cstdint>

#include "kernels/embedding.h"
#include "kernels/types.h"

namespace tanren::kernels::cuda {

// Tokens in the order of their rows, those of one row in token order. Tokens whose row the table does not
// hold are left out. All arrays are device memory.
struct SortedTokens {
  int32_t* rows = nullptr;    // [*count] ascending
  int32_t* tokens = nullptr;  // [*count]
  int32_t* count = nullptr;   // [1]
};

// Device memory that a sort needs, 256-byte aligned; its result lies there too.
int64_t TokenSortBytes(int64_t tokens);

// Sorts args.ids on the stream. args.tokens and args.rows are at least 1 and fit int32_t.
SortedTokens SortTokens(const Stream& stream, const EmbeddingArgs& args, void* memory);

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_TOKEN_SORT_H_
