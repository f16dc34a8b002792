// A stable radix sort of tokens by table row.
//
// Least significant digit first, nine bits a pass: two passes for tables of up to 262144 rows. The tokens are
// cut into tiles, one a thread block, and a tile into segments, one a warp. A pass is two kernels: one counts
// each tile's digits, the other finds where each digit of each segment begins and moves the tokens there.
// The first pass reads the ids themselves and drops tokens whose row the table does not hold. Atomics only
// count; where a token goes follows from the ids alone.
#include <bit>
#include <cstdint>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/cuda/token_sort.h"

namespace tanren::kernels::cuda {
namespace {

constexpr int kDigitBits = 9;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kSortThreads = kDigits;  // a thread owns a digit, too
constexpr int kSortWarps = kSortThreads / kWarp;
constexpr int64_t kMaxTiles = 64;

// What a pass reads: the ids in the first pass, then what the pass before wrote.
struct SortInput {
  EmbeddingArgs args;
  SortedTokens sorted;
};

// The table row of token number i of the pass's order; -1: none.
template <bool kFirst>
__device__ __forceinline__ int32_t RowAt(const SortInput& input, int64_t i) {
  if constexpr (kFirst) {
    if (i >= input.args.tokens) return -1;
    const int64_t row = input.args.ids[i] - input.args.first_id;
    return row >= 0 && row < input.args.rows ? static_cast<int32_t>(row) : -1;
  } else {
    return i < *input.sorted.count ? input.sorted.rows[i] : -1;
  }
}

// The lanes that hold the same digit as the calling one; lanes without a row hold none.
__device__ __forceinline__ unsigned LanesWithSameDigit(int32_t row, int digit) {
  return __match_any_sync(kAllLanes, row >= 0 ? digit : kDigits);
}
__device__ __forceinline__ int DigitOf(int32_t row, int shift) { return (row >> shift) & (kDigits - 1); }
__device__ __forceinline__ unsigned LanesBelow(int lane) { return (1u << lane) - 1; }

// Adds the digits of tokens [begin, end) to `counts`, `step` tokens apart for each lane's next. All lanes of
// a warp call it with the same number of tokens.
template <bool kFirst>
__device__ __forceinline__ void CountDigits(const SortInput& input, int64_t begin, int64_t end, int step,
                                            int shift, int32_t* counts) {
  for (int64_t i = begin; i < end; i += step) {
    const int32_t row = RowAt<kFirst>(input, i);
    const int digit = DigitOf(row, shift);
    const unsigned same = LanesWithSameDigit(row, digit);
    const bool is_lowest = (same & LanesBelow(threadIdx.x % kWarp)) == 0;
    if (row >= 0 && is_lowest) atomicAdd(&counts[digit], __popc(same));
  }
}

// counts: [tiles, kDigits].
template <bool kFirst>
__global__ __launch_bounds__(kSortThreads) void CountDigitsKernel(SortInput input, int64_t tile_tokens,
                                                                  int shift, int32_t* counts) {
  __shared__ int32_t tile_counts[kDigits];
  tile_counts[threadIdx.x] = 0;
  __syncthreads();
  const int64_t begin = blockIdx.x * tile_tokens;
  CountDigits<kFirst>(input, begin + threadIdx.x, begin + tile_tokens, kSortThreads, shift, tile_counts);
  __syncthreads();
  counts[blockIdx.x * kDigits + threadIdx.x] = tile_counts[threadIdx.x];
}

template <bool kFirst>
__global__ __launch_bounds__(kSortThreads) void MoveTokensKernel(SortInput input, int64_t tile_tokens,
                                                                 int shift, const int32_t* counts,
                                                                 SortedTokens sorted) {
  __shared__ int32_t offsets[kSortWarps][kDigits];
  __shared__ int32_t warp_totals[kSortWarps];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;

  // Thread d: tokens of digit d, in this tile's predecessors and in all tiles.
  int32_t before = 0;
  int32_t total = 0;
#pragma unroll 8
  for (unsigned tile = 0; tile < gridDim.x; ++tile) {
    const int32_t count = counts[tile * kDigits + threadIdx.x];
    if (tile < blockIdx.x) before += count;
    total += count;
  }
  // Tokens of smaller digits: a scan over the threads.
  int32_t inclusive = total;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int32_t below = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += below;
  }
  if (lane == kWarp - 1) warp_totals[warp] = inclusive;
  for (int w = 0; w < kSortWarps; ++w) offsets[w][threadIdx.x] = 0;
  __syncthreads();
  int32_t place = inclusive - total + before;
  for (int w = 0; w < warp; ++w) place += warp_totals[w];
  if (kFirst && blockIdx.x == 0 && threadIdx.x == kDigits - 1) *sorted.count = place + total;

  // Each warp's share of each digit, then where it begins.
  const int64_t segment_tokens = tile_tokens / kSortWarps;
  const int64_t begin = blockIdx.x * tile_tokens + warp * segment_tokens;
  CountDigits<kFirst>(input, begin + lane, begin + segment_tokens, kWarp, shift, offsets[warp]);
  __syncthreads();
  for (int w = 0; w < kSortWarps; ++w) {
    const int32_t count = offsets[w][threadIdx.x];
    offsets[w][threadIdx.x] = place;
    place += count;
  }
  __syncthreads();

  // The warp's tokens in order, 32 at a time; among those of one digit, lanes in order.
  for (int64_t i = begin + lane; i < begin + segment_tokens; i += kWarp) {
    const int32_t row = RowAt<kFirst>(input, i);
    const int digit = DigitOf(row, shift);
    const unsigned same = LanesWithSameDigit(row, digit);
    const int rank = __popc(same & LanesBelow(lane));
    int32_t to = 0;
    if (row >= 0) to = offsets[warp][digit] + rank;
    __syncwarp();  // all have read before one writes
    if (row >= 0 && rank == 0) offsets[warp][digit] += __popc(same);
    __syncwarp();
    if (row >= 0) {
      sorted.rows[to] = row;
      sorted.tokens[to] = kFirst ? static_cast<int32_t>(i) : input.sorted.tokens[i];
    }
  }
}

// Elements of the arrays in a sort's memory, each a multiple of 256 bytes.
constexpr int64_t Aligned(int64_t count) {
  constexpr int64_t kGrain = 256 / static_cast<int64_t>(sizeof(int32_t));
  return CeilDiv(count, kGrain) * kGrain;
}

struct SortPlan {
  int64_t tile_tokens;
  int64_t tiles;
  SortedTokens buffers[2];  // the passes write them in turn
  int32_t* counts;          // [tiles, kDigits]
};

SortPlan PlanOf(int64_t tokens, int32_t* memory) {
  SortPlan plan{};
  plan.tile_tokens = kSortThreads * CeilDiv(tokens, kSortThreads * kMaxTiles);
  plan.tiles = CeilDiv(tokens, plan.tile_tokens);
  int32_t* const count = memory;
  memory += Aligned(1);
  for (SortedTokens& buffer : plan.buffers) {
    buffer = {memory, memory + Aligned(tokens), count};
    memory += 2 * Aligned(tokens);
  }
  plan.counts = memory;
  return plan;
}

template <bool kFirst>
void RunPass(const Stream& stream, const SortInput& input, const SortPlan& plan, int shift, SortedTokens to) {
  const unsigned blocks = static_cast<unsigned>(plan.tiles);
  LaunchInTurn(stream, CountDigitsKernel<kFirst>, blocks, kSortThreads, input, plan.tile_tokens, shift,
               plan.counts);
  LaunchInTurn(stream, MoveTokensKernel<kFirst>, blocks, kSortThreads, input, plan.tile_tokens, shift,
               plan.counts, to);
}

}  // namespace

int64_t TokenSortBytes(int64_t tokens) {
  const int64_t elements = Aligned(1) + 4 * Aligned(tokens) + Aligned(kMaxTiles * kDigits);
  return elements * static_cast<int64_t>(sizeof(int32_t));
}

SortedTokens SortTokens(const Stream& stream, const EmbeddingArgs& args, void* memory) {
  const SortPlan plan = PlanOf(args.tokens, static_cast<int32_t*>(memory));
  const int row_bits = std::bit_width(static_cast<uint64_t>(args.rows - 1));
  SortedTokens sorted = plan.buffers[0];
  RunPass<true>(stream, {args, {}}, plan, 0, sorted);
  for (int pass = 1; pass * kDigitBits < row_bits; ++pass) {
    const SortedTokens to = plan.buffers[pass % 2];
    RunPass<false>(stream, {args, sorted}, plan, pass * kDigitBits, to);
    sorted = to;
  }
  return sorted;
}

}  // namespace tanren::kernels::cuda
