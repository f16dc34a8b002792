// The steps of a block of cached attention: its rows, reading keys and values, scores, weights and their mix.
// See attention_cached.cu for the algorithm.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_CACHED_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_CACHED_CUH_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda::cached {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kNone = -std::numeric_limits<float>::infinity();

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kChunk = 256;       // keys
constexpr int kLaneElements = 8;  // of a head, that a thread reads
constexpr int kKeysAhead = 4;     // keys that a thread reads before it computes
constexpr int64_t kMostPartialBytes = int64_t{256} << 20;

// kGroupThreads: threads of a key group, which hold a head of eight times as many elements. kRowsAtMost: rows
// of a block, 4 or 8.
template <int kGroupThreads, int kRowsAtMost>
struct Geometry {
  static constexpr int kLanes = kGroupThreads;
  static constexpr int kWidth = kLanes * kLaneElements;
  static constexpr int kGroupsPerWarp = kWarp / kLanes;
  static constexpr int kGroups = kGroupsPerWarp * kWarps;
  static constexpr int kStep = kGroups * kKeysAhead;  // keys that a block reads at a time
  static constexpr int kMostRows = kRowsAtMost;
  // That registers hold at a time.
  static constexpr int kBlocksPerProcessor = kMostRows == 8 ? 3 : 4;
  static_assert(kChunk % kStep == 0);
};

template <class T>
struct CachedArgs {
  int64_t tokens = 0;
  int64_t max_tokens = 0;
  int64_t chunks = 0;  // of max_tokens
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int run = 1;     // tokens of one slot that a block may take together
  int passes = 1;  // blocks that share a key/value head's query heads
  int shares = 1;  // blocks that the chunks are dealt out to
  int window = 0;
  float factor = 1;    // towards an exponent of two, or towards score / cap
  float cap_log2 = 0;  // > 0: the cap, as an exponent of two
  const int32_t* slots = nullptr;
  const int32_t* positions = nullptr;
  const T* q = nullptr;
  int64_t q_stride = 0;
  const T* k = nullptr;
  const T* v = nullptr;
  T* o = nullptr;
  int64_t o_stride = 0;
  // Of each (token, head, chunk), with several shares: the sums of values [head_dim], and the maximum and the
  // sum of the weights.
  float* partial = nullptr;
  float2* partial_weights = nullptr;
};

// What a row has of the chunks so far: the largest score (as an exponent of two), and the sum of the weights.
struct RowState {
  float maximum;
  float total;
};

// A sum over the chunks so far and one over the next chunk, each relative to its largest score.
__device__ __forceinline__ float JoinSums(float sum, float old_factor, float next, float new_factor) {
  return __fmaf_rn(next, new_factor, __fmul_rn(sum, old_factor));
}

// Adds the next chunk to a row's state and gives the factors by which sums join.
__device__ __forceinline__ void JoinStates(RowState* state, const RowState& next, float* old_factor,
                                           float* new_factor) {
  const float now = fmaxf(state->maximum, next.maximum);
  // Without a visible key on either side both factors are zero, not the NaN of inf - inf.
  const float shift = now == kNone ? 0.0f : now;
  *old_factor = exp2f(state->maximum - shift);
  *new_factor = exp2f(next.maximum - shift);
  state->total = JoinSums(state->total, *old_factor, next.total, *new_factor);
  state->maximum = now;
}

template <class T>
struct LaneElements {
  Vector<T> parts[kLaneElements / Vector<T>::kCount];
  __device__ float operator[](int e) const {
    return ToFloat(parts[e / Vector<T>::kCount].at[e % Vector<T>::kCount]);
  }
};

// Eight elements from `from` on, of which `columns` exist; the rest are zeros. kPacked: all or none exist.
template <bool kPacked, class T>
__device__ __forceinline__ LaneElements<T> LoadLane(const T* from, int columns) {
  constexpr int kCount = Vector<T>::kCount;
  LaneElements<T> result;
#pragma unroll
  for (int p = 0; p < kLaneElements / kCount; ++p) {
    if constexpr (kPacked) {
      *reinterpret_cast<uint4*>(&result.parts[p]) = uint4{0, 0, 0, 0};
      if (columns > 0) result.parts[p] = LoadVectorPlain(from + p * kCount);
    } else {
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        const int column = p * kCount + e;
        result.parts[p].at[e] = column < columns ? from[column] : FromFloat<T>(0);
      }
    }
  }
  return result;
}

// Sums each of kCount values over the threads of a key group. The work of a step is halved by giving either
// half of the threads one half of the values; at the end a thread has the sums of *first, *first + 1, ...,
// kLeft of them, at values[0..]. Which lanes' parts are added first is the same for any kCount.
template <int kLanes, int kCount>
struct GroupSum {
  static constexpr int kOffset = kLanes / 2;
  static constexpr bool kHalves = kCount > 1;
  using Rest = GroupSum<kOffset, kHalves ? kCount / 2 : 1>;
  static constexpr int kLeft = Rest::kLeft;

  static __device__ __forceinline__ void Run(float* values, int lane, int* first) {
    if constexpr (kHalves) {
      constexpr int kHalf = kCount / 2;
      const bool upper = (lane & kOffset) != 0;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float kept = upper ? values[i + kHalf] : values[i];
        const float sent = upper ? values[i] : values[i + kHalf];
        values[i] = kept + __shfl_xor_sync(kAllLanes, sent, kOffset);
      }
      if (upper) *first += kHalf;
    } else {
      values[0] += __shfl_xor_sync(kAllLanes, values[0], kOffset);
    }
    Rest::Run(values, lane, first);
  }
};
template <int kCount>
struct GroupSum<1, kCount> {
  static constexpr int kLeft = kCount;
  static __device__ __forceinline__ void Run(float*, int, int*) {}
};

// A query row: its index among all (token, head), where its query and its output begin, and the keys
// [first, end) that it sees.
struct RowPlace {
  int64_t row;
  int64_t query;
  int64_t output;
  int first;
  int end;
};

template <class G>
struct SharedState {
  alignas(16) float query[G::kMostRows][G::kWidth];
  alignas(16) float weights[G::kMostRows][kChunk];  // scores, then weights
  alignas(16) float sums[kWarps][G::kMostRows][G::kWidth];
  float out[G::kMostRows][G::kWidth];  // the chunks so far; each place is one thread's
  RowState state[G::kMostRows];
  RowState chunk[G::kMostRows];
  float old_factor[G::kMostRows];
  float new_factor[G::kMostRows];
  RowPlace places[G::kMostRows];
};

// The query rows of a block: row r is token `token` + (offset + r) / group, query head first_head +
// (offset + r) % group.
struct Rows {
  int64_t token;
  int count;
  int offset;
  int group;
  int first_head;

  template <class T>
  __device__ RowPlace PlaceOf(const CachedArgs<T>& args, int r) const {
    if (r >= count) return {0, 0, 0, 0, 0};
    const int64_t its_token = token + (offset + r) / group;
    const int64_t head = first_head + (offset + r) % group;
    const int position = args.positions[its_token];
    return {its_token * args.heads + head, its_token * args.q_stride + head * args.head_dim,
            its_token * args.o_stride + head * args.head_dim,
            args.window > 0 ? max(0, position - args.window + 1) : 0, position + 1};
  }
};

// A block's thread within its key group.
template <class G>
struct ThreadPlace {
  int warp = static_cast<int>(threadIdx.x / kWarp);
  int lane = static_cast<int>(threadIdx.x % G::kLanes);
  int group = static_cast<int>(threadIdx.x / G::kLanes);

  __device__ int Column() const { return lane * kLaneElements; }
  __device__ int FirstKey() const { return group * kKeysAhead; }
};

// One chunk's part of what a block does. `low`, `high`: the keys of the chunk that any of the rows sees.
struct ChunkRange {
  int begin;  // the chunk's first key
  int low;
  int high;
};

// The keys, or values, that a thread holds of a step, and how it gets those of a chunk.
template <class T>
struct Step {
  LaneElements<T> keys[kKeysAhead];
};

template <bool kPacked, class G, class T>
struct Reader {
  // Where registers allow, a thread asks for its next keys before it computes with the last.
  static constexpr bool kEarly = kPacked && sizeof(T) < sizeof(float);

  const T* data;  // of the chunk's first key, from the thread's column on
  int head_dim;
  int columns;
  ChunkRange range;

  __device__ Reader(const ThreadPlace<G>& thread, const ChunkRange& chunk, const T* head, int width)
      : data(head + int64_t{chunk.begin} * width + thread.Column()),
        head_dim(width),
        columns(width - thread.Column()),
        range(chunk) {}
  // Keys beyond what the rows see become zeros.
  __device__ void Read(int key, Step<T>* step) const {
#pragma unroll
    for (int a = 0; a < kKeysAhead; ++a) {
      const bool exists = key + a >= range.low && key + a < range.high;
      step->keys[a] = LoadLane<kPacked>(data + (key + a) * head_dim, exists ? columns : 0);
    }
  }
  // Calls visit(key, elements) for each of the thread's steps; `first` is read already.
  template <class Visit>
  __device__ void ForSteps(const ThreadPlace<G>& thread, const Step<T>& first, const Visit& visit) const {
    Step<T> now = first;
    const int end = range.high + thread.FirstKey();
#pragma unroll 1
    for (int key = FirstKey(thread); key < end; key += G::kStep) {
      Step<T> next;
      if constexpr (kEarly) Read(key + G::kStep, &next);
      visit(key, now);
      if constexpr (!kEarly) Read(key + G::kStep, &next);
      now = next;
    }
  }
  __device__ int FirstKey(const ThreadPlace<G>& thread) const {
    return range.low / G::kStep * G::kStep + thread.FirstKey();
  }
};

template <int kRows, bool kPacked, class G, class T>
__device__ __forceinline__ void ScoreChunk(const CachedArgs<T>& args, const ThreadPlace<G>& thread,
                                           const ChunkRange& range, const T* keys, SharedState<G>& shared) {
  // Keys whose products are summed over the group together: enough for the threads to share the work, no more
  // than registers hold.
  constexpr int kTogether = std::min(kKeysAhead, std::max(1, 8 / kRows));
  using Sum = GroupSum<G::kLanes, kTogether * kRows>;
  const Reader<kPacked, G, T> reader(thread, range, keys, args.head_dim);
  Step<T> first_step;
  reader.Read(reader.FirstKey(thread), &first_step);
  float query[kRows][kLaneElements];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int e = 0; e < kLaneElements; ++e) query[r][e] = shared.query[r][thread.Column() + e];
  }
  reader.ForSteps(thread, first_step, [&](int key, const Step<T>& step) {
#pragma unroll
    for (int base = 0; base < kKeysAhead; base += kTogether) {
      float products[kTogether * kRows];
#pragma unroll
      for (int i = 0; i < kTogether * kRows; ++i) {
        products[i] = 0;
#pragma unroll
        for (int e = 0; e < kLaneElements; ++e) {
          products[i] = fmaf(query[i % kRows][e], step.keys[base + i / kRows][e], products[i]);
        }
      }
      int first = 0;
      Sum::Run(products, thread.lane, &first);
#pragma unroll
      for (int i = 0; i < Sum::kLeft; ++i) {
        const int r = (first + i) % kRows;
        const int place = key + base + (first + i) / kRows;
        const int position = range.begin + place;
        float score = __fmul_rn(products[i], args.factor);
        if (args.cap_log2 > 0) score = __fmul_rn(args.cap_log2, tanhf(score));
        const bool seen = position >= shared.places[r].first && position < shared.places[r].end;
        // Where there are fewer values than threads, several write the same.
        shared.weights[r][place] = seen ? score : kNone;
      }
    }
  });
}

// Scores to weights, and their maximum and sum; joins them to the rows' states.
template <int kRows, class G>
__device__ __forceinline__ void WeighChunk(const ThreadPlace<G>& thread, const ChunkRange& range,
                                           SharedState<G>& shared) {
  constexpr int kEach = kChunk / kWarp;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int r = thread.warp; r < kRows; r += kWarps) {
    float values[kEach];
    float largest = kNone;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int key = i * kWarp + lane;
      values[i] = key >= range.low && key < range.high ? shared.weights[r][key] : kNone;
      largest = fmaxf(largest, values[i]);
    }
    largest = WarpMax(largest);
    const float shift = largest == kNone ? 0.0f : largest;
    float total = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const float weight = exp2f(values[i] - shift);
      shared.weights[r][i * kWarp + lane] = weight;
      total += weight;
    }
    total = WarpSum(total);
    if (lane == 0) {
      shared.chunk[r] = {largest, total};
      JoinStates(&shared.state[r], shared.chunk[r], &shared.old_factor[r], &shared.new_factor[r]);
    }
  }
}

template <int kRows, bool kPacked, class G, class T>
__device__ __forceinline__ void MixChunk(const ThreadPlace<G>& thread, const Reader<kPacked, G, T>& reader,
                                         const Step<T>& first_step, SharedState<G>& shared) {
  float sums[kRows][kLaneElements] = {};
  reader.ForSteps(thread, first_step, [&](int key, const Step<T>& step) {
  // Two keys at a time: as many elements as fp32 as registers hold.
#pragma unroll
    for (int a = 0; a < kKeysAhead; a += 2) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float2 weights = *reinterpret_cast<const float2*>(&shared.weights[r][key + a]);
#pragma unroll
        for (int e = 0; e < kLaneElements; ++e) {
          sums[r][e] = fmaf(weights.x, step.keys[a][e], sums[r][e]);
          sums[r][e] = fmaf(weights.y, step.keys[a + 1][e], sums[r][e]);
        }
      }
    }
  });
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int e = 0; e < kLaneElements; ++e) {
#pragma unroll
      for (int offset = G::kLanes; offset < kWarp; offset *= 2) {
        sums[r][e] += __shfl_xor_sync(kAllLanes, sums[r][e], offset);
      }
    }
    if (thread.group % G::kGroupsPerWarp == 0) {
      float4* const to = reinterpret_cast<float4*>(&shared.sums[thread.warp][r][thread.Column()]);
      to[0] = {sums[r][0], sums[r][1], sums[r][2], sums[r][3]};
      to[1] = {sums[r][4], sums[r][5], sums[r][6], sums[r][7]};
    }
  }
}

// All chunks of a block's rows.
template <int kRows, bool kPacked, class G, class T>
__device__ __forceinline__ void Attend(const CachedArgs<T>& args, const Rows& rows, int64_t slot, int kv_head,
                                       int share, SharedState<G>& shared) {
  const ThreadPlace<G> thread;
  const int d = args.head_dim;
  if (threadIdx.x < kRows) {
    shared.places[threadIdx.x] = rows.PlaceOf(args, threadIdx.x);
    shared.state[threadIdx.x] = {kNone, 0};
  }
  __syncthreads();
  for (int at = threadIdx.x; at < kRows * G::kWidth; at += kThreads) {
    const int r = at / G::kWidth;
    const int column = at % G::kWidth;
    const bool exists = r < rows.count && column < d;
    shared.query[r][column] = exists ? ToFloat(args.q[shared.places[r].query + column]) : 0.0f;
    shared.out[r][column] = 0;
  }
  int first = shared.places[0].first;
  int end = shared.places[0].end;
  for (int r = 1; r < rows.count; ++r) {
    first = min(first, shared.places[r].first);
    end = max(end, shared.places[r].end);
  }
  __syncthreads();
  const int64_t head_begin = (slot * args.kv_heads + kv_head) * args.max_tokens * d;
  const T* const keys = args.k + head_begin;
  const T* const values = args.v + head_begin;

  // The first chunk that is the share's.
  const int first_chunk = first / kChunk;
  const int skipped = (share - first_chunk % args.shares + args.shares) % args.shares;
  for (int chunk = first_chunk + skipped; chunk * int64_t{kChunk} < end; chunk += args.shares) {
    const int begin = chunk * kChunk;
    const ChunkRange range{begin, max(first - begin, 0), min(end - begin, kChunk)};
    ScoreChunk<kRows, kPacked>(args, thread, range, keys, shared);
    // The first values are on their way while the weights are found.
    const Reader<kPacked, G, T> reader(thread, range, values, d);
    Step<T> first_step;
    reader.Read(reader.FirstKey(thread), &first_step);
    __syncthreads();
    WeighChunk<kRows>(thread, range, shared);
    __syncthreads();
    MixChunk<kRows>(thread, reader, first_step, shared);
    __syncthreads();
    for (int at = threadIdx.x; at < rows.count * G::kWidth; at += kThreads) {
      const int r = at / G::kWidth;
      const int column = at % G::kWidth;
      if (column >= d) continue;
      float sum = shared.sums[0][r][column];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) sum += shared.sums[w][r][column];
      if (args.shares == 1) {
        float* const out = &shared.out[r][column];
        *out = JoinSums(*out, shared.old_factor[r], sum, shared.new_factor[r]);
      } else {
        const int64_t place = shared.places[r].row * args.chunks + chunk;
        args.partial[place * d + column] = sum;
        if (column == 0) args.partial_weights[place] = {shared.chunk[r].maximum, shared.chunk[r].total};
      }
    }
  }
  if (args.shares > 1) return;
  for (int at = threadIdx.x; at < rows.count * G::kWidth; at += kThreads) {
    const int r = at / G::kWidth;
    const int column = at % G::kWidth;
    if (column >= d) continue;
    args.o[shared.places[r].output + column] =
        FromFloat<T>(__fdiv_rn(shared.out[r][column], shared.state[r].total));
  }
}

}  // namespace tanren::kernels::cuda::cached

#endif  // TANREN_KERNELS_CUDA_ATTENTION_CACHED_CUH_
