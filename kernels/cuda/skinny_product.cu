// A warp makes one or two columns of the result for all rows: its lanes read their 16-byte packs of the
// weight's rows, several at once, multiply them with the rows of x, which stay in the first-level cache, and
// add up across the warp.
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/skinny_product.h"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kCount = kPackOf<BFloat16>;
constexpr int kWarpElements = kWarp * kCount;  // of k, that the warp reads at once

struct SkinnyArgs {
  int64_t n = 0;
  int64_t k = 0;
  const BFloat16* x = nullptr;
  int64_t x_stride = 0;
  const BFloat16* weight = nullptr;
  const BFloat16* bias = nullptr;
  int64_t rows = 0;
  int64_t y_stride = 0;
};

// kRows: rows computed, those beyond args.rows being copies of the last one that are not stored. kColumns: of
// the result, a warp. kAhead: packs of each weight row in flight.
template <int kRows, int kColumns, int kAhead, class Y>
__global__ __launch_bounds__(kWarps* kWarp) void SkinnyKernel(SkinnyArgs args, Y* y) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t column = (int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp) * kColumns;
  if (column >= args.n) return;
  const BFloat16* weights[kColumns];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    weights[c] = args.weight + (column + c < args.n ? column + c : args.n - 1) * args.k;
  }
  const BFloat16* rows[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = args.x + (r < args.rows ? r : args.rows - 1) * args.x_stride;

  float sums[kColumns][kRows] = {};
  for (int64_t first = lane * kCount; first < args.k; first += kWarpElements * kAhead) {
    Pack<BFloat16, kCount> w[kAhead][kColumns] = {};
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t at = first + a * kWarpElements;
      if (at >= args.k) continue;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) w[a][c] = LoadPack<kCount>(weights[c] + at);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int64_t at = first + a * kWarpElements;
      if (at >= args.k) continue;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const Pack<BFloat16, kCount> x = LoadPack<kCount>(rows[r] + at);
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            sums[c][r] = fmaf(ToFloat(w[a][c].at[e]), ToFloat(x.at[e]), sums[c][r]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = WarpSum(sums[c][r]);
      if (lane != 0 || r >= args.rows || column + c >= args.n) continue;
      const float bias = args.bias == nullptr ? 0.0f : ToFloat(args.bias[column + c]);
      y[r * args.y_stride + column + c] = FromFloat<Y>(sum + bias);
    }
  }
}

template <int kRows, int kColumns, int kAhead, class Y>
void LaunchRows(const Stream& stream, const SkinnyArgs& args, Y* y) {
  const int64_t blocks = CeilDiv(args.n, kWarps * kColumns);
  SkinnyKernel<kRows, kColumns, kAhead, Y>
      <<<static_cast<unsigned>(blocks), kWarps * kWarp, 0, Handle(stream)>>>(args, y);
  TANREN_CUDA_LAUNCHED();
}

template <class Y>
void Launch(const Stream& stream, const SkinnyArgs& args, Y* y) {
  if (args.rows == 1) return LaunchRows<1, 1, 4>(stream, args, y);
  if (args.rows == 2) return LaunchRows<2, 1, 4>(stream, args, y);
  if (args.rows <= 4) return LaunchRows<4, 2, 2>(stream, args, y);
  LaunchRows<8, 2, 2>(stream, args, y);
}

}  // namespace

bool SkinnyProductSupports(int64_t rows, int64_t k, ConstMatrix x, ConstBuffer weight) {
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % kWidestWord == 0; };
  return rows <= kSkinnyRows && weight.dtype == DType::kBF16 && k % kCount == 0 && x.stride % kCount == 0 &&
         aligned(x.data.data) && aligned(weight.data);
}

void SkinnyProduct(const Stream& stream, int64_t rows, int64_t n, int64_t k, ConstMatrix x,
                   ConstBuffer weight, ConstBuffer bias, Matrix y) {
  const SkinnyArgs args{
      n, k, x.data.as<BFloat16>(), x.stride, weight.as<BFloat16>(), bias.as<BFloat16>(), rows, y.stride};
  if (y.data.dtype == DType::kF32) {
    Launch(stream, args, y.data.as<float>());
  } else {
    Launch(stream, args, y.data.as<BFloat16>());
  }
}

}  // namespace tanren::kernels::cuda
