// Rows of a table read or added to by index: embedding look-up, and the gathering and scattering of rows.
//
// A warp takes one segment of one row, a few packs a lane, and has all its reads in flight before it writes.
// Segments of one row are neighbours in the grid, so that a row is one stretch of memory traffic. The
// embedding's gradient, where rows meet, is in embedding_backward.cu.
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/embedding.h"

namespace tanren::kernels {
namespace cuda {
namespace {

// index[i] names a row of the table, which is `to` where rows are scattered and `from` elsewhere.
enum class RowMove {
  kCopy,        // to[i] = from[index[i]]
  kScale,       // to[i] = scale * from[index[i]], or zero where the table has no such row
  kScaleAdd,    // to[i] += scale * from[index[i]], where the table has such a row
  kScatterAdd,  // to[index[i]] += from[i]
};

struct RowIndex {
  const int32_t* index;
  int64_t first;  // the table holds rows [first, first + rows)
  int64_t rows;
};

constexpr int kRowThreads = 256;
constexpr int kRowWarps = kRowThreads / kWarp;
constexpr int kLanePacks = 4;

template <int kCount>
constexpr int64_t kSegment = kWarp* kLanePacks* kCount;  // elements

template <RowMove kMove, class From, class To, int kCount>
__global__ __launch_bounds__(kRowThreads) void MoveRowsKernel(int64_t count, int64_t width, int64_t segments,
                                                              RowIndex table, float scale, const From* from,
                                                              To* to) {
  constexpr bool kAdds = kMove == RowMove::kScaleAdd || kMove == RowMove::kScatterAdd;
  AwaitEarlierKernels();
  const int64_t unit = int64_t{blockIdx.x} * kRowWarps + threadIdx.x / kWarp;
  const int64_t i = unit / segments;
  if (i >= count) return;
  const int64_t row = table.index[i] - table.first;
  const bool present = row >= 0 && row < table.rows;
  if (kAdds && !present) return;
  const int64_t begin = unit % segments * kSegment<kCount> + threadIdx.x % kWarp * kCount;
  from += (kMove == RowMove::kScatterAdd ? i : row) * width;
  to += (kMove == RowMove::kScatterAdd ? row : i) * width;

  Pack<From, kCount> values[kLanePacks];
  Pack<To, kCount> sums[kLanePacks];
#pragma unroll
  for (int p = 0; p < kLanePacks; ++p) {
    const int64_t column = begin + p * kWarp * kCount;
    if (column >= width || !present) continue;
    values[p] = LoadPack<kCount>(from + column);
    if constexpr (kAdds) sums[p] = LoadPack<kCount>(to + column);
  }
#pragma unroll
  for (int p = 0; p < kLanePacks; ++p) {
    const int64_t column = begin + p * kWarp * kCount;
    if (column >= width) continue;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const From value = values[p].at[e];
      if constexpr (kAdds) {
        sums[p].at[e] = FromFloat<To>(__fmaf_rn(scale, ToFloat(value), ToFloat(sums[p].at[e])));
      } else if constexpr (kMove == RowMove::kScale) {
        sums[p].at[e] = FromFloat<To>(present ? __fmul_rn(scale, ToFloat(value)) : 0.0f);
      } else if constexpr (std::is_same_v<From, To>) {
        sums[p].at[e] = value;
      } else {
        sums[p].at[e] = FromFloat<To>(ToFloat(value));
      }
    }
    StorePack(to + column, sums[p]);
  }
}

template <RowMove kMove, class From, class To>
void MoveRowsAs(const Stream& stream, int64_t count, int64_t width, const RowIndex& table, float scale,
                const From* from, To* to) {
  constexpr int n = kPackOf<From, To>;
  const bool packed = IsPacked<n>(from, width) && IsPacked<n>(to, width);
  const int64_t segments = CeilDiv(width, packed ? kSegment<n> : kSegment<1>);
  const int64_t blocks = CeilDiv(count * segments, kRowWarps);
  const auto kernel = packed ? MoveRowsKernel<kMove, From, To, n> : MoveRowsKernel<kMove, From, To, 1>;
  LaunchChained(stream, kernel, static_cast<unsigned>(blocks), kRowThreads, count, width, segments, table,
                scale, from, to);
}

template <RowMove kMove>
void MoveRows(const Stream& stream, int64_t count, int64_t width, const RowIndex& table, float scale,
              ConstBuffer from, Buffer to) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(from.dtype) && IsF32OrBF16(to.dtype));
  if (count <= 0 || width <= 0) return;
  const auto move = [&](const auto* source, auto* target) {
    MoveRowsAs<kMove>(stream, count, width, table, scale, source, target);
  };
  if (from.dtype == DType::kF32 && to.dtype == DType::kF32) {
    move(from.as<float>(), to.as<float>());
  } else if (from.dtype == DType::kF32) {
    move(from.as<float>(), to.as<BFloat16>());
  } else if (to.dtype == DType::kF32) {
    move(from.as<BFloat16>(), to.as<float>());
  } else {
    move(from.as<BFloat16>(), to.as<BFloat16>());
  }
}

constexpr int64_t kAnyRow = std::numeric_limits<int64_t>::max();

}  // namespace
}  // namespace cuda

void cuda::EmbeddingForward(const Stream& stream, const EmbeddingArgs& args, ConstBuffer table, float scale,
                            Buffer y, bool accumulate) {
  const RowIndex index{args.ids, args.first_id, args.rows};
  if (accumulate) {
    MoveRows<RowMove::kScaleAdd>(stream, args.tokens, args.width, index, scale, table, y);
  } else {
    MoveRows<RowMove::kScale>(stream, args.tokens, args.width, index, scale, table, y);
  }
}

void cuda::GatherRows(const Stream& stream, int64_t count, int64_t width, const int32_t* indices,
                      ConstBuffer in, Buffer out) {
  MoveRows<RowMove::kCopy>(stream, count, width, {indices, 0, kAnyRow}, 1, in, out);
}

void cuda::ScatterAddRows(const Stream& stream, int64_t count, int64_t width, const int32_t* indices,
                          ConstBuffer in, Buffer out) {
  TANREN_CUDA_REQUIRE(in.dtype == out.dtype || in.dtype == DType::kF32);
  MoveRows<RowMove::kScatterAdd>(stream, count, width, {indices, 0, kAnyRow}, 1, in, out);
}

}  // namespace tanren::kernels
