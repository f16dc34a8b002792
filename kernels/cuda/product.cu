// The matrix product for what cuBLASLt declines: tiles of both factors in shared memory, in fp32 whatever
// they are in global memory, multiplied with fused multiply-adds. A sum runs in order of k in one
// accumulator.
#include <cstdint>
#include <limits>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product.h"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

constexpr int kTile = 64;   // rows and columns of a block's part of the result
constexpr int kDepth = 16;  // products that are added between two loads
constexpr int kSide = 16;   // threads along each side of the tile
constexpr int kPerThread = kTile / kSide;
constexpr int kThreads = kSide * kSide;
constexpr int kPitch = kTile + 1;  // elements of one column of a tile then lie in different banks
static_assert(kTile * kDepth % kThreads == 0);

// The rows of the left factor, or the columns of the right one: element d of line i is
// data[i * stride + d * depth_stride]. One of the two strides is 1.
struct Lines {
  int64_t count = 0;
  int64_t stride = 0;
  int64_t depth_stride = 0;
};

struct PlainShape {
  Lines left, right;
  int64_t depth = 0;
  int64_t out_stride = 0;
  int64_t column_tiles = 0;
  bool accumulate = false;
};

// tile[d][i] = element first_depth + d of line first + i, or 0 outside. Neighbouring threads read neighbours.
template <class In>
__device__ __forceinline__ void LoadTile(const Lines& lines, int64_t depth, const In* data, int64_t first,
                                         int64_t first_depth, float (*tile)[kPitch]) {
  const bool along_depth = lines.depth_stride == 1;
#pragma unroll
  for (int part = 0; part < kTile * kDepth / kThreads; ++part) {
    const int place = part * kThreads + threadIdx.x;
    const int d = along_depth ? place % kDepth : place / kTile;
    const int i = along_depth ? place / kDepth : place % kTile;
    const int64_t line = first + i;
    const int64_t k = first_depth + d;
    const bool inside = line < lines.count && k < depth;
    tile[d][i] = inside ? ToFloat(data[line * lines.stride + k * lines.depth_stride]) : 0.0f;
  }
}

// A thread owns kPerThread rows and as many columns of the tile, kSide apart. `bias` may be null.
template <class In, class Out>
__global__ __launch_bounds__(kThreads) void PlainProductKernel(const PlainShape shape, const In* left,
                                                               const In* right, const Out* bias, Out* out) {
  __shared__ float left_tile[kDepth][kPitch];
  __shared__ float right_tile[kDepth][kPitch];
  const int64_t first_row = blockIdx.x / shape.column_tiles * kTile;
  const int64_t first_column = blockIdx.x % shape.column_tiles * kTile;
  const int thread_row = threadIdx.x / kSide;
  const int thread_column = threadIdx.x % kSide;
  float sums[kPerThread][kPerThread] = {};
  for (int64_t first_depth = 0; first_depth < shape.depth; first_depth += kDepth) {
    LoadTile(shape.left, shape.depth, left, first_row, first_depth, left_tile);
    LoadTile(shape.right, shape.depth, right, first_column, first_depth, right_tile);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float row_values[kPerThread], column_values[kPerThread];
#pragma unroll
      for (int a = 0; a < kPerThread; ++a) {
        row_values[a] = left_tile[d][thread_row + a * kSide];
        column_values[a] = right_tile[d][thread_column + a * kSide];
      }
#pragma unroll
      for (int a = 0; a < kPerThread; ++a) {
#pragma unroll
        for (int b = 0; b < kPerThread; ++b) {
          sums[a][b] = fmaf(row_values[a], column_values[b], sums[a][b]);
        }
      }
    }
    __syncthreads();  // the next load overwrites what others still read
  }
#pragma unroll
  for (int a = 0; a < kPerThread; ++a) {
    const int64_t row = first_row + thread_row + a * kSide;
#pragma unroll
    for (int b = 0; b < kPerThread; ++b) {
      const int64_t column = first_column + thread_column + b * kSide;
      if (row < shape.left.count && column < shape.right.count) {
        Out* to = out + row * shape.out_stride + column;
        float value = sums[a][b];
        if (bias != nullptr) value += ToFloat(bias[column]);
        if (shape.accumulate) value += ToFloat(*to);
        *to = FromFloat<Out>(value);
      }
    }
  }
}

Lines LinesOf(int64_t count, int64_t stride, bool contiguous_in_depth) {
  return contiguous_in_depth ? Lines{count, stride, 1} : Lines{count, 1, stride};
}

template <class In, class Out>
void RunAs(const Stream& stream, const Product& product) {
  PlainShape shape;
  shape.left = LinesOf(product.m, product.left.stride, !product.left.transposed);
  shape.right = LinesOf(product.n, product.right.stride, product.right.transposed);
  shape.depth = product.k;
  shape.out_stride = product.out.stride;
  shape.column_tiles = CeilDiv(product.n, kTile);
  shape.accumulate = product.accumulate;
  const int64_t blocks = CeilDiv(product.m, kTile) * shape.column_tiles;
  TANREN_CUDA_REQUIRE(blocks <= std::numeric_limits<int32_t>::max());
  LaunchInTurn(stream, PlainProductKernel<In, Out>, static_cast<unsigned>(blocks), kThreads, shape,
               static_cast<const In*>(product.left.data), static_cast<const In*>(product.right.data),
               product.bias.as<Out>(), product.out.data.as<Out>());
}

}  // namespace

void RunPlainProduct(const Stream& stream, const Product& product) {
  if (product.dtype == DType::kF32) {
    RunAs<float, float>(stream, product);
  } else if (product.out.data.dtype == DType::kF32) {
    RunAs<BFloat16, float>(stream, product);
  } else {
    RunAs<BFloat16, BFloat16>(stream, product);
  }
}

}  // namespace tanren::kernels::cuda
