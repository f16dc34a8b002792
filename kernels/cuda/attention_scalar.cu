// Attention in plain fp32 arithmetic: any head size, any alignment, fp32 and bf16 operands. It serves fp32
// training, and whatever the tensor-core kernels do not take.
//
// A block of threads owns a tile of rows of one head, kept in shared memory: of queries in the forward pass
// and for dq, of keys for dk and dv. It walks over the other side's rows in tiles of 64, of which it stages
// slabs of 64 columns. Two products are all there is (Dao et al. 2022, 2023):
//
//   AddScores   scores[own row][other row] += sum over a slab's columns of own * staged
//   AddMix      out[own row][slab column] += sum over the other rows of weight * staged
//
// Eight neighbouring threads share own rows: each has the scores of eight of the 64 other rows, and eight
// columns of each slab of the output. The weights (probabilities, or their gradients) pass between the eight
// through shared memory that belongs to their warp. A backward pass is two kernels, so that no two blocks add
// to one place: the first gives dk and dv, adding the query heads of a group in order; the second gives dq.
// Both compute the scores again and take the probabilities from lse. Tiles without a visible pair are
// skipped. All positions count from the segment's begin, and rows past its end are staged as zeros, so a
// segment's result depends on nothing outside it.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTile = 64;                       // other rows at a time
constexpr int kSlab = 64;                       // columns at a time
constexpr int kRowThreads = 8;                  // threads that share own rows
constexpr int kRowGroup = kWarp / kRowThreads;  // own rows that a warp reads in one instruction
constexpr int kPerThread = kTile / kRowThreads;
constexpr int kQuad = 4;  // floats that one instruction reads
constexpr int kQuadsPerSlab = kSlab / kQuad;
// A staged row's pitch: eight rows apart by it lie in different banks.
constexpr int kPitch = kSlab + kQuad;
constexpr int kStageFloats = kTile * kPitch;
static_assert(kPerThread == 2 * kQuad && kSlab == kTile);

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kNone = -std::numeric_limits<float>::infinity();

// Own rows and weights are kept with four rows interleaved by quads, so that what the four row groups of a
// warp read together is one piece of memory. The place of a row's column:
template <int kWidth>
TANREN_HOST_DEVICE constexpr unsigned InterleavedPlace(unsigned row, unsigned column) {
  return row / kRowGroup * (kRowGroup * kWidth) + column / kQuad * (kRowGroup * kQuad) +
         row % kRowGroup * kQuad + column % kQuad;
}

// kRows: own rows of a thread. kSlabs: slabs that hold a head.
template <int kRows, int kSlabs>
struct Tiling {
  static constexpr int kOwnRows = kRows * kRowGroup * kWarps;
  static constexpr int kWidth = kSlabs * kSlab;
  static constexpr int kOwnFloats = kOwnRows * kWidth;
  static constexpr int kWeightFloats = kOwnRows * kTile;
  static constexpr int Bytes(int own_tiles, int more_floats) {
    return (own_tiles * kOwnFloats + kWeightFloats + kStageFloats + more_floats) *
           static_cast<int>(sizeof(float));
  }
};
// What every GPU from sm_80 on gives a block.
constexpr int kSharedBytes = 99 * 1024;

// Operands as the kernels want them. `packed`: rows can be read four elements at a time.
template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t stride = 0;
  bool packed = false;
};

struct Sizes {
  int64_t tokens = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 1;
  float factor = 1;    // what a product is multiplied by: towards an exponent of two, or towards score / cap
  float cap_log2 = 0;  // > 0: the cap, as an exponent of two
  bool causal = true;
  int window = 0;
  AttentionTileList list;
};

// Which pairs of positions of a segment see each other.
struct Visibility {
  bool causal;
  int window;
  int length;

  __device__ int FirstKey(int query) const { return window > 0 ? max(0, query - window + 1) : 0; }
  __device__ int EndOfKeys(int query) const {
    const int end = causal ? query + 1 : length;
    return window > 0 ? min(end, query + window) : end;
  }
  __device__ bool Sees(int query, int key) const { return key >= FirstKey(query) && key < EndOfKeys(query); }
  // Every query of [query, last_query] sees all keys of [key, last_key].
  __device__ bool SeesAll(int query, int last_query, int key, int last_key) const {
    return FirstKey(last_query) <= key && EndOfKeys(query) > last_key;
  }
  // The queries that see a key of [key, last_key].
  __device__ int FirstQuery(int key) const {
    const int first = causal ? key : 0;
    return window > 0 ? max(first, key - window + 1) : first;
  }
  __device__ int EndOfQueries(int last_key) const {
    return window > 0 ? min(length, last_key + window) : length;
  }
};

// A block's tile, in positions of its segment.
struct Place {
  int start;  // the segment's first token
  int first;
  int rows;
  int length;
};

__device__ __forceinline__ Place PlaceOf(const AttentionTile& tile, int most_rows) {
  const int length = tile.end - tile.begin;
  const int first = tile.row - tile.begin;
  return {tile.begin, first, min(most_rows, length - first), length};
}

// --- Moving tiles. ---

template <class T>
__device__ __forceinline__ float4 LoadQuad(const T* from, int columns, bool packed) {
  float4 quad = {0, 0, 0, 0};
  if (packed) {
    if (columns > 0) {
      const Pack<T, kQuad> pack = LoadPack<kQuad>(from);
      quad = {ToFloat(pack.at[0]), ToFloat(pack.at[1]), ToFloat(pack.at[2]), ToFloat(pack.at[3])};
    }
  } else {
    if (columns > 0) quad.x = ToFloat(from[0]);
    if (columns > 1) quad.y = ToFloat(from[1]);
    if (columns > 2) quad.z = ToFloat(from[2]);
    if (columns > 3) quad.w = ToFloat(from[3]);
  }
  return quad;
}

template <class T>
__device__ __forceinline__ void StoreQuad(T* to, const float (&values)[kQuad], int columns, bool packed) {
  if (packed) {
    if (columns > 0) {
      Pack<T, kQuad> pack;
#pragma unroll
      for (int e = 0; e < kQuad; ++e) pack.at[e] = FromFloat<T>(values[e]);
      StorePack(to, pack);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kQuad; ++e) {
      if (e < columns) to[e] = FromFloat<T>(values[e]);
    }
  }
}

// Reads kRowCount rows of a slab; rows from `rows` on and columns from `columns` on become zeros. `put` takes
// (row, rows to add, column, quad). A thread's reads are all under way before the first is put down.
template <int kRowCount, class T, class Put>
__device__ __forceinline__ void LoadSlab(const T* from, int64_t stride, int rows, int columns, bool packed,
                                         const Put& put) {
  constexpr int kRowsAtOnce = kThreads / kQuadsPerSlab;
  constexpr int kEach = kRowCount / kRowsAtOnce;
  static_assert(kRowCount % kRowsAtOnce == 0);
  const int row = static_cast<int>(threadIdx.x / kQuadsPerSlab);
  const int column = static_cast<int>(threadIdx.x % kQuadsPerSlab * kQuad);
  const T* at = from + row * stride + column;
  float4 quads[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    quads[i] = LoadQuad(at, row + i * kRowsAtOnce < rows ? columns - column : 0, packed);
    at += kRowsAtOnce * stride;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) put(row, i * kRowsAtOnce, column, quads[i]);
}

// Stages slab `slab` of rows [row, row + kTile) of a segment's head. `head`: the head's data at the segment's
// begin. The barriers order it after the readers of the slab before and before its own.
template <class T>
__device__ __forceinline__ void Stage(const Matrix<const T>& matrix, const T* head, int row, int length,
                                      int slab, int head_dim, float* stage) {
  __syncthreads();
  LoadSlab<kTile>(head + row * matrix.stride + slab * kSlab, matrix.stride, length - row,
                  head_dim - slab * kSlab, matrix.packed,
                  [stage](int r, int more, int column, const float4& quad) {
                    float* const to = stage + r * kPitch + column;
                    *reinterpret_cast<float4*>(to + more * kPitch) = quad;
                  });
  __syncthreads();
}

// Reads a block's own rows, all slabs. A barrier must follow.
template <class Tiling, class T>
__device__ __forceinline__ void LoadOwn(const Matrix<const T>& matrix, const T* head, const Place& place,
                                        int head_dim, float* own) {
  for (int slab = 0; slab < Tiling::kWidth / kSlab; ++slab) {
    LoadSlab<Tiling::kOwnRows>(
        head + place.first * matrix.stride + slab * kSlab, matrix.stride, place.rows, head_dim - slab * kSlab,
        matrix.packed, [own, slab](int r, int more, int column, const float4& quad) {
          float* const to = own + InterleavedPlace<Tiling::kWidth>(r, column);
          *reinterpret_cast<float4*>(to + more * Tiling::kWidth + slab * kSlab * kRowGroup) = quad;
        });
  }
}

// Where a thread stands: its own rows are Row(0), Row(1), ...; it has the scores of the other rows
// Other(0..7) of a tile and the columns Column(0..7) of a slab.
template <int kRows>
struct ThreadPlace {
  int warp = static_cast<int>(threadIdx.x / kWarp);
  int row = static_cast<int>(threadIdx.x % kWarp / kRowThreads);
  int part = static_cast<int>(threadIdx.x % kRowThreads);

  __device__ int Row(int r) const { return (warp * kRows + r) * kRowGroup + row; }
  __device__ int Other(int i) const { return part + i * kRowThreads; }
  // The first of two quads of columns, and their distance.
  __device__ int FirstColumn() const { return part * kQuad; }
  static constexpr int kColumnStep = kRowThreads * kQuad;
  // The thread's first own row, its first column, in an interleaved tile.
  template <int kWidth>
  __device__ unsigned Own() const {
    return InterleavedPlace<kWidth>(Row(0), 0);
  }
};

// --- The two products. ---

template <int kRows>
using Scores = float[kRows][kPerThread];

// own: at the thread's rows and the slab's first column.
template <int kRows, int kWidth>
__device__ __forceinline__ void AddScores(const ThreadPlace<kRows>& thread, const float* own,
                                          const float* stage, Scores<kRows>& scores) {
  const float* const other = stage + thread.Other(0) * kPitch;
#pragma unroll 1
  for (int quad = 0; quad < kQuadsPerSlab; ++quad) {
    float4 a[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      a[r] = *reinterpret_cast<const float4*>(own + r * kRowGroup * kWidth + quad * kRowGroup * kQuad);
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const float4 b = *reinterpret_cast<const float4*>(other + i * kRowThreads * kPitch + quad * kQuad);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        scores[r][i] = fmaf(a[r].x, b.x, scores[r][i]);
        scores[r][i] = fmaf(a[r].y, b.y, scores[r][i]);
        scores[r][i] = fmaf(a[r].z, b.z, scores[r][i]);
        scores[r][i] = fmaf(a[r].w, b.w, scores[r][i]);
      }
    }
  }
}

// Calls visit(r, i, weight) for the weight of each of the thread's pairs (own row r, other row i), to write
// it for the threads that share the row. The warp is done with the weights before, and sees them after.
template <int kRows, class Visit>
__device__ __forceinline__ void ForWeights(const ThreadPlace<kRows>& thread, float* weights,
                                           const Visit& visit) {
  constexpr int kRowStep = kRowGroup * kTile;
  constexpr int kOtherStep = kRowThreads * kRowGroup;
  float* const mine = weights + InterleavedPlace<kTile>(thread.Row(0), thread.Other(0));
  __syncwarp();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) visit(r, i, mine + r * kRowStep + i * kOtherStep);
  }
  __syncwarp();
}

template <int kRows>
__device__ __forceinline__ void AddMix(const ThreadPlace<kRows>& thread, const float* weights,
                                       const float* stage, Scores<kRows>& out) {
  const float* const mine = weights + thread.template Own<kTile>();
  const float* const columns = stage + thread.FirstColumn();
#pragma unroll 1
  for (int quad = 0; quad < kTile / kQuad; ++quad) {
    float4 w[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      w[r] = *reinterpret_cast<const float4*>(mine + r * kRowGroup * kTile + quad * kRowGroup * kQuad);
    }
#pragma unroll
    for (int e = 0; e < kQuad; ++e) {
      const float* const row = columns + (quad * kQuad + e) * kPitch;
      const float4 low = *reinterpret_cast<const float4*>(row);
      const float4 high = *reinterpret_cast<const float4*>(row + ThreadPlace<kRows>::kColumnStep);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float weight = e == 0 ? w[r].x : e == 1 ? w[r].y : e == 2 ? w[r].z : w[r].w;
        out[r][0] = fmaf(weight, low.x, out[r][0]);
        out[r][1] = fmaf(weight, low.y, out[r][1]);
        out[r][2] = fmaf(weight, low.z, out[r][2]);
        out[r][3] = fmaf(weight, low.w, out[r][3]);
        out[r][4] = fmaf(weight, high.x, out[r][4]);
        out[r][5] = fmaf(weight, high.y, out[r][5]);
        out[r][6] = fmaf(weight, high.z, out[r][6]);
        out[r][7] = fmaf(weight, high.w, out[r][7]);
      }
    }
  }
}

template <int kRows>
__device__ __forceinline__ void Clear(Scores<kRows>& values) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) values[r][i] = 0;
  }
}

// Writes a thread's part of its own rows, each times its factor.
template <int kRows, int kSlabs, class T>
__device__ __forceinline__ void StoreOwn(const ThreadPlace<kRows>& thread, const Matrix<T>& matrix, T* head,
                                         const Place& place, int head_dim, const float (&factors)[kRows],
                                         const Scores<kRows> (&values)[kSlabs]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = thread.Row(r);
    if (row >= place.rows) continue;
    T* const to = head + (place.first + row) * matrix.stride;
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = slab * kSlab + thread.FirstColumn() + half * ThreadPlace<kRows>::kColumnStep;
        float quad[kQuad];
#pragma unroll
        for (int e = 0; e < kQuad; ++e) quad[e] = values[slab][r][half * kQuad + e] * factors[r];
        StoreQuad(to + column, quad, head_dim - column, matrix.packed);
      }
    }
  }
}

// Products of queries and keys to scores, as exponents of two.
template <int kRows>
__device__ __forceinline__ void ToScores(const Sizes& sizes, Scores<kRows>& products) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) products[r][i] = __fmul_rn(products[r][i], sizes.factor);
  }
  if (sizes.cap_log2 <= 0) return;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) products[r][i] = __fmul_rn(tanhf(products[r][i]), sizes.cap_log2);
  }
}

// Scores of pairs for which seen(r, i) does not hold become those of weight zero.
template <int kRows, class Seen>
__device__ __forceinline__ void Hide(Scores<kRows>& scores, const Seen& seen) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!seen(r, i)) scores[r][i] = kNone;
    }
  }
}

// The sum over the threads that share a row, on each of them.
__device__ __forceinline__ float RowSum(float value) {
#pragma unroll
  for (int offset = kRowThreads / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}
__device__ __forceinline__ float RowMax(float value) {
#pragma unroll
  for (int offset = kRowThreads / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// --- Forward. ---

template <class T>
struct ForwardArgs {
  Sizes sizes;
  Matrix<const T> q, k, v;
  Matrix<T> o;
  float* lse = nullptr;
};

// Turns scores into weights and moves the rows' maxima and sums. The sums are of this thread's part.
template <int kRows, int kSlabs>
__device__ __forceinline__ void SoftmaxTile(Scores<kRows>& scores, float (&maximum)[kRows],
                                            float (&sum)[kRows], Scores<kRows> (&out)[kSlabs]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float largest = scores[r][0];
#pragma unroll
    for (int i = 1; i < kPerThread; ++i) largest = fmaxf(largest, scores[r][i]);
    const float now = fmaxf(maximum[r], RowMax(largest));
    // A row that has seen no key yet keeps weights of zero (2^-inf), not the NaN of inf - inf.
    const float shift = now == kNone ? 0.0f : now;
    const float rescale = exp2f(maximum[r] - shift);
    maximum[r] = now;
    sum[r] *= rescale;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      scores[r][i] = exp2f(scores[r][i] - shift);
      sum[r] += scores[r][i];
    }
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) out[slab][r][i] *= rescale;
    }
  }
}

template <class T, int kRows, int kSlabs>
__global__ __launch_bounds__(kThreads, kSlabs > 2 ? 1 : 2) void ForwardKernel(const ForwardArgs<T> args) {
  using Tile = Tiling<kRows, kSlabs>;
  extern __shared__ float4 shared[];
  float* const own = reinterpret_cast<float*>(shared);
  float* const weights = own + Tile::kOwnFloats;
  float* const stage = weights + Tile::kWeightFloats;
  const Sizes& sizes = args.sizes;
  const int index = blockIdx.x / sizes.heads;
  const int head = blockIdx.x % sizes.heads;
  if (index >= *sizes.list.count) return;
  const Place place = PlaceOf(sizes.list.tiles[index], Tile::kOwnRows);
  const Visibility visibility{sizes.causal, sizes.window, place.length};
  const int d = sizes.head_dim;
  const int64_t kv_offset = int64_t{head / (sizes.heads / sizes.kv_heads)} * d;
  const T* const k = args.k.data + place.start * args.k.stride + kv_offset;
  const T* const v = args.v.data + place.start * args.v.stride + kv_offset;
  const int64_t q_offset = int64_t{head} * d;
  LoadOwn<Tile>(args.q, args.q.data + place.start * args.q.stride + q_offset, place, d, own);

  const ThreadPlace<kRows> thread;
  const float* const mine = own + thread.template Own<Tile::kWidth>();
  float maximum[kRows], sum[kRows] = {};
  Scores<kRows> out[kSlabs];
#pragma unroll
  for (int r = 0; r < kRows; ++r) maximum[r] = kNone;
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) Clear<kRows>(out[slab]);

  const int last = place.first + place.rows - 1;
  const int end = visibility.EndOfKeys(last);
  for (int key = visibility.FirstKey(place.first) / kTile * kTile; key < end; key += kTile) {
    Scores<kRows> scores;
    Clear<kRows>(scores);
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.k, k, key, place.length, slab, d, stage);
      AddScores<kRows, Tile::kWidth>(thread, mine + slab * kSlab * kRowGroup, stage, scores);
    }
    ToScores<kRows>(sizes, scores);
    if (!visibility.SeesAll(place.first, last, key, key + kTile - 1)) {
      Hide<kRows>(scores, [&](int r, int i) {
        return visibility.Sees(place.first + thread.Row(r), key + thread.Other(i));
      });
    }
    SoftmaxTile<kRows, kSlabs>(scores, maximum, sum, out);
    ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) { *weight = scores[r][i]; });
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.v, v, key, place.length, slab, d, stage);
      AddMix<kRows>(thread, weights, stage, out[slab]);
    }
  }

  float inverse[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float total = RowSum(sum[r]);
    inverse[r] = 1 / total;
    const int row = thread.Row(r);
    if (args.lse != nullptr && thread.part == 0 && row < place.rows) {
      args.lse[head * sizes.tokens + place.start + place.first + row] = (maximum[r] + log2f(total)) * kLn2;
    }
  }
  StoreOwn<kRows, kSlabs>(thread, args.o, args.o.data + place.start * args.o.stride + q_offset, place, d,
                          inverse, out);
}

// --- Backward. ---

template <class T>
struct BackwardArgs {
  Sizes sizes;  // its list is of queries for dq, of keys for dk and dv
  Matrix<const T> q, k, v, d_o;
  Matrix<T> dq, dk, dv;
  const float* lse = nullptr;
  const float* dots = nullptr;
};

// The derivative of a capped score by the uncapped one, from the score's weight: the score's own registers
// are free by the time it is needed. A weight of zero has no gradient anyway.
__device__ __forceinline__ float SlopeOfWeight(const Sizes& sizes, float weight, float lse_log2) {
  if (sizes.cap_log2 <= 0 || weight <= 0) return 1;
  const float t = (log2f(weight) + lse_log2) / sizes.cap_log2;
  return fmaf(-t, t, 1.0f);
}

// Floats of lse and of the row sums, of a tile's queries.
constexpr int kQueryFloats = 2 * kTile;

template <class T, int kRows, int kSlabs>
__global__ __launch_bounds__(kThreads,
                             kSlabs > 2 ? 1 : 2) void KeyGradientKernel(const BackwardArgs<T> args) {
  using Tile = Tiling<kRows, kSlabs>;
  extern __shared__ float4 shared[];
  float* const own_k = reinterpret_cast<float*>(shared);
  float* const own_v = own_k + Tile::kOwnFloats;
  float* const weights = own_v + Tile::kOwnFloats;
  float* const stage = weights + Tile::kWeightFloats;
  float* const lse_log2 = stage + kStageFloats;
  float* const dots = lse_log2 + kTile;
  const Sizes& sizes = args.sizes;
  const int index = blockIdx.x / sizes.kv_heads;
  const int kv_head = blockIdx.x % sizes.kv_heads;
  if (index >= *sizes.list.count) return;
  const Place place = PlaceOf(sizes.list.tiles[index], Tile::kOwnRows);
  const Visibility visibility{sizes.causal, sizes.window, place.length};
  const int d = sizes.head_dim;
  const int64_t kv_offset = int64_t{kv_head} * d;
  LoadOwn<Tile>(args.k, args.k.data + place.start * args.k.stride + kv_offset, place, d, own_k);
  LoadOwn<Tile>(args.v, args.v.data + place.start * args.v.stride + kv_offset, place, d, own_v);

  const ThreadPlace<kRows> thread;
  const float* const my_k = own_k + thread.template Own<Tile::kWidth>();
  const float* const my_v = own_v + thread.template Own<Tile::kWidth>();
  Scores<kRows> dk[kSlabs], dv[kSlabs];
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) Clear<kRows>(dk[slab]), Clear<kRows>(dv[slab]);

  const int last = place.first + place.rows - 1;
  const int begin = visibility.FirstQuery(place.first) / kTile * kTile;
  const int end = visibility.EndOfQueries(last);
  const int group = sizes.heads / sizes.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const T* const q = args.q.data + place.start * args.q.stride + head * d;
    const T* const d_o = args.d_o.data + place.start * args.d_o.stride + head * d;
    const int64_t row_values = head * sizes.tokens + place.start;
    for (int query = begin; query < end; query += kTile) {
      // Before the barriers of the staging; the last tile's readers are behind a barrier too.
      if (threadIdx.x < kTile) {
        const int row = query + threadIdx.x;
        const bool exists = row < place.length;
        lse_log2[threadIdx.x] = exists ? args.lse[row_values + row] * kLog2E : 0.0f;
        dots[threadIdx.x] = exists ? args.dots[row_values + row] : 0.0f;
      }
      Scores<kRows> scores;
      Clear<kRows>(scores);
#pragma unroll 1
      for (int slab = 0; slab < kSlabs; ++slab) {
        Stage(args.q, q, query, place.length, slab, d, stage);
        AddScores<kRows, Tile::kWidth>(thread, my_k + slab * kSlab * kRowGroup, stage, scores);
      }
      ToScores<kRows>(sizes, scores);
      if (query + kTile > place.length || !visibility.SeesAll(query, query + kTile - 1, place.first, last)) {
        Hide<kRows>(scores, [&](int r, int i) {
          const int row = query + thread.Other(i);
          return row < place.length && visibility.Sees(row, place.first + thread.Row(r));
        });
      }
      ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) {
        *weight = exp2f(scores[r][i] - lse_log2[thread.Other(i)]);
      });
      Scores<kRows> gradients;
      Clear<kRows>(gradients);
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        Stage(args.d_o, d_o, query, place.length, slab, d, stage);
        AddScores<kRows, Tile::kWidth>(thread, my_v + slab * kSlab * kRowGroup, stage, gradients);
        AddMix<kRows>(thread, weights, stage, dv[slab]);
      }
      ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) {
        const float slope = SlopeOfWeight(sizes, *weight, lse_log2[thread.Other(i)]);
        *weight *= (gradients[r][i] - dots[thread.Other(i)]) * slope;
      });
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        Stage(args.q, q, query, place.length, slab, d, stage);
        AddMix<kRows>(thread, weights, stage, dk[slab]);
      }
    }
  }

  float scales[kRows], ones[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) scales[r] = sizes.scale, ones[r] = 1;
  StoreOwn<kRows, kSlabs>(thread, args.dk, args.dk.data + place.start * args.dk.stride + kv_offset, place, d,
                          scales, dk);
  StoreOwn<kRows, kSlabs>(thread, args.dv, args.dv.data + place.start * args.dv.stride + kv_offset, place, d,
                          ones, dv);
}

template <class T, int kRows, int kSlabs>
__global__ __launch_bounds__(kThreads,
                             kSlabs > 2 ? 1 : 2) void QueryGradientKernel(const BackwardArgs<T> args) {
  using Tile = Tiling<kRows, kSlabs>;
  extern __shared__ float4 shared[];
  float* const own_q = reinterpret_cast<float*>(shared);
  float* const own_d_o = own_q + Tile::kOwnFloats;
  float* const weights = own_d_o + Tile::kOwnFloats;
  float* const stage = weights + Tile::kWeightFloats;
  const Sizes& sizes = args.sizes;
  const int index = blockIdx.x / sizes.heads;
  const int head = blockIdx.x % sizes.heads;
  if (index >= *sizes.list.count) return;
  const Place place = PlaceOf(sizes.list.tiles[index], Tile::kOwnRows);
  const Visibility visibility{sizes.causal, sizes.window, place.length};
  const int d = sizes.head_dim;
  const int64_t q_offset = int64_t{head} * d;
  const int64_t kv_offset = int64_t{head / (sizes.heads / sizes.kv_heads)} * d;
  const T* const k = args.k.data + place.start * args.k.stride + kv_offset;
  const T* const v = args.v.data + place.start * args.v.stride + kv_offset;
  LoadOwn<Tile>(args.q, args.q.data + place.start * args.q.stride + q_offset, place, d, own_q);
  LoadOwn<Tile>(args.d_o, args.d_o.data + place.start * args.d_o.stride + q_offset, place, d, own_d_o);

  const ThreadPlace<kRows> thread;
  const float* const my_q = own_q + thread.template Own<Tile::kWidth>();
  const float* const my_d_o = own_d_o + thread.template Own<Tile::kWidth>();
  float lse_log2[kRows], dots[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = thread.Row(r);
    const int64_t at = head * sizes.tokens + place.start + place.first + row;
    lse_log2[r] = row < place.rows ? args.lse[at] * kLog2E : 0.0f;
    dots[r] = row < place.rows ? args.dots[at] : 0.0f;
  }
  Scores<kRows> dq[kSlabs];
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) Clear<kRows>(dq[slab]);

  const int last = place.first + place.rows - 1;
  const int end = visibility.EndOfKeys(last);
  for (int key = visibility.FirstKey(place.first) / kTile * kTile; key < end; key += kTile) {
    Scores<kRows> scores, gradients;
    Clear<kRows>(scores), Clear<kRows>(gradients);
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.v, v, key, place.length, slab, d, stage);
      AddScores<kRows, Tile::kWidth>(thread, my_d_o + slab * kSlab * kRowGroup, stage, gradients);
    }
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.k, k, key, place.length, slab, d, stage);
      AddScores<kRows, Tile::kWidth>(thread, my_q + slab * kSlab * kRowGroup, stage, scores);
    }
    ToScores<kRows>(sizes, scores);
    if (!visibility.SeesAll(place.first, last, key, key + kTile - 1)) {
      Hide<kRows>(scores, [&](int r, int i) {
        return visibility.Sees(place.first + thread.Row(r), key + thread.Other(i));
      });
    }
    ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) {
      const float probability = exp2f(scores[r][i] - lse_log2[r]);
      *weight = probability * (gradients[r][i] - dots[r]) * SlopeOfWeight(sizes, probability, lse_log2[r]);
    });
    // The last slab of k is still staged.
    AddMix<kRows>(thread, weights, stage, dq[kSlabs - 1]);
#pragma unroll
    for (int slab = 0; slab < kSlabs - 1; ++slab) {
      Stage(args.k, k, key, place.length, slab, d, stage);
      AddMix<kRows>(thread, weights, stage, dq[slab]);
    }
  }

  float scales[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) scales[r] = sizes.scale;
  StoreOwn<kRows, kSlabs>(thread, args.dq, args.dq.data + place.start * args.dq.stride + q_offset, place, d,
                          scales, dq);
}

// --- Launchers. ---

// Own rows of a thread, by the slabs of a head: as many as shared memory and registers hold.
template <int kSlabs>
constexpr int kForwardRows = kSlabs == 1 ? 4 : 2;
template <int kSlabs>
constexpr int kBackwardRows = kSlabs <= 2 ? 2 : 1;

int SlabsOf(int64_t head_dim) { return head_dim <= kSlab ? 1 : head_dim <= 2 * kSlab ? 2 : 4; }

// Calls launch with the number of slabs as a constant.
template <class Launch>
auto ForSlabs(int64_t head_dim, const Launch& launch) {
  switch (SlabsOf(head_dim)) {
    case 1:
      return launch(std::integral_constant<int, 1>());
    case 2:
      return launch(std::integral_constant<int, 2>());
    default:
      return launch(std::integral_constant<int, 4>());
  }
}

int64_t ForwardTileRows(int64_t head_dim) {
  return ForSlabs(head_dim, [](auto slabs) { return Tiling<kForwardRows<slabs>, slabs>::kOwnRows; });
}
int64_t BackwardTileRows(int64_t head_dim) {
  return ForSlabs(head_dim, [](auto slabs) { return Tiling<kBackwardRows<slabs>, slabs>::kOwnRows; });
}

Sizes SizesOf(const AttentionShape& shape) {
  // A window as long as the row is none.
  const bool windowed = shape.window > 0 && shape.window < shape.tokens;
  return {.tokens = shape.tokens,
          .heads = static_cast<int>(shape.heads),
          .kv_heads = static_cast<int>(shape.kv_heads),
          .head_dim = static_cast<int>(shape.head_dim),
          .scale = shape.scale,
          .factor = shape.soft_cap > 0 ? shape.scale / shape.soft_cap : shape.scale * kLog2E,
          .cap_log2 = shape.soft_cap > 0 ? shape.soft_cap * kLog2E : 0.0f,
          .causal = shape.mask == AttentionMask::kCausal,
          .window = windowed ? static_cast<int>(shape.window) : 0,
          .list = {}};
}

template <class T>
Matrix<const T> MatrixOf(const ConstHeads& heads, int64_t head_dim) {
  const T* data = heads.data.as<T>();
  return {data, heads.stride, IsPacked<kQuad>(data, heads.stride) && head_dim % kQuad == 0};
}
template <class T>
Matrix<T> MatrixOf(const Heads& heads, int64_t head_dim) {
  T* data = heads.data.as<T>();
  return {data, heads.stride, IsPacked<kQuad>(data, heads.stride) && head_dim % kQuad == 0};
}

template <class Args>
void Launch(const Stream& stream, void (*kernel)(Args), int64_t blocks, int shared_bytes, const Args& args) {
  TANREN_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  kernel<<<static_cast<unsigned>(blocks), kThreads, shared_bytes, Handle(stream)>>>(args);
  TANREN_CUDA_LAUNCHED();
}

template <class T>
void ForwardAs(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands) {
  const int64_t rows = ForwardTileRows(shape.head_dim);
  const int64_t d = shape.head_dim;
  void* memory = Scratch(stream, TileListBytes(shape, rows));
  ForwardArgs<T> args{.sizes = SizesOf(shape),
                      .q = MatrixOf<T>(operands.q, d),
                      .k = MatrixOf<T>(operands.k, d),
                      .v = MatrixOf<T>(operands.v, d),
                      .o = MatrixOf<T>(operands.o, d),
                      .lse = operands.lse};
  args.sizes.list = BuildTiles(stream, shape, rows, TileOrder::kQueries, memory);
  const int64_t blocks = MaxTiles(shape.tokens, shape.segments, rows) * shape.heads;
  ForSlabs(d, [&](auto slabs) {
    constexpr int kSlabs = slabs;
    constexpr int kRows = kForwardRows<kSlabs>;
    constexpr int kBytes = Tiling<kRows, kSlabs>::Bytes(1, 0);
    static_assert(kBytes <= kSharedBytes);
    Launch(stream, ForwardKernel<T, kRows, kSlabs>, blocks, kBytes, args);
  });
}

// The workspace: the row sums, then the tile lists of dk and dv and of dq.
struct Workspace {
  explicit Workspace(const AttentionShape& shape) {
    constexpr int64_t kAlignment = 256;
    const int64_t rows = BackwardTileRows(shape.head_dim);
    key_list = CeilDiv(shape.heads * shape.tokens * int64_t{sizeof(float)}, kAlignment) * kAlignment;
    query_list = key_list + TileListBytes(shape, rows);
    bytes = query_list + TileListBytes(shape, rows);
  }
  int64_t key_list, query_list, bytes;
};

template <class T>
void BackwardAs(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
                void* workspace) {
  const int64_t rows = BackwardTileRows(shape.head_dim);
  const int64_t d = shape.head_dim;
  const Workspace layout(shape);
  char* const base = static_cast<char*>(workspace);
  float* const dots = reinterpret_cast<float*>(base);
  AttentionRowDots(stream, shape, operands, dots);
  BackwardArgs<T> args{.sizes = SizesOf(shape),
                       .q = MatrixOf<T>(operands.q, d),
                       .k = MatrixOf<T>(operands.k, d),
                       .v = MatrixOf<T>(operands.v, d),
                       .d_o = MatrixOf<T>(operands.d_o, d),
                       .dq = MatrixOf<T>(operands.dq, d),
                       .dk = MatrixOf<T>(operands.dk, d),
                       .dv = MatrixOf<T>(operands.dv, d),
                       .lse = operands.lse,
                       .dots = dots};
  const int64_t tiles = MaxTiles(shape.tokens, shape.segments, rows);
  ForSlabs(d, [&](auto slabs) {
    constexpr int kSlabs = slabs;
    constexpr int kRows = kBackwardRows<kSlabs>;
    constexpr int kKeyBytes = Tiling<kRows, kSlabs>::Bytes(2, kQueryFloats);
    constexpr int kQueryBytes = Tiling<kRows, kSlabs>::Bytes(2, 0);
    static_assert(kKeyBytes <= kSharedBytes);
    args.sizes.list = BuildTiles(stream, shape, rows, TileOrder::kKeys, base + layout.key_list);
    Launch(stream, KeyGradientKernel<T, kRows, kSlabs>, tiles * shape.kv_heads, kKeyBytes, args);
    args.sizes.list = BuildTiles(stream, shape, rows, TileOrder::kQueries, base + layout.query_list);
    Launch(stream, QueryGradientKernel<T, kRows, kSlabs>, tiles * shape.heads, kQueryBytes, args);
  });
}

}  // namespace

bool ScalarAttentionSupports(const AttentionShape&, const AttentionOperands&) { return true; }

void ScalarAttentionForward(const Stream& stream, const AttentionShape& shape,
                            const AttentionOperands& operands) {
  if (shape.tokens == 0) return;
  if (operands.q.data.dtype == DType::kBF16) {
    ForwardAs<BFloat16>(stream, shape, operands);
  } else {
    ForwardAs<float>(stream, shape, operands);
  }
}

int64_t ScalarAttentionBackwardBytes(const AttentionShape& shape) { return Workspace(shape).bytes; }

void ScalarAttentionBackward(const Stream& stream, const AttentionShape& shape,
                             const AttentionOperands& operands, void* workspace) {
  if (shape.tokens == 0) return;
  if (operands.q.data.dtype == DType::kBF16) {
    BackwardAs<BFloat16>(stream, shape, operands, workspace);
  } else {
    BackwardAs<float>(stream, shape, operands, workspace);
  }
}

}  // namespace tanren::kernels::cuda
