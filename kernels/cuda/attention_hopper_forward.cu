// Forward attention on Hopper in bf16, after FlashAttention-3 (Shah et al. 2024).
//
// A block stays on its multiprocessor and takes jobs (a tile of queries of one segment, one head) from a
// counter, longest first. Its first warpgroup gives most of its registers away; one thread of it feeds the
// copy engine: the jobs' queries, and tiles of keys and of values through two rings in shared memory. Each
// further warpgroup owns 64 query rows and keeps their outputs O, scores S and weights P in registers. It
// visits the key tiles from the last (where the masks are) to the first:
//
//   S = Q K_0^T; P = weights of S
//   for the next tiles j: start S = Q K_j^T; start O += P V_(j-1);
//                         when S is there: its weights; when O is there: rescale O, P = the new weights
//   O += P V_last; divide, store
//
// so that the softmax of one tile runs beside the product P V of the tile before it. Where shared memory has
// room for the queries of two jobs, jobs are joined in the same way:
//
//   after a job's last weights: start S = Q' K'_0^T of the next job; start O += P V_last;
//                               when S is there: its weights; when O is there: P = the new weights;
//                               divide O, store it, begin again at O = 0
//
// so that only a block's first softmax and last product run alone. Besides that, warpgroups take turns in
// starting their products (named barriers), so that one's softmax runs under another's products.
//
// The order of all sums is that of the key tiles counted from the segment's begin, whichever block computes
// them. Rows of neighbouring segments that a tile holds are masked out of S; as 0 * NaN is not 0, their
// values are also cleared in shared memory.
//
// The plans were chosen among some sixty that were timed on an H100 (docs/benchmarks/gpu.md). Not done:
// thread-block clusters with multicast of K and V, packing the query heads of a group into one tile.
#include <algorithm>

#include "kernels/cuda/attention_hopper_softmax.cuh"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/hopper_instructions.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {

// Named, as a compiler for another architecture would call device code without a name unused.
namespace hopper_forward {

using namespace hopper;  // NOLINT: the vocabulary of this file

// kTurns: warpgroups take turns. kRescaleUnderScores: O is rescaled one step later, between the start of the
// products, where the wide O of large heads would keep the tensor cores waiting. kJoinsJobs: a job's last
// product runs beside the next job's first scores. kHeadroom: see WeightsOf.
template <int kHeadDimOf, int kConsumersOf, int kKeysOf, int kStagesOf, bool kTurnsOf,
          bool kRescaleUnderScoresOf, bool kJoinsJobsOf, int kHeadroomOf>
struct Plan {
  static constexpr int kHeadDim = kHeadDimOf;
  static constexpr int kConsumers = kConsumersOf;  // warpgroups of 64 query rows
  static constexpr int kQueries = kConsumers * kWgmmaRows;
  static constexpr int kKeys = kKeysOf;
  static constexpr int kStages = kStagesOf;
  static constexpr bool kTurns = kTurnsOf;
  static constexpr bool kRescaleUnderScores = kRescaleUnderScoresOf;
  static constexpr bool kJoinsJobs = kJoinsJobsOf;
  static constexpr int kHeadroom = kHeadroomOf;
  static constexpr int kQueryBuffers = kJoinsJobs ? 2 : 1;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
  // Of the 65,536 registers of a multiprocessor.
  static constexpr int kProducerRegisters = 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 232 : 160;
  static constexpr int kQueryBytes = kQueries * kHeadDim * 2;
  static constexpr int kKeyBytes = kKeys * kHeadDim * 2;
  static_assert(kConsumers == 2 || kConsumers == 3);
  static_assert(kKeys % kWgmmaInner == 0 && kKeyBytes % kTileAlignment == 0);
};
using Plan64 = Plan<64, 3, 128, 3, true, false, false, kFollowsMaxima>;
using Plan128 = Plan<128, 2, 128, 2, true, true, true, 8>;
using Plan256 = Plan<256, 2, 80, 2, false, true, false, 8>;

// One tile of queries of one head. Positions count from the segment's begin.
struct Job {
  int begin = 0;   // the segment's first token
  int length = 0;  // and its length
  int row = 0;     // the tile's first query
  int head = 0;    // kNoMoreJobs: the end
  int kv_head = 0;
};
inline constexpr int kNoMoreJobs = -1;

template <class P>
struct alignas(kTileAlignment) Shared {
  char q[P::kQueryBuffers][P::kQueryBytes];
  char k[P::kStages][P::kKeyBytes];
  char v[P::kStages][P::kKeyBytes];
  uint64_t q_full[P::kQueryBuffers], q_empty[P::kQueryBuffers];  // guard `job` too
  uint64_t k_full[P::kStages], k_empty[P::kStages];
  uint64_t v_full[P::kStages], v_empty[P::kStages];
  Job job[P::kQueryBuffers];
  float never_written;  // KeepBeforeWait
};
template <class P>
inline constexpr int kSharedBytes = sizeof(Shared<P>) + kTileAlignment;  // room to align the base

struct Arguments {
  AttentionTileList list;
  void* o = nullptr;
  int64_t o_stride = 0;
  float* lse = nullptr;
  int tokens = 0;
  int heads = 0;
  int group = 0;          // query heads per key/value head
  int section_heads = 0;  // heads whose keys and values share L2 at a time, a multiple of group
  Visibility sees;
  float scale = 0;     // of scores, to base-2 exponents
  SoftCapFactors cap;  // instead of `scale`, where there is a soft cap
};

struct KeyTiles {
  int first = 0;
  int last = 0;
};
// The key tiles that any query of the job sees.
template <class P>
__device__ __forceinline__ KeyTiles KeyTilesOf(const Arguments& arguments, const Job& job) {
  const int last_row = min(job.row + P::kQueries, job.length) - 1;
  const int begin = max(0, job.row - arguments.sees.window + 1);
  const int end = min(last_row + arguments.sees.ahead, job.length);
  return {begin / P::kKeys, (end - 1) / P::kKeys};
}

// The item-th job: heads in sections; within one, all tiles in the order of the list, each for all heads.
__device__ __forceinline__ Job JobOf(const Arguments& arguments, unsigned tiles, unsigned item) {
  const unsigned full = tiles * arguments.section_heads;
  const unsigned section = item / full, rest = item - section * full;
  const unsigned first_head = section * arguments.section_heads;
  const unsigned width = min(unsigned(arguments.section_heads), arguments.heads - first_head);
  const AttentionTile tile = arguments.list.tiles[rest / width];
  const int head = static_cast<int>(first_head + rest % width);
  return {tile.begin, tile.end - tile.begin, tile.row - tile.begin, head, head / arguments.group};
}

// ---- The producer: one thread.

template <class P>
__device__ __forceinline__ void Produce(const Arguments& arguments, const CUtensorMap& q_map,
                                        const CUtensorMap& k_map, const CUtensorMap& v_map,
                                        Shared<P>& shared) {
  const unsigned tiles = *arguments.list.count, items = tiles * arguments.heads;
  RingPosition<P::kQueryBuffers> q;
  RingPosition<P::kStages> k, v;
  const auto load = [&](const CUtensorMap& map, const Job& job, int tile, char(&slot)[P::kKeyBytes],
                        uint64_t* full) {
    ArriveExpect(full, P::kKeyBytes);
    TmaLoad4D(slot, &map, full, 0, job.begin + tile * P::kKeys, 0, job.kv_head);
  };
  const auto load_keys = [&](const Job& job, int tile) {
    Wait(&shared.k_empty[k.slot], k.parity ^ 1);
    load(k_map, job, tile, shared.k[k.slot], &shared.k_full[k.slot]);
    k.Next();
  };
  const auto load_values = [&](const Job& job, int tile) {
    Wait(&shared.v_empty[v.slot], v.parity ^ 1);
    load(v_map, job, tile, shared.v[v.slot], &shared.v_full[v.slot]);
    v.Next();
  };
  const auto job_of = [&](unsigned item) {
    return item < items ? JobOf(arguments, tiles, item) : Job{.head = kNoMoreJobs};
  };
  // Announces a job, or the end, and loads its queries and first keys.
  const auto begin = [&](const Job& job) {
    Wait(&shared.q_empty[q.slot], q.parity ^ 1);
    shared.job[q.slot] = job;
    if (job.head == kNoMoreJobs) {
      Arrive(&shared.q_full[q.slot]);
      return;
    }
    ArriveExpect(&shared.q_full[q.slot], P::kQueryBytes);
    TmaLoad4D(shared.q[q.slot], &q_map, &shared.q_full[q.slot], 0, job.begin + job.row, 0, job.head);
    q.Next();
    load_keys(job, KeyTilesOf<P>(arguments, job).last);
  };

  Job job = job_of(blockIdx.x);
  unsigned item = gridDim.x + atomicAdd(arguments.list.ticket, 1);
  begin(job);
  while (job.head != kNoMoreJobs) {
    // The ticket was asked for when the job before began, so that it is not waited for.
    const Job next = job_of(item);
    item = gridDim.x + atomicAdd(arguments.list.ticket, 1);
    // Keys run one tile ahead of values, as the consumers' products do.
    const KeyTiles range = KeyTilesOf<P>(arguments, job);
#pragma unroll 1
    for (int tile = range.last; tile > range.first; --tile) {
      load_keys(job, tile - 1);
      load_values(job, tile);
    }
    if constexpr (P::kJoinsJobs) begin(next);
    load_values(job, range.first);
    if constexpr (!P::kJoinsJobs) begin(next);
    job = next;
  }
}

// ---- A consumer warpgroup.

// One arrival per warp, after all of its lanes are done.
__device__ __forceinline__ void Release(uint64_t* empty) {
  __syncwarp();
  if (threadIdx.x % kWarp == 0) Arrive(empty);
}

template <class P>
__device__ __forceinline__ void StartScores(float (&s)[P::kKeys / 2], uint32_t q_rows, uint32_t k_tile) {
  const uint64_t q = KMajorDescriptor(q_rows), k = KMajorDescriptor(k_tile);
#pragma unroll
  for (int panel = 0; panel < P::kHeadDim / kPanelColumns; ++panel) {
#pragma unroll
    for (int step = 0; step < kPanelColumns / kWgmmaInner; ++step) {
      WgmmaSS<false, false>(s, Advance(q, panel * P::kQueries * kPanelRowBytes + step * kKMajorStepBytes),
                            Advance(k, panel * P::kKeys * kPanelRowBytes + step * kKMajorStepBytes),
                            panel + step == 0 ? 0 : 1);
    }
  }
}

template <class P>
__device__ __forceinline__ void StartOutputs(float (&o)[P::kHeadDim / 2], const uint32_t (&p)[P::kKeys / 4],
                                             uint32_t v_tile) {
  const uint64_t v = MnMajorDescriptor(v_tile, P::kKeys * kPanelRowBytes);
#pragma unroll
  for (int step = 0; step < P::kKeys / kWgmmaInner; ++step) {
    WgmmaRS<true>(o, p[4 * step], p[4 * step + 1], p[4 * step + 2], p[4 * step + 3],
                  Advance(v, step * kMnMajorStepBytes), 1);
  }
}

// Zeros the rows [valid, kKeys) of a tile of values, before this warpgroup's products read it. Each warpgroup
// does so by itself: none reads rows that it has not cleared, and two that clear write the same zeros.
template <class P>
__device__ __forceinline__ void ClearRows(char (&v)[P::kKeyBytes], int valid, int barrier) {
  constexpr int kVectorsPerRow = kPanelRowBytes / 16;
  const int vectors = (P::kKeys - valid) * kVectorsPerRow;
#pragma unroll 1
  for (int panel = 0; panel < P::kHeadDim / kPanelColumns; ++panel) {
    // The swizzle moves bytes within a row only.
    uint4* rows = reinterpret_cast<uint4*>(v + (panel * P::kKeys + valid) * kPanelRowBytes);
    for (int i = threadIdx.x % kWarpgroup; i < vectors; i += kWarpgroup) rows[i] = make_uint4(0, 0, 0, 0);
  }
  FenceAsyncProxy();
  NamedSync(barrier, kWarpgroup);
}

// Divides by the sums and stores the rows that lie in the segment. `row`: position of the thread's first row.
template <class P>
__device__ __forceinline__ void Finish(const Arguments& arguments, const Job& job, int row,
                                       const float (&o)[P::kHeadDim / 2], const RowState& rows, float scale) {
  constexpr int kBlockColumns = 32;  // of the accumulator: 4 groups of 8, one for each lane of the quad
  const int lane = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    float sum = rows.sum[r];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    const float inverse = Reciprocal(sum);
    const int position = row + 8 * r;
    const int64_t token = job.begin + position;
    const bool stored = position < job.length;
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(arguments.o) + token * arguments.o_stride +
                        int64_t{job.head} * P::kHeadDim + 8 * lane;
#pragma unroll
    for (int block = 0; block < P::kHeadDim / kBlockColumns; ++block) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = (block * 4 + i) * 4 + 2 * r;
        words[i] = PackBf16(o[at] * inverse, o[at + 1] * inverse);
      }
      TransposeInQuad(words);
      if (stored) {
        *reinterpret_cast<uint4*>(to + block * kBlockColumns) =
            make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
    if (stored && lane == 0 && arguments.lse != nullptr) {
      arguments.lse[int64_t{job.head} * arguments.tokens + token] =
          fmaf(rows.max[r] * scale, kLn2, logf(sum));
    }
  }
}

// Named barriers: a turn and a private one for each consumer.
inline constexpr int kTurnBarrier = 1;
inline constexpr int kPrivateBarrier = 4;

template <class P, bool kSoftCap>
__device__ __forceinline__ void Consume(const Arguments& arguments, Shared<P>& shared, int consumer) {
  RingPosition<P::kQueryBuffers> q;
  RingPosition<P::kStages> k, v;
  const int next_turn = kTurnBarrier + (consumer + 1) % P::kConsumers;
  // The first one's first turn.
  if (P::kTurns && consumer == P::kConsumers - 1) NamedArrive(next_turn, 2 * kWarpgroup);
  const int first_row = consumer * kWgmmaRows;
  const int thread_row = first_row + AccumulatorRow(threadIdx.x % kWarpgroup, 0);
  const int thread_column = AccumulatorColumn(threadIdx.x % kWarpgroup, 0);
  const float scale = kSoftCap ? 1.0f : arguments.scale;

  // Of the job whose scores are made.
  Job job;
  KeyTiles range;
  int tile = 0;
  int q_slot = 0;
  RowState rows;

  float s[P::kKeys / 2] = {};
  uint32_t p[P::kKeys / 4];
  float o[P::kHeadDim / 2];
  float rescale[kThreadRows];

  // Goes on to the next job, whose queries it waits for. False: there is none.
  const auto take_job = [&] {
    Wait(&shared.q_full[q.slot], q.parity);
    job = shared.job[q.slot];
    if (job.head == kNoMoreJobs) return false;
    range = KeyTilesOf<P>(arguments, job);
    tile = range.last;
    q_slot = q.slot;
    q.Next();
    return true;
  };
  const auto release_keys = [&] {
    Release(&shared.k_empty[k.slot]);
    k.Next();
    if (tile == range.first) Release(&shared.q_empty[q_slot]);
  };
  // Scores of a tile, complete, to weights.
  const auto to_weights = [&] {
    if constexpr (kSoftCap) SoftCapScores(arguments.cap, s);
    const int low_row = job.row + first_row, begin = tile * P::kKeys, end = begin + P::kKeys;
    if (end > min(low_row + arguments.sees.ahead, job.length) ||
        begin < low_row + kWgmmaRows - arguments.sees.window) {
      MaskScores(arguments.sees, job.length, job.row + thread_row, begin + thread_column, s);
    }
    WeightsOf<P::kHeadroom>(s, scale, rows, rescale);
  };
  const auto rescale_outputs = [&] {
    if (P::kHeadroom == kFollowsMaxima || AnyRescales(rescale)) Rescale(o, rescale);
  };
  // After the weights of a job's first tile: O is zero, and only this tile can reach past the segment. Past
  // the end of the row the copy engine has filled in zeros.
  const auto begin_outputs = [&] {
#pragma unroll
    for (float& x : o) x = 0;
    rescale[0] = rescale[1] = 1;
    const int valid = job.length - tile * P::kKeys;
    if (valid < P::kKeys && job.begin + job.length < arguments.tokens) {
      Wait(&shared.v_full[v.slot], v.parity);
      ClearRows<P>(shared.v[v.slot], valid, kPrivateBarrier + consumer);
    }
  };
  const auto first_weights = [&] {
    Wait(&shared.k_full[k.slot], k.parity);
    WgmmaFence();
    StartScores<P>(s, SharedAddress(shared.q[q_slot]) + first_row * kPanelRowBytes,
                   SharedAddress(shared.k[k.slot]));
    WgmmaCommit();
    WgmmaWait<0>();
    FenceRegisters(s);
    release_keys();
    to_weights();
    PackFragment(s, p);
    begin_outputs();
  };
  // Starts the scores of `tile` and the product of the weights of the tile before; returns when the scores
  // are there.
  const auto start_products = [&] {
    Wait(&shared.k_full[k.slot], k.parity);
    if constexpr (P::kTurns) NamedSync(kTurnBarrier + consumer, 2 * kWarpgroup);
    WgmmaFence();
    StartScores<P>(s, SharedAddress(shared.q[q_slot]) + first_row * kPanelRowBytes,
                   SharedAddress(shared.k[k.slot]));
    WgmmaCommit();
    if constexpr (P::kRescaleUnderScores) rescale_outputs();
    Wait(&shared.v_full[v.slot], v.parity);
    FenceRegisters(o);
    WgmmaFence();
    StartOutputs<P>(o, p, SharedAddress(shared.v[v.slot]));
    WgmmaCommit();
    if constexpr (P::kTurns) NamedArrive(next_turn, 2 * kWarpgroup);
    WgmmaWait<1>();
    FenceRegisters(s);
    release_keys();
  };
  // Waits for O after the weights are made, beside the product; packs them when it reads P no more.
  const auto end_products = [&] {
    FenceRegisters(s);
    KeepBeforeWait(rows.sum[0] + rows.sum[1], &shared.never_written);
    WgmmaWait<0>();
    FenceRegisters(s);
    FenceRegisters(o);
    Release(&shared.v_empty[v.slot]);
    v.Next();
  };
  const auto last_product = [&] {
    if constexpr (P::kRescaleUnderScores) rescale_outputs();
    Wait(&shared.v_full[v.slot], v.parity);
    WgmmaFence();
    StartOutputs<P>(o, p, SharedAddress(shared.v[v.slot]));
    WgmmaCommit();
    WgmmaWait<0>();
    FenceRegisters(o);
    Release(&shared.v_empty[v.slot]);
    v.Next();
  };

  bool has_job = take_job();
  if constexpr (P::kJoinsJobs) {
    if (has_job) first_weights();
  }
  while (has_job) {
    if constexpr (!P::kJoinsJobs) {
      rows = RowState();
      first_weights();
    }
    while (tile > range.first) {
      --tile;
      start_products();
      to_weights();
      end_products();
      if constexpr (!P::kRescaleUnderScores) rescale_outputs();
      PackFragment(s, p);
    }
    const Job done = job;
    if constexpr (P::kJoinsJobs) {
      has_job = take_job();
      if (has_job) {
        start_products();
        const RowState done_rows = rows;
        rows = RowState();
        to_weights();
        end_products();
        PackFragment(s, p);
        Finish<P>(arguments, done, done.row + thread_row, o, done_rows, scale);
        begin_outputs();
        continue;
      }
    }
    last_product();
    Finish<P>(arguments, done, done.row + thread_row, o, rows, scale);
    if constexpr (!P::kJoinsJobs) has_job = take_job();
  }
  // Takes the turn that is left over, so that no barrier is left half full.
  if (P::kTurns && consumer == 0) NamedSync(kTurnBarrier, 2 * kWarpgroup);
}

template <class P, bool kSoftCap>
__global__ void __launch_bounds__(P::kThreads, 1)
    HopperForwardKernel(const __grid_constant__ Arguments arguments,
                        const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                        const __grid_constant__ CUtensorMap v_map) {
#if TANREN_HOPPER_DEVICE
  TANREN_DYNAMIC_SHARED(16, memory);
  const uint32_t misaligned = SharedAddress(memory) % kTileAlignment;
  Shared<P>& shared =
      *reinterpret_cast<Shared<P>*>(memory + (misaligned == 0 ? 0 : kTileAlignment - misaligned));
  if (threadIdx.x == 0) {
    constexpr int kConsumerWarps = P::kConsumers * (kWarpgroup / kWarp);
    for (int i = 0; i < P::kQueryBuffers; ++i) {
      BarrierInit(&shared.q_full[i], 1);
      BarrierInit(&shared.q_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < P::kStages; ++i) {
      BarrierInit(&shared.k_full[i], 1);
      BarrierInit(&shared.k_empty[i], kConsumerWarps);
      BarrierInit(&shared.v_full[i], 1);
      BarrierInit(&shared.v_empty[i], kConsumerWarps);
    }
    FenceBarrierInit();
    PrefetchTensorMap(&q_map);
    PrefetchTensorMap(&k_map);
    PrefetchTensorMap(&v_map);
  }
  __syncthreads();
  AwaitEarlierKernels();
  // From lane 0, so that the compiler knows it to be the same in a warp.
  const int warpgroup = __shfl_sync(kAllLanes, int(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    GiveRegisters<P::kProducerRegisters>();
    if (threadIdx.x == 0) Produce<P>(arguments, q_map, k_map, v_map, shared);
  } else {
    TakeRegisters<P::kConsumerRegisters>();
    Consume<P, kSoftCap>(arguments, shared, warpgroup - 1);
  }
#endif
}

}  // namespace hopper_forward
namespace {

using namespace hopper_forward;  // NOLINT: the launcher of that kernel

// Heads whose keys and values stay in L2 while the blocks pass over them: about half of the cache, as blocks
// are at different places and queries and outputs pass through it too.
constexpr int64_t kSectionBytes = int64_t{24} << 20;

int SectionHeads(const AttentionShape& shape) {
  const int64_t kv_head_bytes = shape.tokens * shape.head_dim * 2 * 2;
  const int64_t kv_heads = std::clamp<int64_t>(kSectionBytes / kv_head_bytes, 1, shape.kv_heads);
  return static_cast<int>(kv_heads * (shape.heads / shape.kv_heads));
}

template <class P, bool kSoftCap>
void Launch(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr int kMostSharedBytes = 227 << 10;  // of a block
  static_assert(kSharedBytes<P> <= kMostSharedBytes);
  Arguments arguments;
  arguments.list = BuildTiles(stream, shape, P::kQueries, TileOrder::kQueries,
                              Scratch(stream, TileListBytes(shape, P::kQueries)));
  arguments.o = operands.o.data.data;
  arguments.o_stride = operands.o.stride;
  arguments.lse = operands.lse;
  arguments.tokens = static_cast<int>(shape.tokens);
  arguments.heads = static_cast<int>(shape.heads);
  arguments.group = static_cast<int>(shape.heads / shape.kv_heads);
  arguments.section_heads = SectionHeads(shape);
  arguments.sees.window =
      static_cast<int>(shape.window > 0 ? std::min(shape.window, shape.tokens) : shape.tokens);
  arguments.sees.ahead = shape.mask == AttentionMask::kCausal ? 1 : arguments.sees.window;
  arguments.scale = shape.scale * kLog2E;
  if constexpr (kSoftCap) {
    arguments.cap.in = 2 * arguments.scale / shape.soft_cap;
    arguments.cap.out = shape.soft_cap * kLog2E;
  }
  const auto map = [&](const ConstHeads& heads, int64_t count, int rows) {
    return HeadsTensorMap(heads.data.data, heads.stride, shape.tokens, count, shape.head_dim, rows);
  };
  const auto kernel = HopperForwardKernel<P, kSoftCap>;
  static const bool shared_memory_is_set = [&] {
    TANREN_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes<P>));
    return true;
  }();
  static_cast<void>(shared_memory_is_set);
  const int64_t jobs = MaxTiles(shape.tokens, shape.segments, P::kQueries) * shape.heads;
  const unsigned blocks =
      static_cast<unsigned>(std::min<int64_t>(jobs, CurrentArchitecture().multiprocessors));
  LaunchChainedWithMemory(stream, kernel, blocks, P::kThreads, kSharedBytes<P>, arguments,
                          map(operands.q, shape.heads, P::kQueries),
                          map(operands.k, shape.kv_heads, P::kKeys),
                          map(operands.v, shape.kv_heads, P::kKeys));
}

template <class P>
void LaunchPlan(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands) {
  if (shape.soft_cap > 0) {
    Launch<P, true>(stream, shape, operands);
  } else {
    Launch<P, false>(stream, shape, operands);
  }
}

bool IsCompiledForDevice() {
  static const bool compiled = HasBody(HopperForwardKernel<Plan128, false>);
  return compiled;
}

}  // namespace

bool HopperAttentionForwardSupports(const AttentionShape& shape, const AttentionOperands& operands) {
  // Positions and sums of two of them are 32-bit numbers; a negative scale would turn maxima into minima.
  constexpr int64_t kMaxTokens = int64_t{1} << 30;
  const int64_t d = shape.head_dim;
  const auto supported = [d](const ConstBuffer& data, int64_t stride) {
    return data.dtype == DType::kBF16 && TensorMapSupports(data.data, stride, d);
  };
  return CurrentArchitecture().major == 9 && IsCompiledForDevice() && (d == 64 || d == 128 || d == 256) &&
         shape.tokens < kMaxTokens && shape.scale > 0 && supported(operands.q.data, operands.q.stride) &&
         supported(operands.k.data, operands.k.stride) && supported(operands.v.data, operands.v.stride) &&
         supported(operands.o.data, operands.o.stride);
}

void HopperAttentionForward(const Stream& stream, const AttentionShape& shape,
                            const AttentionOperands& operands) {
  if (shape.tokens == 0) return;
  switch (shape.head_dim) {
    case 64:
      return LaunchPlan<Plan64>(stream, shape, operands);
    case 128:
      return LaunchPlan<Plan128>(stream, shape, operands);
    case 256:
      return LaunchPlan<Plan256>(stream, shape, operands);
    default:
      TANREN_CUDA_REQUIRE(!"a head size that HopperAttentionForwardSupports denies");
  }
}

}  // namespace tanren::kernels::cuda
