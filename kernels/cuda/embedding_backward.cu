// The embedding's gradient: rows of dy added to the table rows that their tokens looked up.
//
// The tokens are sorted by row first (token_sort.h), so that those of one row form a run in token order. A
// warp adds one chunk of one run for one slice of the columns:
//
//  - A run of up to 64 tokens is one chunk, added to the table row token by token.
//  - A longer run (frequent words, padding) is cut into chunks of 64 tokens, or of the next power of two
//  whose
//    square reaches the run's length, so that neither a chunk nor the number of chunks grows long. Each chunk
//    is summed token by token from zero, then the table row takes the chunks' sums one after the other.
//
// So the order of additions to a row follows from the tokens of that row alone. The order in which chunks are
// listed varies from call to call, and nothing depends on it.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/cuda/token_sort.h"
#include "kernels/embedding.h"

namespace tanren::kernels {
namespace cuda {
namespace {

// --- Runs and chunks. ---

constexpr int64_t kChunkTokens = 64;  // the shortest chunk of a run that has several

__host__ __device__ constexpr int64_t ChunkTokensOf(int64_t run_tokens) {
  int64_t chunk = kChunkTokens;
  while (chunk * chunk < run_tokens) chunk *= 2;
  return chunk;
}

// A slot for the sum of each chunk of a run of several. Chunks of one run begin at least 64 places apart and
// such a run is longer than 64, so 64 neighbouring places hold the beginnings of at most one such run and of
// at most one later chunk.
__host__ __device__ constexpr int64_t SlotOf(int64_t first, bool begins_run) {
  return 2 * (first / kChunkTokens) + (begins_run ? 1 : 0);
}
constexpr int64_t SlotCount(int64_t tokens) { return 2 * CeilDiv(tokens, kChunkTokens); }

constexpr int32_t kNoSlot = -1;

struct alignas(16) Chunk {
  int32_t first;  // in the sorted order
  int32_t tokens;
  int32_t row;
  int32_t slot;  // where its sum goes; kNoSlot: it is its run's only chunk and goes straight to the table
};
struct alignas(16) Run {
  int32_t first;
  int32_t tokens;
  int32_t row;
  int32_t chunk_tokens;
};

// The chunks of all runs, and the runs that have several, in any order.
struct ChunkList {
  Chunk* chunks;
  Run* runs;
  int32_t* chunk_count;  // [1]
  int32_t* run_count;    // [1]
};

// Length of the run that begins at `first`: doubling steps while they stay in it, then halving ones.
__device__ __forceinline__ int64_t RunLength(const int32_t* rows, int64_t count, int64_t first) {
  const int32_t row = rows[first];
  const auto is_in_run = [&](int64_t i) { return i < count && rows[i] == row; };
  int64_t last = first;
  int64_t step = 1;
  while (is_in_run(last + step)) {
    last += step;
    step *= 2;
  }
  for (step /= 2; step > 0; step /= 2) {
    if (is_in_run(last + step)) last += step;
  }
  return last + 1 - first;
}

constexpr int kListThreads = 256;

// A thread looks at one place of the sorted order; a warp writes the entries of its long runs together.
__global__ __launch_bounds__(kListThreads) void ListChunksKernel(SortedTokens sorted, ChunkList list) {
  const int lane = threadIdx.x % kWarp;
  const int64_t count = *sorted.count;
  const int64_t first = int64_t{blockIdx.x} * kListThreads + threadIdx.x;
  const bool begins_run = first < count && (first == 0 || sorted.rows[first - 1] != sorted.rows[first]);
  const int64_t length = begins_run ? RunLength(sorted.rows, count, first) : 0;
  const int64_t chunk_tokens = ChunkTokensOf(length);
  const int own = static_cast<int>((length + chunk_tokens - 1) / chunk_tokens);

  int inclusive = own;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int below = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += below;
  }
  const unsigned long_runs = __ballot_sync(kAllLanes, own > 1);
  int chunk_base = 0;
  int run_base = 0;
  if (lane == kWarp - 1) {
    if (inclusive > 0) chunk_base = atomicAdd(list.chunk_count, inclusive);
    if (long_runs != 0) run_base = atomicAdd(list.run_count, __popc(long_runs));
  }
  const int at = __shfl_sync(kAllLanes, chunk_base, kWarp - 1) + inclusive - own;
  const int run_at = __shfl_sync(kAllLanes, run_base, kWarp - 1) + __popc(long_runs & ((1u << lane) - 1));

  const Run run{static_cast<int32_t>(first), static_cast<int32_t>(length),
                begins_run ? sorted.rows[first] : 0, static_cast<int32_t>(chunk_tokens)};
  if (own == 1) list.chunks[at] = {run.first, run.tokens, run.row, kNoSlot};
  if (own > 1) list.runs[run_at] = run;
  for (unsigned left = long_runs; left != 0; left &= left - 1) {
    const int owner = __ffs(left) - 1;
    const int64_t run_first = __shfl_sync(kAllLanes, run.first, owner);
    const int64_t run_tokens = __shfl_sync(kAllLanes, run.tokens, owner);
    const int64_t step = __shfl_sync(kAllLanes, run.chunk_tokens, owner);
    const int32_t row = __shfl_sync(kAllLanes, run.row, owner);
    const int chunks = __shfl_sync(kAllLanes, own, owner);
    const int begin = __shfl_sync(kAllLanes, at, owner);
    for (int c = lane; c < chunks; c += kWarp) {
      const int64_t chunk_first = run_first + c * step;
      const int64_t tokens = min(step, run_first + run_tokens - chunk_first);
      list.chunks[begin + c] = {static_cast<int32_t>(chunk_first), static_cast<int32_t>(tokens), row,
                                static_cast<int32_t>(SlotOf(chunk_first, c == 0))};
    }
  }
}

// --- Sums. ---

constexpr int kAddThreads = 256;
constexpr int kAddWarps = kAddThreads / kWarp;
constexpr int kAddBlocksPerMultiprocessor = 4;

// dy and dtable are both walked in packs that are 16 bytes of the table.
constexpr int kAddPack = kPackOf<float>;
template <int kCount>
constexpr int kAddLanePacks = kCount == 1 ? 4 : 2;
template <int kCount>
constexpr int64_t kSlice = kWarp* kAddLanePacks<kCount>* kCount;  // columns of a warp

struct Columns {
  int64_t begin;
  int64_t end;
  __host__ __device__ int64_t count() const { return end - begin; }
};

// partials: [slots, columns.count()].
template <class T, int kCount>
__global__ __launch_bounds__(kAddThreads, kAddBlocksPerMultiprocessor) void AddChunksKernel(
    ChunkList list, const int32_t* sorted_tokens, Columns columns, int64_t width, const T* dy, float scale,
    float* dtable, float* partials) {
  constexpr int kPacks = kAddLanePacks<kCount>;
  constexpr int kBytesAhead = 64;  // in flight for each lane
  constexpr int kAhead = std::min(4, kBytesAhead / static_cast<int>(kPacks * kCount * sizeof(T)));  // tokens
  const int lane = threadIdx.x % kWarp;
  const int64_t slices = (columns.count() + kSlice<kCount> - 1) / kSlice<kCount>;
  const int64_t units = *list.chunk_count * slices;
  const int64_t step = int64_t{gridDim.x} * kAddWarps;
  for (int64_t unit = int64_t{blockIdx.x} * kAddWarps + threadIdx.x / kWarp; unit < units; unit += step) {
    const Chunk chunk = list.chunks[unit / slices];
    const int64_t column = columns.begin + unit % slices * kSlice<kCount> + lane * kCount;
    const auto is_inside = [&](int p) { return column + p * kWarp * kCount < columns.end; };
    float* to = chunk.slot == kNoSlot ? dtable + chunk.row * width + column
                                      : partials + chunk.slot * columns.count() + (column - columns.begin);

    Pack<float, kCount> sums[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (float& sum : sums[p].at) sum = 0;
      if (chunk.slot == kNoSlot && is_inside(p)) sums[p] = LoadPack<kCount>(to + p * kWarp * kCount);
    }
    for (int first = 0; first < chunk.tokens; first += kWarp) {
      const int count = min(kWarp, chunk.tokens - first);
      const int32_t token = lane < count ? sorted_tokens[chunk.first + first + lane] : 0;
      for (int t = 0; t < count; t += kAhead) {
        Pack<T, kCount> values[kAhead][kPacks];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          // Past the count, lane 0's token; it is not used.
          const int64_t from = __shfl_sync(kAllLanes, token, t + a < count ? t + a : 0);
#pragma unroll
          for (int p = 0; p < kPacks; ++p) {
            if (t + a < count && is_inside(p)) {
              values[a][p] = LoadPack<kCount>(dy + from * width + column + p * kWarp * kCount);
            }
          }
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
#pragma unroll
          for (int p = 0; p < kPacks; ++p) {
            if (t + a >= count || !is_inside(p)) continue;
#pragma unroll
            for (int e = 0; e < kCount; ++e) {
              sums[p].at[e] = __fmaf_rn(scale, ToFloat(values[a][p].at[e]), sums[p].at[e]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (is_inside(p)) StorePack(to + p * kWarp * kCount, sums[p]);
    }
  }
}

// The table row of each run of several chunks takes the chunks' sums in order. A lane has one pack of
// columns.
template <int kCount>
__global__ __launch_bounds__(kAddThreads, kAddBlocksPerMultiprocessor) void AddPartialsKernel(
    ChunkList list, Columns columns, int64_t width, const float* partials, float* dtable) {
  constexpr int kAhead = 8;  // chunks in flight
  constexpr int kRunSlice = kWarp * kCount;
  const int64_t slices = (columns.count() + kRunSlice - 1) / kRunSlice;
  const int64_t units = *list.run_count * slices;
  const int64_t step = int64_t{gridDim.x} * kAddWarps;
  for (int64_t unit = int64_t{blockIdx.x} * kAddWarps + threadIdx.x / kWarp; unit < units; unit += step) {
    const Run run = list.runs[unit / slices];
    const int64_t column = unit % slices * kRunSlice + threadIdx.x % kWarp * kCount;
    if (column >= columns.count()) continue;
    float* to = dtable + run.row * width + columns.begin + column;
    Pack<float, kCount> sum = LoadPack<kCount>(to);
    const int chunks = (run.tokens - 1) / run.chunk_tokens + 1;
    for (int c = 0; c < chunks; c += kAhead) {
      Pack<float, kCount> values[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (c + a >= chunks) continue;
        const int64_t slot = SlotOf(run.first + int64_t{c + a} * run.chunk_tokens, c + a == 0);
        values[a] = LoadPack<kCount>(partials + slot * columns.count() + column);
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (c + a >= chunks) continue;
#pragma unroll
        for (int e = 0; e < kCount; ++e) sum.at[e] += values[a].at[e];
      }
    }
    StorePack(to, sum);
  }
}

// --- The whole. ---

// Partial sums for all columns at once would take up to an eighth of a byte a token and column, which long
// packed rows of wide models make much; beyond this size the columns are done in several launches.
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

struct Workspace {
  void* sort;
  ChunkList list;
  float* partials;
  int64_t columns_per_launch;
};

Workspace MakeWorkspace(const Stream& stream, int64_t tokens, int64_t width) {
  constexpr int64_t kAlignment = 256;
  constexpr int64_t kColumnGrain = kSlice<kAddPack>;
  static_assert(kColumnGrain % kSlice<1> == 0);
  const int64_t slots = tokens > kChunkTokens ? SlotCount(tokens) : 0;
  const int64_t column_bytes = std::max<int64_t>(1, slots * static_cast<int64_t>(sizeof(float)));
  const int64_t grains = std::max<int64_t>(1, kMaxPartialBytes / column_bytes / kColumnGrain);
  const int64_t columns = std::min(width, grains * kColumnGrain);

  int64_t bytes = 0;
  const auto reserve = [&](int64_t part_bytes) {
    const int64_t at = bytes;
    bytes += CeilDiv(part_bytes, kAlignment) * kAlignment;
    return at;
  };
  const int64_t counts = reserve(2 * sizeof(int32_t));
  const int64_t sort = reserve(TokenSortBytes(tokens));
  const int64_t chunks = reserve(tokens * sizeof(Chunk));
  const int64_t runs = reserve(tokens / (kChunkTokens + 1) * sizeof(Run));
  const int64_t partials = reserve(slots * columns * sizeof(float));

  char* const base = static_cast<char*>(Scratch(stream, bytes));
  int32_t* const count = reinterpret_cast<int32_t*>(base + counts);
  return {.sort = base + sort,
          .list = {.chunks = reinterpret_cast<Chunk*>(base + chunks),
                   .runs = reinterpret_cast<Run*>(base + runs),
                   .chunk_count = count,
                   .run_count = count + 1},
          .partials = reinterpret_cast<float*>(base + partials),
          .columns_per_launch = columns};
}

template <class T, int kCount>
void AddRows(const Stream& stream, const EmbeddingArgs& args, const T* dy, float scale, float* dtable,
             const int32_t* sorted_tokens, const Workspace& work) {
  // Nobody on the host knows how many chunks there are. A grid of a few waves evens out their lengths without
  // many blocks that find nothing to do.
  constexpr int64_t kWaves = 16;
  const int64_t most_blocks = CurrentArchitecture().multiprocessors * kAddBlocksPerMultiprocessor * kWaves;
  for (int64_t begin = 0; begin < args.width; begin += work.columns_per_launch) {
    const Columns columns{begin, std::min(args.width, begin + work.columns_per_launch)};
    const auto blocks_for = [&](int64_t items, int64_t slice) {
      const int64_t units = items * CeilDiv(columns.count(), slice);
      return static_cast<unsigned>(std::min(most_blocks, CeilDiv(units, kAddWarps)));
    };
    LaunchInTurn(stream, AddChunksKernel<T, kCount>, blocks_for(args.tokens, kSlice<kCount>), kAddThreads,
                 work.list, sorted_tokens, columns, args.width, dy, scale, dtable, work.partials);
    const int64_t most_runs = args.tokens / (kChunkTokens + 1);
    if (most_runs == 0) continue;
    LaunchInTurn(stream, AddPartialsKernel<kCount>, blocks_for(most_runs, kWarp * kCount), kAddThreads,
                 work.list, columns, args.width, work.partials, dtable);
  }
}

template <class T>
void Backward(const Stream& stream, const EmbeddingArgs& args, const T* dy, float scale, float* dtable) {
  const Workspace work = MakeWorkspace(stream, args.tokens, args.width);
  const SortedTokens sorted = SortTokens(stream, args, work.sort);
  TANREN_CUDA(cudaMemsetAsync(work.list.chunk_count, 0, 2 * sizeof(int32_t), Handle(stream)));
  const unsigned blocks = static_cast<unsigned>(CeilDiv(args.tokens, kListThreads));
  LaunchInTurn(stream, ListChunksKernel, blocks, kListThreads, sorted, work.list);
  if (IsPacked<kAddPack>(dy, args.width) && IsPacked<kAddPack>(dtable, args.width)) {
    AddRows<T, kAddPack>(stream, args, dy, scale, dtable, sorted.tokens, work);
  } else {
    AddRows<T, 1>(stream, args, dy, scale, dtable, sorted.tokens, work);
  }
}

}  // namespace
}  // namespace cuda

void cuda::EmbeddingBackward(const Stream& stream, const EmbeddingArgs& args, ConstBuffer dy, float scale,
                             float* dtable) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(dy.dtype));
  constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max();
  TANREN_CUDA_REQUIRE(args.tokens <= kMaxCount && args.rows <= kMaxCount);
  if (args.tokens <= 0 || args.width <= 0 || args.rows <= 0) return;
  if (dy.dtype == DType::kF32) {
    Backward(stream, args, dy.as<float>(), scale, dtable);
  } else {
    Backward(stream, args, dy.as<BFloat16>(), scale, dtable);
  }
}

}  // namespace tanren::kernels
