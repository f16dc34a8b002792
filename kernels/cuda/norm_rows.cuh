// What the norm kernels share: rows of both contracts, packs of a row, and sums over the threads of a row.
//
// A row belongs to a group of threads: part of a warp, a warp, or a block. Pack p of a thread is pack
// p * kGroup + its place in the group, so neighbouring threads read neighbouring memory. Which element a
// thread holds, and with it the order of every sum, depends on the row's width and dtype only: where rows
// are not whole packs, or not aligned, the same elements are read one by one. Products that meet a sum are
// named (fmaf, __fmul_rn), so that both kinds round alike.
#ifndef TANREN_KERNELS_CUDA_NORM_ROWS_CUH_
#define TANREN_KERNELS_CUDA_NORM_ROWS_CUH_

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/pack_float.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/norm.h"

namespace tanren::kernels::cuda {

// Row r of plain rows (heads = 1) begins at r * stride; of heads, at r / heads * stride + r % heads * width.
struct NormRows {
  int64_t rows = 0;
  int64_t width = 0;
  int64_t heads = 1;
  int64_t stride = 0;
};

inline NormRows PlainRows(int64_t rows, int64_t width) {
  return {.rows = rows, .width = width, .heads = 1, .stride = width};
}
inline NormRows HeadRows(const HeadNormArgs& args) {
  return {.rows = args.tokens * args.heads, .width = args.width, .heads = args.heads, .stride = args.stride};
}

// Walks neighbouring rows with one division for all of them.
class RowWalk {
 public:
  __device__ __forceinline__ RowWalk(const NormRows& rows, int64_t row) {
    const int64_t token =
        rows.heads == 1
            ? row
            : static_cast<int64_t>(static_cast<uint64_t>(row) / static_cast<uint64_t>(rows.heads));
    head_ = row - token * rows.heads;
    offset_ = token * rows.stride + head_ * rows.width;
  }
  __device__ __forceinline__ int64_t offset() const { return offset_; }
  __device__ __forceinline__ void Next(const NormRows& rows) {
    if (++head_ == rows.heads) {
      offset_ += rows.stride - (rows.heads - 1) * rows.width;
      head_ = 0;
    } else {
      offset_ += rows.width;
    }
  }

 private:
  int64_t head_;
  int64_t offset_;
};

// Where pack p of this thread begins; beyond the row if that is not less than the width. Widths of rows in
// registers fit into an int.
template <int kGroup, int kCount>
__device__ __forceinline__ int ColumnOf(int p) {
  return (p * kGroup + static_cast<int>(threadIdx.x) % kGroup) * kCount;
}

// 16 bytes of a row in registers: the words, not the elements, see pack_float.cuh.
template <class T>
struct RowPack {
  static constexpr int kCount = kPackOf<T>;
  uint32_t words[4] = {};

  __device__ __forceinline__ Floats<kCount> ToFloats() const { return FloatsOfWords<T, kCount>(words); }
  static __device__ __forceinline__ RowPack FromFloats(const Floats<kCount>& values) {
    RowPack result;
    WordsOfFloats<T>(values, result.words);
    return result;
  }
};

// The pack at `from`, of which the row has `left` elements (0 or less: none); the others are 0. kWhole: rows
// are whole packs and aligned. Plain loads: a kernel may write the memory that it read.
template <bool kWhole, class T>
__device__ __forceinline__ RowPack<T> LoadUpTo(const T* from, int64_t left) {
  RowPack<T> result;
  if constexpr (kWhole) {
    if (left > 0) {
      const uint4 word = *reinterpret_cast<const uint4*>(from);
      result.words[0] = word.x;
      result.words[1] = word.y;
      result.words[2] = word.z;
      result.words[3] = word.w;
    }
    return result;
  } else {
    Floats<RowPack<T>::kCount> values;
#pragma unroll
    for (int e = 0; e < RowPack<T>::kCount; ++e) values.at[e] = e < left ? ToFloat(from[e]) : 0.0f;
    return RowPack<T>::FromFloats(values);
  }
}
template <bool kWhole, class T>
__device__ __forceinline__ void StoreUpTo(T* to, const RowPack<T>& pack, int64_t left) {
  if constexpr (kWhole) {
    if (left > 0) {
      StoreWord(reinterpret_cast<uint4*>(to),
                make_uint4(pack.words[0], pack.words[1], pack.words[2], pack.words[3]));
    }
  } else {
    const Floats<RowPack<T>::kCount> values = pack.ToFloats();
#pragma unroll
    for (int e = 0; e < RowPack<T>::kCount; ++e) {
      if (e < left) to[e] = FromFloat<T>(values.at[e]);  // exact
    }
  }
}

// The memory by which the warps of a block exchange sums. Two in turn need one barrier for each sum.
template <int kThreads, int kValues>
struct alignas(16) SumExchange {
  float of_warps[kValues][kThreads / kWarp];
};

// Sums each of `values` over the threads of a group; every thread gets the sums. All threads of the block
// call it, and a call after the next may use the same memory again.
template <int kGroup, int kThreads, int kValues>
__device__ __forceinline__ void GroupSum(float (&values)[kValues], SumExchange<kThreads, kValues>& exchange) {
  static_assert(kThreads % kGroup == 0 && kThreads % kWarp == 0);
  constexpr int kLanes = kGroup < kWarp ? kGroup : kWarp;
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (float& value : values) value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  if constexpr (kGroup > kWarp) {
    constexpr int kGroupWarps = kGroup / kWarp;
    const int warp = threadIdx.x / kWarp;
    if (threadIdx.x % kWarp == 0) {
#pragma unroll
      for (int v = 0; v < kValues; ++v) exchange.of_warps[v][warp] = values[v];
    }
    __syncthreads();
    const int first = warp / kGroupWarps * kGroupWarps;
#pragma unroll
    for (int v = 0; v < kValues; ++v) {
      values[v] = exchange.of_warps[v][first];
#pragma unroll
      for (int w = 1; w < kGroupWarps; ++w) values[v] += exchange.of_warps[v][first + w];
    }
  }
}

// Rows too wide for registers: a block takes one and reads it again for each pass.
inline constexpr int kWideThreads = 1024;

// Calls body(column, left) for each pack of this thread, a block of kWideThreads to the row.
template <int kCount, class Body>
__device__ __forceinline__ void ForEachWidePack(int64_t width, const Body& body) {
  for (int64_t column = int64_t{threadIdx.x} * kCount; column < width; column += kWideThreads * kCount) {
    body(column, width - column);
  }
}

// Whether element e of a pack with `left` elements lies within the row.
template <bool kWhole>
__device__ __forceinline__ bool IsInside(int e, int64_t left) {
  return kWhole ? left > 0 : e < left;
}

template <class T>
bool AreWholePacks(const NormRows& rows, std::initializer_list<const void*> arrays) {
  constexpr int n = kPackOf<T>;
  if (rows.width % n != 0 || rows.stride % n != 0) return false;
  return std::all_of(arrays.begin(), arrays.end(),
                     [](const void* array) { return PhaseOf<n>(static_cast<const T*>(array)) == 0; });
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_NORM_ROWS_CUH_
