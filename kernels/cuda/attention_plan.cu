// What the attention kernels share: lists of tiles, and the row sums of d_o * o.
//
// A segment of n tiles has one tile at each level 0, 1, ..., n - 1, where the level counts the tiles of keys
// (or queries) that a causal tile meets besides its own. With the segments sorted by n, longest first, the
// tiles of a level are those of the first c(level) segments, so a tile's place in a list of falling levels is
// (the number of tiles at higher levels) + (its segment's rank). So only the segments are sorted, by a radix
// sort of one bit a pass, and one block of threads does it all in a few microseconds. Under a full mask every
// tile of a segment does the same work, and the segments stand one after the other, longest first. Equal
// segments keep their order: the list is a function of cu_seqlens alone.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t AlignUp(int64_t bytes) { return CeilDiv(bytes, kAlignment) * kAlignment; }

// --- Tile lists. ---

constexpr int kPlanThreads = 1024;
constexpr int kPlanWarps = kPlanThreads / kWarp;
// Up to these sizes the sort and the levels stay in shared memory.
constexpr int kSharedSegments = 1024;
constexpr int kSharedLevels = 4096;

struct SegmentTiles {
  int32_t tiles;
  int32_t segment;
};

// Where things are in the memory of a list, in bytes: the count and the ticket, the tiles, two arrays of
// segments to sort between, and the levels.
struct ListLayout {
  ListLayout(const AttentionShape& shape, int64_t rows_per_tile) {
    tiles = kAlignment;
    segments = tiles + AlignUp(MaxTiles(shape.tokens, shape.segments, rows_per_tile) *
                               static_cast<int64_t>(sizeof(AttentionTile)));
    const bool sorts_here = shape.segments > kSharedSegments;
    levels = segments + (sorts_here ? AlignUp(2 * shape.segments * int64_t{sizeof(SegmentTiles)}) : 0);
    most_levels = CeilDiv(shape.tokens, rows_per_tile);
    bytes = levels + (most_levels > kSharedLevels ? AlignUp(most_levels * int64_t{sizeof(int32_t)}) : 0);
  }
  int64_t tiles, segments, levels, most_levels, bytes;
};

// The sum of `value` over the threads before this one, and over all of them. All threads call it; two calls
// may follow each other.
__device__ int BlockExclusiveSum(int value, int* total) {
  static_assert(kPlanWarps == kWarp, "the sums of the warps are summed by one warp's lanes");
  __shared__ int warp_sums[kPlanWarps];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const auto inclusive_sum = [lane](int sum) {
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const int before = __shfl_up_sync(kAllLanes, sum, offset);
      if (lane >= offset) sum += before;
    }
    return sum;
  };
  const int inclusive = inclusive_sum(value);
  __syncthreads();  // readers of an earlier call are done
  if (lane == kWarp - 1) warp_sums[warp] = inclusive;
  __syncthreads();
  const int warps = inclusive_sum(warp_sums[lane]);
  *total = __shfl_sync(kAllLanes, warps, kWarp - 1);
  const int through_warp_before = __shfl_sync(kAllLanes, warps, max(warp - 1, 0));
  return (warp > 0 ? through_warp_before : 0) + inclusive - value;
}

// The part [begin, end) of `count` items that this thread takes: neighbours, in the order of the threads.
struct Share {
  __device__ explicit Share(int count) {
    const int each = (count + kPlanThreads - 1) / kPlanThreads;
    begin = min(count, static_cast<int>(threadIdx.x) * each);
    end = min(count, begin + each);
  }
  int begin, end;
};

// Sorts by falling tile counts, whose bits are in `bits`; equal counts keep their order. Returns the one of
// the two arrays that holds the result. The arrays are complete before and after.
__device__ SegmentTiles* SortSegments(int count, unsigned bits, SegmentTiles* from, SegmentTiles* to) {
  const Share share(count);
  for (int bit = 0; (bits >> bit) > 0; ++bit) {
    int ones = 0;
    for (int i = share.begin; i < share.end; ++i) ones += from[i].tiles >> bit & 1;
    int all_ones = 0;
    int ones_before = BlockExclusiveSum(ones, &all_ones);
    for (int i = share.begin; i < share.end; ++i) {
      const SegmentTiles item = from[i];
      if ((item.tiles >> bit & 1) != 0) {
        to[ones_before++] = item;
      } else {
        to[all_ones + i - ones_before] = item;
      }
    }
    __syncthreads();
    SegmentTiles* const sorted = to;
    to = from;
    from = sorted;
  }
  return from;
}

// How many of the sorted segments have more than `level` tiles.
__device__ int SegmentsAbove(const SegmentTiles* sorted, int count, int level) {
  int low = 0;
  int high = count;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (sorted[middle].tiles > level) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// offsets[level] = the number of tiles at higher levels.
__device__ void FindLevelOffsets(const SegmentTiles* sorted, int count, int levels, int32_t* offsets) {
  for (int level = threadIdx.x; level < levels; level += kPlanThreads) {
    offsets[level] = SegmentsAbove(sorted, count, level);
  }
  __syncthreads();
  const Share share(levels);  // counted from the highest level
  int tiles = 0;
  for (int i = share.begin; i < share.end; ++i) tiles += offsets[levels - 1 - i];
  int all_tiles = 0;
  int above = BlockExclusiveSum(tiles, &all_tiles);
  for (int i = share.begin; i < share.end; ++i) {
    const int here = offsets[levels - 1 - i];
    offsets[levels - 1 - i] = above;
    above += here;
  }
  __syncthreads();
}

struct PlanArgs {
  const int32_t* cu_seqlens = nullptr;
  int segments = 0;
  int rows_per_tile = 0;
  bool by_level = false;
  bool queries = false;
  AttentionTile* tiles = nullptr;
  int32_t* count = nullptr;
  int32_t* ticket = nullptr;
  SegmentTiles* segment_memory = nullptr;  // [2, segments], where shared memory is too small
  int32_t* level_memory = nullptr;         // null where shared memory suffices
};

__global__ __launch_bounds__(kPlanThreads) void BuildTilesKernel(const PlanArgs args) {
  __shared__ SegmentTiles shared_segments[2 * kSharedSegments];
  __shared__ int32_t shared_levels[kSharedLevels];
  __shared__ unsigned bits_of_all;
  AwaitEarlierKernels();
  const bool is_shared = args.segments <= kSharedSegments;
  SegmentTiles* const first = is_shared ? shared_segments : args.segment_memory;
  SegmentTiles* const second = first + (is_shared ? kSharedSegments : args.segments);
  int32_t* const offsets = args.level_memory == nullptr ? shared_levels : args.level_memory;

  if (threadIdx.x == 0) bits_of_all = 0;
  __syncthreads();
  unsigned bits = 0;
  int tiles = 0;
  for (int s = threadIdx.x; s < args.segments; s += kPlanThreads) {
    const int length = args.cu_seqlens[s + 1] - args.cu_seqlens[s];
    const int n = (length + args.rows_per_tile - 1) / args.rows_per_tile;
    first[s] = {n, s};
    bits |= n;
    tiles += n;
  }
  bits = __reduce_or_sync(kAllLanes, bits);
  if (threadIdx.x % kWarp == 0) atomicOr(&bits_of_all, bits);
  int all_tiles = 0;
  BlockExclusiveSum(tiles, &all_tiles);  // its barriers also complete the array and the bits
  if (threadIdx.x == 0) {
    *args.count = all_tiles;
    *args.ticket = 0;
  }

  SegmentTiles* const sorted =
      args.segments > 1 ? SortSegments(args.segments, bits_of_all, first, second) : first;
  SegmentTiles* const spare = sorted == first ? second : first;
  if (args.by_level) {
    FindLevelOffsets(sorted, args.segments, sorted[0].tiles, offsets);
  } else {
    const Share share(args.segments);
    int mine = 0;
    for (int i = share.begin; i < share.end; ++i) mine += sorted[i].tiles;
    int before = BlockExclusiveSum(mine, &all_tiles);
    for (int i = share.begin; i < share.end; ++i) {
      spare[i].tiles = before;
      before += sorted[i].tiles;
    }
    __syncthreads();
  }

  // As many threads on a segment as there are for each, a warp at least.
  int each = kPlanThreads;
  while (each > kWarp && int64_t{each} * args.segments > kPlanThreads) each /= 2;
  for (int rank = threadIdx.x / each; rank < args.segments; rank += kPlanThreads / each) {
    const int n = sorted[rank].tiles;
    if (n == 0) break;  // so are all that follow
    const int segment = sorted[rank].segment;
    const int begin = args.cu_seqlens[segment];
    const int end = args.cu_seqlens[segment + 1];
    const int start = args.by_level ? rank : spare[rank].tiles;
    for (int i = threadIdx.x % each; i < n; i += each) {
      const int level = args.queries ? i : n - 1 - i;
      const int place = start + (args.by_level ? offsets[level] : i);
      args.tiles[place] = {begin, end, begin + i * args.rows_per_tile};
    }
  }
}

// --- Row sums. ---
//
// A block takes one head of a run of tokens and writes the sums of the run together. kLanes neighbouring
// threads share a row; each reads its packs of several rows before it adds.

constexpr int kDotThreads = 256;
constexpr int kDotRowsAhead = 4;

template <class T>
struct DotArgs {
  int64_t tokens = 0;
  int64_t heads = 0;
  int head_dim = 0;
  const T* o = nullptr;
  int64_t o_stride = 0;
  const T* d_o = nullptr;
  int64_t d_o_stride = 0;
  float* dots = nullptr;
};

template <class T, int kPack, int kLanes>
__global__ __launch_bounds__(kDotThreads) void RowDotsKernel(const DotArgs<T> args) {
  constexpr int kRowsAtOnce = kDotThreads / kLanes;
  constexpr int kRows = kRowsAtOnce * kDotRowsAhead;
  __shared__ float sums[kRows];
  const int64_t head = blockIdx.x % args.heads;
  const int64_t first = blockIdx.x / args.heads * kRows;
  const int rows = static_cast<int>(min(int64_t{kRows}, args.tokens - first));
  const int lane = threadIdx.x % kLanes;
  const int my_row = threadIdx.x / kLanes;
  const T* const o = args.o + first * args.o_stride + head * args.head_dim;
  const T* const d_o = args.d_o + first * args.d_o_stride + head * args.head_dim;

  float sum[kDotRowsAhead] = {};
  for (int column = lane * kPack; column < args.head_dim; column += kLanes * kPack) {
    Pack<T, kPack> a[kDotRowsAhead], b[kDotRowsAhead];
#pragma unroll
    for (int r = 0; r < kDotRowsAhead; ++r) {
      const int row = my_row + r * kRowsAtOnce;
      if (row < rows) {
        a[r] = LoadPack<kPack>(o + row * args.o_stride + column);
        b[r] = LoadPack<kPack>(d_o + row * args.d_o_stride + column);
      }
    }
#pragma unroll
    for (int r = 0; r < kDotRowsAhead; ++r) {
      if (my_row + r * kRowsAtOnce < rows) {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          sum[r] = fmaf(ToFloat(a[r].at[e]), ToFloat(b[r].at[e]), sum[r]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kDotRowsAhead; ++r) {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], offset);
    }
    if (lane == 0) sums[my_row + r * kRowsAtOnce] = sum[r];
  }
  __syncthreads();
  float* const dots = args.dots + head * args.tokens + first;
  for (int row = threadIdx.x; row < rows; row += kDotThreads) dots[row] = sums[row];
}

template <class T, int kPack, int kLanes>
void LaunchRowDots(const Stream& stream, const DotArgs<T>& args) {
  constexpr int kRows = kDotThreads / kLanes * kDotRowsAhead;
  const int64_t blocks = CeilDiv(args.tokens, kRows) * args.heads;
  LaunchInTurn(stream, RowDotsKernel<T, kPack, kLanes>, static_cast<unsigned>(blocks), kDotThreads, args);
}

template <class T>
void RowDotsAs(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
               float* dots) {
  constexpr int kPack = kPackOf<T>;
  const DotArgs<T> args{.tokens = shape.tokens,
                        .heads = shape.heads,
                        .head_dim = static_cast<int>(shape.head_dim),
                        .o = operands.o.data.as<T>(),
                        .o_stride = operands.o.stride,
                        .d_o = operands.d_o.data.template as<T>(),
                        .d_o_stride = operands.d_o.stride,
                        .dots = dots};
  const bool packed = IsPacked<kPack>(args.o, args.o_stride) && IsPacked<kPack>(args.d_o, args.d_o_stride) &&
                      shape.head_dim % kPack == 0;
  if (!packed) return LaunchRowDots<T, 1, kWarp>(stream, args);
  if (shape.head_dim <= 8 * kPack) return LaunchRowDots<T, kPack, 8>(stream, args);
  if (shape.head_dim <= 16 * kPack) return LaunchRowDots<T, kPack, 16>(stream, args);
  LaunchRowDots<T, kPack, kWarp>(stream, args);
}

}  // namespace

int64_t TileListBytes(const AttentionShape& shape, int64_t rows_per_tile) {
  return ListLayout(shape, rows_per_tile).bytes;
}

AttentionTileList BuildTiles(const Stream& stream, const AttentionShape& shape, int64_t rows_per_tile,
                             TileOrder order, void* memory) {
  const ListLayout layout(shape, rows_per_tile);
  TANREN_CUDA_REQUIRE(shape.segments > 0 && MaxTiles(shape.tokens, shape.segments, 1) < INT32_MAX);
  char* const base = static_cast<char*>(memory);
  PlanArgs args{.cu_seqlens = shape.cu_seqlens,
                .segments = static_cast<int>(shape.segments),
                .rows_per_tile = static_cast<int>(rows_per_tile),
                .by_level = shape.mask == AttentionMask::kCausal,
                .queries = order == TileOrder::kQueries,
                .tiles = reinterpret_cast<AttentionTile*>(base + layout.tiles),
                .count = reinterpret_cast<int32_t*>(base),
                .ticket = reinterpret_cast<int32_t*>(base + kAlignment / 2),
                .segment_memory = reinterpret_cast<SegmentTiles*>(base + layout.segments)};
  if (layout.most_levels > kSharedLevels) {
    args.level_memory = reinterpret_cast<int32_t*>(base + layout.levels);
  }
  LaunchChained(stream, BuildTilesKernel, 1, kPlanThreads, args);
  return {args.tiles, args.count, args.ticket};
}

void AttentionRowDots(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
                      float* dots) {
  if (shape.tokens == 0) return;
  if (operands.o.data.dtype == DType::kBF16) {
    RowDotsAs<BFloat16>(stream, shape, operands, dots);
  } else {
    RowDotsAs<float>(stream, shape, operands, dots);
  }
}

}  // namespace tanren::kernels::cuda
