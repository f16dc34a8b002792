// Layer and root-mean-square normalisation, backward: one pass over memory for all gradients.
//
// With n = (x - mean) rstd and g = dy * weight: dx = rstd (g - mean(g) - n mean(g n)), mean(g) for layer
// normalisation only; dweight = sum over the rows of dy n, dbias of dy.
//
// The rows are cut into blocks, one for each block of threads. The groups of a block (see norm_rows.cuh) take
// its rows in turn, read each into registers, write dx and keep the sums of their columns in registers. At
// the end the groups' sums are added in order and go to scratch; a second kernel adds the blocks' sums in
// order. How the rows are cut depends on the number of rows, the width and the dtype, not on the machine, and
// so do all bits.
#include <algorithm>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm_rows.cuh"

namespace tanren::kernels {
namespace cuda {
namespace {

template <class T>
struct BackwardTask {
  NormRows rows;
  bool centered;
  const T* dy;
  const T* x;
  const T* weight;
  const float* mean;  // read when centered
  const float* rstd;
  const T* dresidual;  // null: zero
  T* dx;               // may be dresidual or dy
  int64_t block_rows;
  float* partial;  // [1 or 2 (with dbias), blocks, width]
};

// Blocks of threads that all run at once: two of 256 threads on each of 132 multiprocessors. Elsewhere the
// number is as good as another.
constexpr int64_t kMaxRowBlocks = 264;

template <int kGroupThreads, int kGroupPacks, int kGroupRows>
struct BackwardShape {
  static constexpr int kGroup = kGroupThreads;  // threads of a row
  static constexpr int kPacks = kGroupPacks;    // packs of a row that a thread holds
  static constexpr int kRows = kGroupRows;      // rows of a group at once
  static constexpr int kThreads = kGroup > 256 ? kGroup : 256;
  static constexpr int kGroups = kThreads / kGroup;
  static constexpr int kBlockRows = kGroups * kRows;  // rows of a block at once
  static constexpr int kBlocksPerMultiprocessor = 512 / kThreads;
};

// Adds the groups' column sums in order and writes those of the block.
template <class Shape, int kCount>
__device__ __forceinline__ void WriteBlockSums(const Floats<kCount> (&sums)[Shape::kPacks], int width,
                                               float* to) {
  constexpr int kColumns = Shape::kGroup * Shape::kPacks * kCount;  // at least the width
  constexpr int kSumPack = kPackOf<float>;
  alignas(16) __shared__ float of_groups[Shape::kGroups][kColumns];
  float* mine = of_groups[static_cast<int>(threadIdx.x) / Shape::kGroup];
  __syncthreads();  // the memory's readers of a call before
#pragma unroll
  for (int p = 0; p < Shape::kPacks; ++p) {
#pragma unroll
    for (int e = 0; e < kCount; e += kSumPack) {
      *reinterpret_cast<float4*>(mine + ColumnOf<Shape::kGroup, kCount>(p) + e) =
          make_float4(sums[p].at[e], sums[p].at[e + 1], sums[p].at[e + 2], sums[p].at[e + 3]);
    }
  }
  __syncthreads();
  for (int column = threadIdx.x; column < width; column += Shape::kThreads) {
    float total = of_groups[0][column];
#pragma unroll 4
    for (int group = 1; group < Shape::kGroups; ++group) total += of_groups[group][column];
    to[column] = total;
  }
}

template <class T, class Shape, bool kWhole, bool kBias>
__global__ __launch_bounds__(Shape::kThreads, Shape::kBlocksPerMultiprocessor) void BackwardKernel(
    const BackwardTask<T> task) {
  constexpr int kCount = kPackOf<T>, kGroup = Shape::kGroup, kPacks = Shape::kPacks, kRows = Shape::kRows;
  // The sums of g n, then of g, of each row.
  __shared__ SumExchange<Shape::kThreads, 2 * kRows> exchange[2];
  const int width = static_cast<int>(task.rows.width);
  const float inverse_width = 1.0f / static_cast<float>(width);
  const int64_t begin = blockIdx.x * task.block_rows;
  const int64_t end = min(task.rows.rows, begin + task.block_rows);

  RowPack<T> weight[kPacks];
  Floats<kCount> dweight[kPacks] = {}, dbias[kPacks] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int column = ColumnOf<kGroup, kCount>(p);
    weight[p] = LoadUpTo<kWhole>(task.weight + column, width - column);
  }
  int turn = 0;
  // Every thread makes every turn: groups without a row left bring zeros to the sums.
  for (int64_t first = begin; first < end; first += Shape::kBlockRows, turn ^= 1) {
    const int64_t first_row = first + static_cast<int>(threadIdx.x) / kGroup * kRows;
    const auto left_of = [&](int r, int p) {
      return first_row + r < end ? width - ColumnOf<kGroup, kCount>(p) : 0;
    };
    RowPack<T> x[kRows][kPacks], dy[kRows][kPacks], dresidual[kRows][kPacks];
    int64_t offsets[kRows];
    float mean[kRows], rstd[kRows];
    RowWalk walk(task.rows, first_row);
#pragma unroll
    for (int r = 0; r < kRows; ++r, walk.Next(task.rows)) {
      offsets[r] = walk.offset();
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const int64_t at = offsets[r] + ColumnOf<kGroup, kCount>(p);
        dy[r][p] = LoadUpTo<kWhole>(task.dy + at, left_of(r, p));
        x[r][p] = LoadUpTo<kWhole>(task.x + at, left_of(r, p));
        dresidual[r][p] = {};
        if (task.dresidual != nullptr) {
          dresidual[r][p] = LoadUpTo<kWhole>(task.dresidual + at, left_of(r, p));
        }
      }
      const bool present = first_row + r < end;
      mean[r] = present && task.centered ? task.mean[first_row + r] : 0.0f;
      rstd[r] = present ? task.rstd[first_row + r] : 0.0f;
    }

    float sums[2 * kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const Floats<kCount> grad = dy[r][p].ToFloats(), values = x[r][p].ToFloats(),
                             scale = weight[p].ToFloats();
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          const float normal = (values.at[e] - mean[r]) * rstd[r];
          const float g = __fmul_rn(grad.at[e], scale.at[e]);  // 0 beyond the row, as all terms are
          sums[2 * r] = fmaf(g, normal, sums[2 * r]);
          sums[2 * r + 1] += g;
          dweight[p].at[e] = fmaf(grad.at[e], normal, dweight[p].at[e]);
          if constexpr (kBias) dbias[p].at[e] += grad.at[e];
        }
      }
    }
    GroupSum<kGroup, Shape::kThreads>(sums, exchange[turn]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float mean_gn = sums[2 * r] * inverse_width;
      const float mean_g = task.centered ? __fmul_rn(sums[2 * r + 1], inverse_width) : 0.0f;
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const Floats<kCount> grad = dy[r][p].ToFloats(), values = x[r][p].ToFloats(),
                             scale = weight[p].ToFloats();
        Floats<kCount> result = dresidual[r][p].ToFloats();
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          const float normal = (values.at[e] - mean[r]) * rstd[r];
          const float through = fmaf(-normal, mean_gn, __fmul_rn(grad.at[e], scale.at[e]) - mean_g);
          result.at[e] = fmaf(through, rstd[r], result.at[e]);
        }
        StoreUpTo<kWhole>(task.dx + offsets[r] + ColumnOf<kGroup, kCount>(p), RowPack<T>::FromFloats(result),
                          left_of(r, p));
      }
    }
  }

  float* to = task.partial + blockIdx.x * task.rows.width;
  WriteBlockSums<Shape, kCount>(dweight, width, to);
  if constexpr (kBias) WriteBlockSums<Shape, kCount>(dbias, width, to + gridDim.x * task.rows.width);
}

// --- Wide rows: the gradients of the columns first, because dx may take the place of dy. ---

// A thread sums a column over the rows of its block.
constexpr int kWideColumnThreads = 256;
constexpr int64_t kWideBlockRows = 64;

template <class T, bool kBias>
__global__ __launch_bounds__(kWideColumnThreads) void WideColumnsKernel(const BackwardTask<T> task,
                                                                        int64_t tiles) {
  const int64_t block = blockIdx.x / tiles, blocks = gridDim.x / tiles;
  const int64_t column = blockIdx.x % tiles * kWideColumnThreads + threadIdx.x;
  const int64_t begin = block * task.block_rows;
  const int64_t end = min(task.rows.rows, begin + task.block_rows);
  if (column >= task.rows.width) return;
  float dweight = 0, dbias = 0;
  RowWalk walk(task.rows, begin);
  for (int64_t row = begin; row < end; ++row, walk.Next(task.rows)) {
    const float grad = ToFloat(task.dy[walk.offset() + column]);
    const float value = ToFloat(task.x[walk.offset() + column]);
    const float mean = task.centered ? task.mean[row] : 0.0f;
    dweight = fmaf(grad, (value - mean) * task.rstd[row], dweight);
    dbias += grad;
  }
  task.partial[block * task.rows.width + column] = dweight;
  if constexpr (kBias) task.partial[(blocks + block) * task.rows.width + column] = dbias;
}

template <class T, bool kWhole>
__global__ __launch_bounds__(kWideThreads) void WideRowsKernel(const BackwardTask<T> task) {
  constexpr int kCount = kPackOf<T>;
  __shared__ SumExchange<kWideThreads, 2> exchange;
  const int64_t width = task.rows.width;
  const float inverse_width = 1.0f / static_cast<float>(width);
  const int64_t row = blockIdx.x;
  const int64_t offset = RowWalk(task.rows, row).offset();
  const float mean = task.centered ? task.mean[row] : 0.0f;
  const float rstd = task.rstd[row];
  float sums[2] = {};
  ForEachWidePack<kCount>(width, [&](int64_t column, int64_t left) {
    const Floats<kCount> grad = LoadUpTo<kWhole>(task.dy + offset + column, left).ToFloats();
    const Floats<kCount> values = LoadUpTo<kWhole>(task.x + offset + column, left).ToFloats();
    const Floats<kCount> scale = LoadUpTo<kWhole>(task.weight + column, left).ToFloats();
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float g = __fmul_rn(grad.at[e], scale.at[e]);
      sums[0] = fmaf(g, (values.at[e] - mean) * rstd, sums[0]);
      sums[1] += g;
    }
  });
  GroupSum<kWideThreads, kWideThreads>(sums, exchange);
  const float mean_gn = sums[0] * inverse_width;
  const float mean_g = task.centered ? __fmul_rn(sums[1], inverse_width) : 0.0f;
  ForEachWidePack<kCount>(width, [&](int64_t column, int64_t left) {
    const Floats<kCount> grad = LoadUpTo<kWhole>(task.dy + offset + column, left).ToFloats();
    const Floats<kCount> values = LoadUpTo<kWhole>(task.x + offset + column, left).ToFloats();
    const Floats<kCount> scale = LoadUpTo<kWhole>(task.weight + column, left).ToFloats();
    Floats<kCount> result{};
    if (task.dresidual != nullptr) {
      result = LoadUpTo<kWhole>(task.dresidual + offset + column, left).ToFloats();
    }
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float normal = (values.at[e] - mean) * rstd;
      const float through = fmaf(-normal, mean_gn, __fmul_rn(grad.at[e], scale.at[e]) - mean_g);
      result.at[e] = fmaf(through, rstd, result.at[e]);
    }
    StoreUpTo<kWhole>(task.dx + offset + column, RowPack<T>::FromFloats(result), left);
  });
}

// --- The blocks' sums, added to the gradients. ---

// A warp takes every 32nd block, all its reads at once; then the warps' sums are added in order.
constexpr int kTotalThreads = 1024;
constexpr int kTotalWarps = kTotalThreads / kWarp;

__global__ __launch_bounds__(kTotalThreads) void TotalsKernel(int64_t blocks, int64_t width,
                                                              const float* partial, float* dweight,
                                                              float* dbias) {
  constexpr int kAhead = 9;  // 264 blocks / 32 warps
  __shared__ float of_warps[kTotalWarps][kWarp];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int64_t column = int64_t{blockIdx.x} * kWarp + lane;
  partial += blockIdx.y * blocks * width;
  float sum = 0;
  if (column < width) {
    for (int64_t first = warp; first < blocks; first += kTotalWarps * kAhead) {
      float values[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int64_t block = first + a * kTotalWarps;
        values[a] = block < blocks ? partial[block * width + column] : 0.0f;
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) sum += values[a];
    }
  }
  of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < width) {
    float total = of_warps[0][lane];
#pragma unroll
    for (int w = 1; w < kTotalWarps; ++w) total += of_warps[w][lane];
    float* to = blockIdx.y == 0 ? dweight : dbias;
    to[column] += total;
  }
}

// --- Launchers. ---

struct ColumnGradients {
  float* dweight;
  float* dbias;  // may be null
};

void AddTotals(const Stream& stream, int64_t blocks, int64_t width, const float* partial,
               const ColumnGradients& gradients) {
  const dim3 grid(static_cast<unsigned>(CeilDiv(width, kWarp)), gradients.dbias == nullptr ? 1 : 2);
  LaunchInTurn(stream, TotalsKernel, grid, kTotalThreads, blocks, width, partial, gradients.dweight,
               gradients.dbias);
}

float* PartialSums(const Stream& stream, int64_t blocks, int64_t width, const ColumnGradients& gradients) {
  return ScratchOf<float>(stream, (gradients.dbias == nullptr ? 1 : 2) * blocks * width);
}

template <class Shape, bool kBias, class T>
void LaunchRows(const Stream& stream, int64_t blocks, bool whole, const BackwardTask<T>& task) {
  const auto kernel = whole ? BackwardKernel<T, Shape, true, kBias> : BackwardKernel<T, Shape, false, kBias>;
  LaunchInTurn(stream, kernel, static_cast<unsigned>(blocks), Shape::kThreads, task);
}

template <class Shape, class T>
void Launch(const Stream& stream, BackwardTask<T> task, bool whole, const ColumnGradients& gradients) {
  const bool with_bias = gradients.dbias != nullptr;
  const int64_t rows = task.rows.rows, width = task.rows.width;
  task.block_rows = CeilDiv(CeilDiv(rows, kMaxRowBlocks), Shape::kBlockRows) * Shape::kBlockRows;
  const int64_t blocks = CeilDiv(rows, task.block_rows);
  task.partial = PartialSums(stream, blocks, width, gradients);
  if (with_bias) {
    LaunchRows<Shape, true>(stream, blocks, whole, task);
  } else {
    LaunchRows<Shape, false>(stream, blocks, whole, task);
  }
  AddTotals(stream, blocks, width, task.partial, gradients);
}

template <class T>
void LaunchWide(const Stream& stream, BackwardTask<T> task, bool whole, const ColumnGradients& gradients) {
  const bool with_bias = gradients.dbias != nullptr;
  const int64_t rows = task.rows.rows, width = task.rows.width;
  task.block_rows = std::max(kWideBlockRows, CeilDiv(rows, kMaxRowBlocks));
  const int64_t blocks = CeilDiv(rows, task.block_rows);
  const int64_t tiles = CeilDiv(width, kWideColumnThreads);
  task.partial = PartialSums(stream, blocks, width, gradients);
  const auto columns = with_bias ? WideColumnsKernel<T, true> : WideColumnsKernel<T, false>;
  LaunchInTurn(stream, columns, static_cast<unsigned>(blocks * tiles), kWideColumnThreads, task, tiles);
  AddTotals(stream, blocks, width, task.partial, gradients);
  const auto wide = whole ? WideRowsKernel<T, true> : WideRowsKernel<T, false>;
  LaunchInTurn(stream, wide, static_cast<unsigned>(rows), kWideThreads, task);
}

template <class T>
void Backward(const Stream& stream, const BackwardTask<T>& task, const ColumnGradients& gradients) {
  const bool whole = AreWholePacks<T>(task.rows, {task.dy, task.x, task.weight, task.dresidual, task.dx});
  const int64_t packs = CeilDiv(task.rows.width, kPackOf<T>);
  if (packs <= 8) return Launch<BackwardShape<8, 1, 2>>(stream, task, whole, gradients);
  if (packs <= 16) return Launch<BackwardShape<16, 1, 2>>(stream, task, whole, gradients);
  if (packs <= 32) return Launch<BackwardShape<32, 1, 2>>(stream, task, whole, gradients);
  if (packs <= 64) return Launch<BackwardShape<32, 2, 1>>(stream, task, whole, gradients);
  if (packs <= 128) return Launch<BackwardShape<64, 2, 1>>(stream, task, whole, gradients);
  if (packs <= 256) return Launch<BackwardShape<128, 2, 1>>(stream, task, whole, gradients);
  if (packs <= 512) return Launch<BackwardShape<256, 2, 1>>(stream, task, whole, gradients);
  if (packs <= 1024) return Launch<BackwardShape<512, 2, 1>>(stream, task, whole, gradients);
  LaunchWide(stream, task, whole, gradients);
}

}  // namespace
}  // namespace cuda

void cuda::NormBackward(const Stream& stream, const NormBackwardArgs& args) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(args.x.dtype) && args.dy.dtype == args.x.dtype &&
                      args.weight.dtype == args.x.dtype && args.dx.dtype == args.x.dtype);
  TANREN_CUDA_REQUIRE(!args.dresidual || args.dresidual.dtype == args.x.dtype);
  if (args.rows <= 0 || args.width <= 0) return;
  const auto run = [&]<class T>(const T* x) {
    Backward(stream,
             BackwardTask<T>{.rows = PlainRows(args.rows, args.width),
                             .centered = args.kind == NormKind::kLayer,
                             .dy = args.dy.as<T>(),
                             .x = x,
                             .weight = args.weight.as<T>(),
                             .mean = args.mean,
                             .rstd = args.rstd,
                             .dresidual = args.dresidual.as<T>(),
                             .dx = args.dx.as<T>(),
                             .block_rows = 0,
                             .partial = nullptr},
             {args.dweight, args.dbias});
  };
  if (args.x.dtype == DType::kF32) {
    run(args.x.as<float>());
  } else {
    run(args.x.as<BFloat16>());
  }
}

void cuda::HeadNormBackward(const Stream& stream, const HeadNormArgs& args, ConstBuffer dy, ConstBuffer x,
                            const float* rstd, Buffer dx, float* dweight) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && args.weight.dtype == x.dtype && dy.dtype == x.dtype &&
                      dx.dtype == x.dtype);
  const NormRows rows = HeadRows(args);
  if (rows.rows <= 0 || rows.width <= 0) return;
  const auto run = [&]<class T>(const T* from) {
    Backward(stream,
             BackwardTask<T>{.rows = rows,
                             .centered = false,
                             .dy = dy.as<T>(),
                             .x = from,
                             .weight = args.weight.as<T>(),
                             .mean = nullptr,
                             .rstd = rstd,
                             .dresidual = nullptr,
                             .dx = dx.as<T>(),
                             .block_rows = 0,
                             .partial = nullptr},
             {dweight, nullptr});
  };
  if (x.dtype == DType::kF32) {
    run(x.as<float>());
  } else {
    run(x.as<BFloat16>());
  }
}

}  // namespace tanren::kernels
