// Flat reductions, conversions and elementwise sums.
//
// Every sum is cut into blocks of a fixed size whose sums are added in a fixed order, so a result depends on
// the input and its size alone, not on the machine or on which block of threads ran first.
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/flat.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/digest.h"
#include "kernels/reduce.h"

namespace tanren::kernels {
namespace cuda {
namespace {

// --- Sum of squares. ---
//
// A block of 4096 elements is summed as on the CPU: sixteen running sums in double, lane j taking elements
// j, j + 16, ..., then halves added to halves. The square of a float is exact in double. A thread is a lane;
// it reads far ahead, because that is all that hides the latency of memory when x is short.

constexpr int64_t kSquareBlock = 4096;
constexpr int kLanes = 16;
constexpr int kSquareThreads = 128;
constexpr int kSquareBlocksPerThreadBlock = kSquareThreads / kLanes;

__global__ __launch_bounds__(kSquareThreads, 8) void SquareBlocksKernel(const float* x, int64_t count,
                                                                        int64_t blocks, double* sums) {
  constexpr int kAhead = 32;  // elements in flight
  const int64_t block = int64_t{blockIdx.x} * kSquareBlocksPerThreadBlock + threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes;
  const int64_t begin = block * kSquareBlock;
  const int size = static_cast<int>(max(int64_t{0}, min(kSquareBlock, count - begin)));
  const float* from = x + begin;
  double sum = 0;
  for (int first = lane; first < size; first += kAhead * kLanes) {
    float values[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int i = first + a * kLanes;
      values[a] = i < size ? __ldg(from + i) : 0.0f;  // adding a zero's square changes nothing
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const double value = values[a];
      sum = fma(value, value, sum);
    }
  }
#pragma unroll
  for (int half = kLanes / 2; half > 0; half /= 2) sum += __shfl_down_sync(kAllLanes, sum, half, kLanes);
  if (lane == 0 && block < blocks) sums[block] = sum;
}

// Block b adds `chunk` values from b * chunk on, one after the other. The threads bring them into shared
// memory together; a single one adds.
constexpr int kOrderedThreads = 256;

__global__ __launch_bounds__(kOrderedThreads) void AddInOrderKernel(const double* values, int64_t count,
                                                                    int64_t chunk, double* sums) {
  constexpr int kTile = 1024;
  __shared__ double tile[kTile];
  const int64_t begin = blockIdx.x * chunk;
  const int64_t end = min(count, begin + chunk);
  double total = 0;
  for (int64_t first = begin; first < end; first += kTile) {
    const int size = static_cast<int>(min(int64_t{kTile}, end - first));
    __syncthreads();  // the tile before was read
    for (int i = threadIdx.x; i < size; i += kOrderedThreads) tile[i] = values[first + i];
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 16
      for (int i = 0; i < size; ++i) total += tile[i];
    }
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// --- Digest. ---
//
// Integers may be added in any order, so the warps' sums meet in one atomic addition each.

constexpr int kDigestThreads = 256;
constexpr int64_t kDigestBlocks = 1024;  // more words are strided over

__global__ __launch_bounds__(kDigestThreads) void DigestKernel(const uint64_t* words, int64_t whole, int rest,
                                                               unsigned long long* result) {
  const int64_t stride = int64_t{gridDim.x} * kDigestThreads;
  const int64_t first = int64_t{blockIdx.x} * kDigestThreads + threadIdx.x;
  uint64_t sum = 0;
#pragma unroll 8
  for (int64_t i = first; i < whole; i += stride) {
    sum +=
        DigestWord(__ldg(reinterpret_cast<const unsigned long long*>(words) + i), static_cast<uint64_t>(i));
  }
  if (first == 0 && rest > 0) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(words + whole);
    uint64_t last = 0;
    for (int b = 0; b < rest; ++b) last |= uint64_t{bytes[b]} << (8 * b);
    sum += DigestWord(last, static_cast<uint64_t>(whole));
  }
#pragma unroll
  for (int half = kWarp / 2; half > 0; half /= 2) {
    sum += __shfl_down_sync(kAllLanes, static_cast<unsigned long long>(sum), half);
  }
  if (threadIdx.x % kWarp == 0) atomicAdd(result, static_cast<unsigned long long>(sum));
}

// --- Conversions. ---

// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
struct Float16 {
  uint16_t bits = 0;
};

// A double rounded to float towards an odd last bit: rounding the result once more, to a shorter format, then
// gives the same as rounding the double directly (Boldo and Melquiond 2005).
__device__ __forceinline__ float RoundToOdd(double value) {
  const float toward_zero = __double2float_rz(value);
  if (static_cast<double>(toward_zero) == value) return toward_zero;
  return __uint_as_float(__float_as_uint(toward_zero) | 1u);  // also of a NaN, which stays one
}

// float holds every bf16 and binary16 value exactly.
__device__ __forceinline__ float Widen(float value) { return value; }
__device__ __forceinline__ float Widen(BFloat16 value) { return ToFloat(value); }
__device__ __forceinline__ float Widen(Float16 value) { return __half2float(__ushort_as_half(value.bits)); }

template <class To>
__device__ __forceinline__ To Narrow(float value) {
  if constexpr (std::is_same_v<To, Float16>) {
    Float16 result;
    result.bits = __half_as_ushort(__float2half_rn(value));
    return result;
  } else if constexpr (std::is_same_v<To, double>) {
    return value;
  } else {
    return FromFloat<To>(value);
  }
}

template <class To, class From>
__device__ __forceinline__ To Convert(From value) {
  if constexpr (!std::is_same_v<From, double>) {
    return Narrow<To>(Widen(value));
  } else if constexpr (std::is_same_v<To, float>) {
    return __double2float_rn(value);
  } else {
    return Narrow<To>(RoundToOdd(value));
  }
}

template <class From, class To>
struct CastOp {
  static constexpr int kPack = kPackOf<From, To>;
  static constexpr int kPacks = 4;

  const From* x;
  To* y;

  template <int n>
  using Input = Pack<From, n>;
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    return LoadPack<n>(x + i);
  }
  template <int n>
  __device__ void Finish(int64_t i, const Input<n>& input) const {
    Pack<To, n> result;
#pragma unroll
    for (int e = 0; e < n; ++e) result.at[e] = Convert<To>(input.at[e]);
    StorePack(y + i, result);
  }
};

template <class From, class To>
void CastAs(const Stream& stream, int64_t count, const From* x, To* y) {
  if constexpr (std::is_same_v<From, To>) {
    if (x == y || count <= 0) return;
    TANREN_CUDA(cudaMemcpyAsync(y, x, count * sizeof(To), cudaMemcpyDefault, Handle(stream)));
  } else {
    using Op = CastOp<From, To>;
    LaunchFlat(stream, count, {PhaseOf<Op::kPack>(x), PhaseOf<Op::kPack>(y)}, Op{x, y});
  }
}

template <class From>
void CastFrom(const Stream& stream, int64_t count, const From* x, Buffer y) {
  switch (y.dtype) {
    case DType::kF32:
      return CastAs(stream, count, x, y.as<float>());
    case DType::kBF16:
      return CastAs(stream, count, x, y.as<BFloat16>());
    case DType::kF16:
      return CastAs(stream, count, x, y.as<Float16>());
    case DType::kF64:
      return CastAs(stream, count, x, y.as<double>());
    default:
      TANREN_CUDA_REQUIRE(!"Cast to a floating-point dtype");
  }
}

// --- Scaled sums. ---

template <class X, class Y>
struct AddScaledOp {
  static constexpr int kPack = kPackOf<X, Y>;
  static constexpr int kPacks = 2;

  float alpha;
  const X* x;
  Y* y;

  template <int n>
  struct Input {
    Pack<X, n> x;
    Pack<Y, n> y;
  };
  template <int n>
  __device__ Input<n> Load(int64_t i) const {
    return {LoadPack<n>(x + i), LoadPack<n>(y + i)};
  }
  template <int n>
  __device__ void Finish(int64_t i, Input<n>& input) const {
#pragma unroll
    for (int e = 0; e < n; ++e) {
      input.y.at[e] = FromFloat<Y>(__fmaf_rn(alpha, ToFloat(input.x.at[e]), ToFloat(input.y.at[e])));
    }
    StorePack(y + i, input.y);
  }
};

template <class X, class Y>
void AddScaledAs(const Stream& stream, int64_t count, float alpha, const X* x, Y* y) {
  using Op = AddScaledOp<X, Y>;
  LaunchFlat(stream, count, {PhaseOf<Op::kPack>(x), PhaseOf<Op::kPack>(y)}, Op{alpha, x, y});
}

// --- Column sums. ---
//
// The rows are cut into blocks of 128 and the columns into tiles of a warp's width. Warp w of a thread block
// adds rows w, w + 8, ... of its row block, then the eight sums are added in order; that sum goes to scratch.
// A second kernel adds the sums of the row blocks: warp w takes blocks w, w + 16, ..., then the sixteen are
// added in order, and the total joins `out`.

constexpr int64_t kRowBlock = 128;
constexpr int kColumnThreads = 256;
constexpr int kColumnWarps = kColumnThreads / kWarp;
constexpr int kTotalThreads = 512;
constexpr int kTotalWarps = kTotalThreads / kWarp;

// tiles: of columns, each kWarp * kCount wide; partial: [row blocks, width].
template <class T, int kCount>
__global__ __launch_bounds__(kColumnThreads) void ColumnPartialsKernel(int64_t rows, int64_t width,
                                                                       int64_t tiles, const T* x,
                                                                       int64_t stride, float* partial) {
  constexpr int kAhead = 8;  // rows in flight
  constexpr int kTileWidth = kWarp * kCount;
  static_assert(kTileWidth <= kColumnThreads);
  __shared__ Pack<float, kCount> sums_of_warps[kColumnWarps][kWarp];
  const int64_t block = blockIdx.x / tiles;
  const int64_t first_column = blockIdx.x % tiles * kTileWidth;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t column = first_column + lane * kCount;

  Pack<float, kCount> sum;
#pragma unroll
  for (float& value : sum.at) value = 0;
  if (column < width) {
    const int count = static_cast<int>(min(kRowBlock, rows - block * kRowBlock));
    const T* from = x + block * kRowBlock * stride + column;
    for (int row = warp; row < count; row += kColumnWarps * kAhead) {
      Pack<T, kCount> values[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int r = row + a * kColumnWarps;
        if (r < count) values[a] = LoadPack<kCount>(from + r * stride);
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (row + a * kColumnWarps < count) {
#pragma unroll
          for (int e = 0; e < kCount; ++e) sum.at[e] += ToFloat(values[a].at[e]);
        }
      }
    }
  }
  sums_of_warps[warp][lane] = sum;
  __syncthreads();
  const int place = threadIdx.x;
  if (place < kTileWidth && first_column + place < width) {
    float total = sums_of_warps[0][place / kCount].at[place % kCount];
#pragma unroll
    for (int w = 1; w < kColumnWarps; ++w) total += sums_of_warps[w][place / kCount].at[place % kCount];
    partial[block * width + first_column + place] = total;
  }
}

__global__ __launch_bounds__(kTotalThreads) void ColumnTotalsKernel(int64_t blocks, int64_t width,
                                                                    const float* partial, float* out) {
  __shared__ float sums_of_warps[kTotalWarps][kWarp];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t column = int64_t{blockIdx.x} * kWarp + lane;
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int64_t block = warp; block < blocks; block += kTotalWarps) sum += partial[block * width + column];
  }
  sums_of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < width) {
    float total = sums_of_warps[0][lane];
#pragma unroll
    for (int w = 1; w < kTotalWarps; ++w) total += sums_of_warps[w][lane];
    out[column] += total;
  }
}

template <class T>
void ColumnSumAs(const Stream& stream, int64_t rows, int64_t width, const T* x, int64_t stride, float* out) {
  constexpr int n = kPackOf<T>;
  const bool packed = IsPacked<n>(x, stride) && width % n == 0;
  const int64_t blocks = CeilDiv(rows, kRowBlock);
  const int64_t tiles = CeilDiv(width, kWarp * (packed ? n : 1));
  float* partial = ScratchOf<float>(stream, blocks * width);
  const auto kernel = packed ? ColumnPartialsKernel<T, n> : ColumnPartialsKernel<T, 1>;
  LaunchInTurn(stream, kernel, static_cast<unsigned>(blocks * tiles), kColumnThreads, rows, width, tiles, x,
               stride, partial);
  LaunchInTurn(stream, ColumnTotalsKernel, static_cast<unsigned>(CeilDiv(width, kWarp)), kTotalThreads,
               blocks, width, partial, out);
}

}  // namespace
}  // namespace cuda

// Block sums are added one after the other within chunks of 1024 blocks (four million elements), and the
// chunks' sums likewise: up to one chunk, the bits are those of the CPU.
void cuda::SumOfSquares(const Stream& stream, const float* x, int64_t count, double* result) {
  constexpr int64_t kChunk = 1024;
  if (count <= 0) {
    TANREN_CUDA(cudaMemsetAsync(result, 0, sizeof(double), Handle(stream)));
    return;
  }
  const int64_t blocks = CeilDiv(count, kSquareBlock);
  const int64_t chunks = CeilDiv(blocks, kChunk);
  double* block_sums = blocks == 1 ? result : ScratchOf<double>(stream, blocks + chunks);
  double* chunk_sums = chunks == 1 ? result : block_sums + blocks;
  LaunchInTurn(stream, SquareBlocksKernel,
               static_cast<unsigned>(CeilDiv(blocks, kSquareBlocksPerThreadBlock)), kSquareThreads, x, count,
               blocks, block_sums);
  if (blocks == 1) return;
  LaunchInTurn(stream, AddInOrderKernel, static_cast<unsigned>(chunks), kOrderedThreads, block_sums, blocks,
               kChunk, chunk_sums);
  if (chunks == 1) return;
  LaunchInTurn(stream, AddInOrderKernel, 1, kOrderedThreads, chunk_sums, chunks, chunks, result);
}

void cuda::Digest(const Stream& stream, int64_t bytes, const void* x, uint64_t* result) {
  TANREN_CUDA_REQUIRE(reinterpret_cast<uintptr_t>(x) % sizeof(uint64_t) == 0);
  TANREN_CUDA(cudaMemsetAsync(result, 0, sizeof(uint64_t), Handle(stream)));
  if (bytes <= 0) return;
  const int64_t whole = bytes / static_cast<int64_t>(sizeof(uint64_t));
  const int rest = static_cast<int>(bytes % static_cast<int64_t>(sizeof(uint64_t)));
  const int64_t blocks = std::clamp<int64_t>(CeilDiv(whole, kDigestThreads), 1, kDigestBlocks);
  LaunchInTurn(stream, DigestKernel, static_cast<unsigned>(blocks), kDigestThreads,
               static_cast<const uint64_t*>(x), whole, rest, reinterpret_cast<unsigned long long*>(result));
}

void cuda::Cast(const Stream& stream, int64_t count, ConstBuffer x, Buffer y) {
  switch (x.dtype) {
    case DType::kF32:
      return CastFrom(stream, count, x.as<float>(), y);
    case DType::kBF16:
      return CastFrom(stream, count, x.as<BFloat16>(), y);
    case DType::kF16:
      return CastFrom(stream, count, x.as<Float16>(), y);
    case DType::kF64:
      return CastFrom(stream, count, x.as<double>(), y);
    default:
      TANREN_CUDA_REQUIRE(!"Cast from a floating-point dtype");
  }
}

void cuda::AddScaled(const Stream& stream, int64_t count, float alpha, ConstBuffer x, Buffer y) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && IsF32OrBF16(y.dtype));
  if (x.dtype == DType::kF32 && y.dtype == DType::kF32) {
    AddScaledAs(stream, count, alpha, x.as<float>(), y.as<float>());
  } else if (x.dtype == DType::kF32) {
    AddScaledAs(stream, count, alpha, x.as<float>(), y.as<BFloat16>());
  } else if (y.dtype == DType::kF32) {
    AddScaledAs(stream, count, alpha, x.as<BFloat16>(), y.as<float>());
  } else {
    AddScaledAs(stream, count, alpha, x.as<BFloat16>(), y.as<BFloat16>());
  }
}

void cuda::ColumnSum(const Stream& stream, int64_t rows, int64_t width, ConstBuffer x, int64_t stride,
                     float* out) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype));
  if (rows <= 0 || width <= 0) return;
  if (x.dtype == DType::kF32) {
    ColumnSumAs(stream, rows, width, x.as<float>(), stride, out);
  } else {
    ColumnSumAs(stream, rows, width, x.as<BFloat16>(), stride, out);
  }
}

void cuda::Fill(const Stream& stream, int64_t bytes, uint8_t value, void* data) {
  if (bytes > 0) TANREN_CUDA(cudaMemsetAsync(data, value, bytes, Handle(stream)));
}

}  // namespace tanren::kernels
