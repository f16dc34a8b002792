// What the scalar attention kernels share: which keys a query sees, tiles in shared memory, and the two
// products of tiles. See attention_scalar.cu for the algorithm.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_SCALAR_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_SCALAR_CUH_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda::scalar {

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

}  // namespace tanren::kernels::cuda::scalar

#endif  // TANREN_KERNELS_CUDA_ATTENTION_SCALAR_CUH_
