// Backward attention for Hopper: the plan of a block, its share of the work, and the warps that serve. The
// whole is described in attention_hopper_backward.cu.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_CUH_

#include <cstdint>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/hopper_backward.cuh"
#include "kernels/cuda/hopper_instructions.cuh"

namespace tanren::kernels::cuda::hopper_backward {

using namespace hopper;  // NOLINT: the vocabulary of this file

inline constexpr int kComputeWarpgroups = 2;
inline constexpr int kComputeThreads = kComputeWarpgroups * kWarpgroup;
inline constexpr int kComputeWarps = kComputeThreads / kWarp;
inline constexpr int kThreads = kWarpgroup + kComputeThreads;
// 128 * 24 + 256 * 240 <= 65536.
inline constexpr int kServingRegisters = 24;
inline constexpr int kComputeRegisters = 240;

inline constexpr int kKeys = 128;  // a block's
// Rows or columns of one accumulator of scores: a warpgroup's keys, a part's queries.
inline constexpr int kPartRows = 64;
inline constexpr int kSlots = 2;  // of the rings of Q and dO, of dS and of dQ
inline constexpr int kStepsOfInner = kPartRows / kWgmmaInner;
inline constexpr int kScores = kPartRows / 2;  // accumulator elements of a thread, 64 x 64
inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr int kFar = 1 << 30;  // a distance between tokens that none exceeds

inline constexpr unsigned kPollNanoseconds = 20;  // between looks at a turn counter

// Named barriers.
inline constexpr int kComputeBarrier = 1;
inline constexpr int kWarpgroupBarrier = 2;  // and 3

template <int kHeadDim>
struct Plan {
  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static constexpr int kPanels = kHeadDim / kPanelColumns;
  // Queries of a tile: two warpgroups share its dQ by columns (128) or by rows (64).
  static constexpr int kQueries = kHeadDim == 128 ? 64 : 128;
  static constexpr int kParts = kQueries / kPartRows;
  static constexpr int kKeyPanelBytes = kKeys * kPanelRowBytes;
  static constexpr int kQueryPanelBytes = kQueries * kPanelRowBytes;
  static constexpr int kGradients = kHeadDim / 2;  // accumulator elements of a thread, 64 x head_dim

  // What stays in the tensor cores' queue, as far as a thread's registers go.
  static constexpr bool kEarlyValueGradient = kHeadDim == 64;  // dV, while dS is computed
  static constexpr bool kLateKeyGradient = true;               // dK, while dQ leaves
  // dS is read from shared memory for dK too, which frees registers at the price of shared memory's time.
  static constexpr bool kKeyGradientFromShared = false;
  // Rows of K and V stay in registers as left operands, which spares shared memory a quarter of its reads.
  static constexpr bool kKeysInRegisters = kHeadDim == 64;
  static_assert(!kKeyGradientFromShared || kParts == 1, "only the last part's dS is fenced");

  // Shared memory.
  static constexpr int kKeyBytes = kPanels * kKeyPanelBytes;
  static constexpr int kQueryBytes = kPanels * kQueryPanelBytes;
  // dS: rows are keys, a panel for each part.
  static constexpr int kScoreGradientBytes = kKeys * kQueries * 2;
  static constexpr int kQueryGradientBytes = kQueries * kHeadDim * 4;
  static constexpr int kStatisticsBytes = 2 * kQueries * 4;  // lse and dots
  static constexpr int kKeyAt = 0;
  static constexpr int kValueAt = kKeyAt + kKeyBytes;
  static constexpr int kQueryAt = kValueAt + kKeyBytes;
  static constexpr int kOutputGradientAt = kQueryAt + kSlots * kQueryBytes;
  static constexpr int kScoreGradientAt = kOutputGradientAt + kSlots * kQueryBytes;
  static constexpr int kQueryGradientAt = kScoreGradientAt + kSlots * kScoreGradientBytes;
  static constexpr int kStatisticsAt = kQueryGradientAt + kSlots * kQueryGradientBytes;
  static constexpr int kBarriersAt = kStatisticsAt + kSlots * kStatisticsBytes;
};

struct Barriers {
  uint64_t key, value;
  uint64_t query_full[kSlots], query_empty[kSlots];
  uint64_t output_gradient_full[kSlots], output_gradient_empty[kSlots];
  uint64_t query_gradient_full[kSlots], query_gradient_empty[kSlots];
  int item;
};

template <int kHeadDim>
inline constexpr int kSharedBytes = Plan<kHeadDim>::kBarriersAt + int{sizeof(Barriers)};
inline constexpr int kMaxSharedBytes = 227 * 1024;  // a block's, on Hopper
static_assert(kSharedBytes<64> <= kMaxSharedBytes && kSharedBytes<128> <= kMaxSharedBytes);

struct Arguments {
  const AttentionTile* tiles;
  const int32_t* tile_count;
  int* ticket;
  int* turns;  // [heads, tokens]: at a query tile's first token, how many blocks have added to it
  const float* lse;
  const float* dots;
  float* dq_sum;  // [heads, tokens, head_dim], columns by QueryGradientColumn
  BFloat16* dk;
  BFloat16* dv;
  int64_t dk_stride, dv_stride;
  int64_t tokens;
  int kv_heads;
  int group;   // query heads of a key/value head
  int window;  // 0: none
  bool causal;
  float scale;
  float soft_cap;  // 0: none
};

// What a block works on. Positions are relative to the segment's begin.
struct Work {
  int begin;   // of the segment, in the row
  int length;  // of the segment
  int key;     // first of the block
  int kv_head;
  int first_head;
  int first_tile, last_tile;  // of queries
  int steps;
};

// One step's queries. Steps run over the tiles in descending order, head after head.
struct QueryTile {
  int head;
  int tile;
  __device__ __forceinline__ explicit QueryTile(const Work& work)
      : head(work.first_head), tile(work.last_tile) {}
  __device__ __forceinline__ void Next(const Work& work) {
    if (--tile < work.first_tile) {
      tile = work.last_tile;
      ++head;
    }
  }
};

// A tile of queries belongs to a tile of keys exactly if the tile of keys holds a key between the first that
// the tile's first query sees and the last that its last query sees. FirstKeyTile says the same from the
// queries' side.
template <int kQueries>
__device__ __forceinline__ Work WorkOf(const Arguments& a, int item) {
  const AttentionTile tile = a.tiles[item / a.kv_heads];
  Work work;
  work.begin = tile.begin;
  work.length = tile.end - tile.begin;
  work.key = tile.row - tile.begin;
  work.kv_head = item % a.kv_heads;
  work.first_head = work.kv_head * a.group;
  int first = a.causal ? work.key : 0, last = work.length - 1;
  if (a.window > 0) {
    if (!a.causal) first = max(0, work.key - (a.window - 1));
    last = min(last, work.key + kKeys - 1 + a.window - 1);
  }
  work.first_tile = first / kQueries;
  work.last_tile = last / kQueries;
  work.steps = a.group * (work.last_tile - work.first_tile + 1);
  return work;
}
template <int kQueries>
__device__ __forceinline__ int FirstKeyTile(const Arguments& a, int query_tile) {
  return a.window > 0 ? max(0, query_tile * kQueries - (a.window - 1)) / kKeys : 0;
}

// The loading warp, all lanes.
template <int kHeadDim>
__device__ __forceinline__ void Load(const Arguments& a, const Work& work, const CUtensorMap& q_map,
                                     const CUtensorMap& k_map, const CUtensorMap& v_map,
                                     const CUtensorMap& do_map, unsigned char* shared, Barriers& barriers,
                                     int lane) {
  using P = Plan<kHeadDim>;
  const auto load_keys = [&](const CUtensorMap& map, uint64_t* barrier, int at) {
    if (lane != 0) return;
    ArriveExpect(barrier, P::kKeyBytes);
    TmaLoad4D(shared + at, &map, barrier, 0, work.begin + work.key, 0, work.kv_head);
  };
  load_keys(k_map, &barriers.key, P::kKeyAt);
  QueryTile at(work);
  RingPosition<kSlots> ring;
  for (int step = 0; step < work.steps; ++step, at.Next(work), ring.Next()) {
    const int slot = ring.slot, row = at.tile * P::kQueries;
    const auto load_queries = [&](const CUtensorMap& map, uint64_t* barrier, int first_slot_at) {
      if (lane != 0) return;
      ArriveExpect(barrier, P::kQueryBytes);
      TmaLoad4D(shared + first_slot_at + slot * P::kQueryBytes, &map, barrier, 0, work.begin + row, 0,
                at.head);
    };
    // A slot of dO is given back before the one of Q.
    Wait(&barriers.output_gradient_empty[slot], ring.parity ^ 1);
    load_queries(do_map, &barriers.output_gradient_full[slot], P::kOutputGradientAt);
    Wait(&barriers.query_empty[slot], ring.parity ^ 1);
    load_queries(q_map, &barriers.query_full[slot], P::kQueryAt);
    float* statistics = reinterpret_cast<float*>(shared + P::kStatisticsAt + slot * P::kStatisticsBytes);
    const int64_t line = at.head * a.tokens + work.begin;
#pragma unroll
    for (int r = lane; r < P::kQueries; r += kWarp) {
      const bool valid = row + r < work.length;
      const int64_t from = line + (valid ? row + r : 0);
      CopyAsync4(statistics + r, a.lse + from, valid);
      CopyAsync4(statistics + P::kQueries + r, a.dots + from, valid);
    }
    CopyAsyncArrive(&barriers.query_full[slot]);
    if (step == 0) load_keys(v_map, &barriers.value, P::kValueAt);
    __syncwarp();
  }
}

// One thread of each adding warp: it adds the dQ of every kSlots-th step, from slot `slot`. It looks for its
// turn while the step is still computed; while its addition is under way the other warp serves the next step.
template <int kHeadDim, bool kDeterministic>
__device__ __forceinline__ void AddQueryGradients(const Arguments& a, const Work& work,
                                                  const unsigned char* shared, Barriers& barriers, int slot) {
  using P = Plan<kHeadDim>;
  QueryTile at(work);
  uint32_t parity = 0;
  for (int step = 0; step < work.steps; ++step, at.Next(work)) {
    if (step % kSlots != slot) continue;
    const int row = at.tile * P::kQueries;
    const int64_t token = at.head * a.tokens + work.begin + row;
    const int turn = work.key / kKeys - FirstKeyTile<P::kQueries>(a, at.tile);
    if constexpr (kDeterministic) {
      while (LoadAcquire(a.turns + token) != turn) __nanosleep(kPollNanoseconds);
      FenceAsyncProxyGlobal();
    }
    Wait(&barriers.query_gradient_full[slot], parity);
    parity ^= 1;
    float* to = a.dq_sum + token * kHeadDim;
    const void* from = shared + P::kQueryGradientAt + slot * P::kQueryGradientBytes;
    const int bytes = min(P::kQueries, work.length - row) * kHeadDim * int{sizeof(float)};
    if (kDeterministic && turn == 0) {
      BulkStore(to, from, bytes);
    } else {
      BulkAdd(to, from, bytes);
    }
    BulkCommit();
    BulkWaitRead<0>();
    Arrive(&barriers.query_gradient_empty[slot]);
    if constexpr (kDeterministic) {
      BulkWait<0>();
      FenceAsyncProxyGlobal();
      StoreRelease(a.turns + token, turn + 1);
    }
  }
}

}  // namespace tanren::kernels::cuda::hopper_backward

#endif  // TANREN_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_CUH_
