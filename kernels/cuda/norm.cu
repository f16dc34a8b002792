// Layer and root-mean-square normalisation, forward: one pass over memory.
//
// A group of threads reads a row (and what is added to it) into registers, takes the mean, then the squared
// distances from it, and writes the result. The sum of the residual stream is rounded to its dtype before the
// statistics are taken, so that a backward pass that reads it sees the row that was normalised. Groups of a
// short row take several rows at once, so that enough reads are in flight.
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/norm_rows.cuh"

namespace tanren::kernels {
namespace cuda {
namespace {

template <class T>
struct ForwardTask {
  NormRows rows;
  bool centered;
  float epsilon;
  const T* x;
  const T* delta;  // null: nothing is added
  T* sum;
  const T* weight;
  const T* bias;  // null: zero
  T* y;
  float* mean;  // either may be null
  float* rstd;
};

template <int kGroupThreads, int kGroupPacks, int kGroupRows>
struct ForwardShape {
  static constexpr int kGroup = kGroupThreads;  // threads of a row
  static constexpr int kPacks = kGroupPacks;    // packs of a row that a thread holds
  static constexpr int kRows = kGroupRows;      // rows at once
  static constexpr int kThreads = kGroup > kWarp ? kGroup : 4 * kWarp;
  static constexpr int kGroups = kThreads / kGroup;
  // At least so many threads on a multiprocessor, which bounds the registers; what spills gets more of them.
  static constexpr int kResident = kRows > 1 ? 640 : kThreads <= 256 ? 768 : kPacks <= 2 ? 1024 : 512;
  static constexpr int kBlocks = kResident / kThreads;
};
// Elements of a row that a thread holds, unless the row is short: 512 threads hold 8192.
constexpr int kThreadElements = 16;

template <class T, class Shape, bool kWhole>
__global__ __launch_bounds__(Shape::kThreads, Shape::kBlocks) void ForwardKernel(const ForwardTask<T> task) {
  constexpr int kCount = kPackOf<T>, kGroup = Shape::kGroup, kPacks = Shape::kPacks, kRows = Shape::kRows;
  AwaitEarlierKernels();
  __shared__ SumExchange<Shape::kThreads, kRows> exchange[2];
  const int width = static_cast<int>(task.rows.width);
  const int64_t first_row =
      (int64_t{blockIdx.x} * Shape::kGroups + static_cast<int>(threadIdx.x) / kGroup) * kRows;
  // Threads beyond the last row stay for the sums, with nothing to read or write.
  int64_t offsets[kRows];
  RowWalk walk(task.rows, first_row);
#pragma unroll
  for (int r = 0; r < kRows; ++r, walk.Next(task.rows)) offsets[r] = walk.offset();
  const auto left_of = [&](int r, int p) {
    return first_row + r < task.rows.rows ? width - ColumnOf<kGroup, kCount>(p) : 0;
  };

  RowPack<T> x[kRows][kPacks], delta[kRows][kPacks];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int64_t at = offsets[r] + ColumnOf<kGroup, kCount>(p);
      x[r][p] = LoadUpTo<kWhole>(task.x + at, left_of(r, p));
      if (task.delta != nullptr) delta[r][p] = LoadUpTo<kWhole>(task.delta + at, left_of(r, p));
    }
  }
  if (task.delta != nullptr) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        Floats<kCount> sum = x[r][p].ToFloats();
        const Floats<kCount> added = delta[r][p].ToFloats();
#pragma unroll
        for (int e = 0; e < kCount; ++e) sum.at[e] += added.at[e];
        x[r][p] = RowPack<T>::FromFloats(sum);
        StoreUpTo<kWhole>(task.sum + offsets[r] + ColumnOf<kGroup, kCount>(p), x[r][p], left_of(r, p));
      }
    }
  }

  float mean[kRows] = {};
  if (task.centered) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const Floats<kCount> values = x[r][p].ToFloats();
#pragma unroll
        for (const float value : values.at) mean[r] += value;
      }
    }
    GroupSum<kGroup, Shape::kThreads>(mean, exchange[0]);
#pragma unroll
    for (float& value : mean) value /= static_cast<float>(width);
  }
  float rstd[kRows] = {};  // first the sum of squares
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int left = width - ColumnOf<kGroup, kCount>(p);
      const Floats<kCount> values = x[r][p].ToFloats();
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        const float distance = IsInside<kWhole>(e, left) ? values.at[e] - mean[r] : 0.0f;
        rstd[r] = fmaf(distance, distance, rstd[r]);
      }
    }
  }
  RowPack<T> weight[kPacks];  // on its way while the row's threads wait for each other
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int column = ColumnOf<kGroup, kCount>(p);
    weight[p] = LoadUpTo<kWhole>(task.weight + column, width - column);
  }
  GroupSum<kGroup, Shape::kThreads>(rstd, exchange[1]);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    rstd[r] = 1.0f / sqrtf(rstd[r] / static_cast<float>(width) + task.epsilon);
    if (static_cast<int>(threadIdx.x) % kGroup == 0 && first_row + r < task.rows.rows) {
      if (task.mean != nullptr) task.mean[first_row + r] = mean[r];
      if (task.rstd != nullptr) task.rstd[first_row + r] = rstd[r];
    }
  }

#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int column = ColumnOf<kGroup, kCount>(p);
    const Floats<kCount> scale = weight[p].ToFloats();
    Floats<kCount> shift{};
    if (task.bias != nullptr) shift = LoadUpTo<kWhole>(task.bias + column, width - column).ToFloats();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      Floats<kCount> values = x[r][p].ToFloats();
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        values.at[e] = fmaf((values.at[e] - mean[r]) * rstd[r], scale.at[e], shift.at[e]);
      }
      StoreUpTo<kWhole>(task.y + offsets[r] + ColumnOf<kGroup, kCount>(p), RowPack<T>::FromFloats(values),
                        left_of(r, p));
    }
  }
}

template <class T, bool kWhole>
__global__ __launch_bounds__(kWideThreads) void WideForwardKernel(const ForwardTask<T> task) {
  constexpr int kCount = kPackOf<T>;
  AwaitEarlierKernels();
  __shared__ SumExchange<kWideThreads, 1> exchange[2];
  const int64_t width = task.rows.width;
  const int64_t row = blockIdx.x;
  const int64_t offset = RowWalk(task.rows, row).offset();
  // A thread reads back what it wrote itself, so `sum` needs no barrier.
  const T* x = (task.delta != nullptr ? task.sum : task.x) + offset;

  float mean[1] = {};
  if (task.delta != nullptr || task.centered) {
    ForEachWidePack<kCount>(width, [&](int64_t column, int64_t left) {
      Floats<kCount> values = LoadUpTo<kWhole>(task.x + offset + column, left).ToFloats();
      if (task.delta != nullptr) {
        const Floats<kCount> added = LoadUpTo<kWhole>(task.delta + offset + column, left).ToFloats();
#pragma unroll
        for (int e = 0; e < kCount; ++e) values.at[e] += added.at[e];
        const auto sum = RowPack<T>::FromFloats(values);
        StoreUpTo<kWhole>(task.sum + offset + column, sum, left);
        values = sum.ToFloats();
      }
#pragma unroll
      for (const float value : values.at) mean[0] += value;
    });
    GroupSum<kWideThreads, kWideThreads>(mean, exchange[0]);
    mean[0] = task.centered ? mean[0] / static_cast<float>(width) : 0.0f;
  }
  float rstd[1] = {};
  ForEachWidePack<kCount>(width, [&](int64_t column, int64_t left) {
    const Floats<kCount> values = LoadUpTo<kWhole>(x + column, left).ToFloats();
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float distance = IsInside<kWhole>(e, left) ? values.at[e] - mean[0] : 0.0f;
      rstd[0] = fmaf(distance, distance, rstd[0]);
    }
  });
  GroupSum<kWideThreads, kWideThreads>(rstd, exchange[1]);
  rstd[0] = 1.0f / sqrtf(rstd[0] / static_cast<float>(width) + task.epsilon);
  if (threadIdx.x == 0 && task.mean != nullptr) task.mean[row] = mean[0];
  if (threadIdx.x == 0 && task.rstd != nullptr) task.rstd[row] = rstd[0];
  ForEachWidePack<kCount>(width, [&](int64_t column, int64_t left) {
    Floats<kCount> values = LoadUpTo<kWhole>(x + column, left).ToFloats();
    const Floats<kCount> scale = LoadUpTo<kWhole>(task.weight + column, left).ToFloats();
    Floats<kCount> shift{};
    if (task.bias != nullptr) shift = LoadUpTo<kWhole>(task.bias + column, left).ToFloats();
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      values.at[e] = fmaf((values.at[e] - mean[0]) * rstd[0], scale.at[e], shift.at[e]);
    }
    StoreUpTo<kWhole>(task.y + offset + column, RowPack<T>::FromFloats(values), left);
  });
}

template <class Shape, class T>
void Launch(const Stream& stream, const ForwardTask<T>& task, bool whole) {
  const int64_t blocks = CeilDiv(task.rows.rows, Shape::kGroups * Shape::kRows);
  const auto kernel = whole ? ForwardKernel<T, Shape, true> : ForwardKernel<T, Shape, false>;
  LaunchChained(stream, kernel, static_cast<unsigned>(blocks), Shape::kThreads, task);
}

template <class T>
void LaunchWide(const Stream& stream, const ForwardTask<T>& task, bool whole) {
  const auto kernel = whole ? WideForwardKernel<T, true> : WideForwardKernel<T, false>;
  LaunchChained(stream, kernel, static_cast<unsigned>(task.rows.rows), kWideThreads, task);
}

template <class T>
void Forward(const Stream& stream, const ForwardTask<T>& task) {
  const bool whole =
      AreWholePacks<T>(task.rows, {task.x, task.delta, task.sum, task.weight, task.bias, task.y});
  const int64_t packs = CeilDiv(task.rows.width, kPackOf<T>);
  if (packs <= 8) return Launch<ForwardShape<8, 1, 4>>(stream, task, whole);
  if (packs <= 16) return Launch<ForwardShape<16, 1, 4>>(stream, task, whole);
  if (packs <= 32) return Launch<ForwardShape<32, 1, 4>>(stream, task, whole);
  constexpr int kPacks = kThreadElements / kPackOf<T>;
  if (packs <= 32 * kPacks) return Launch<ForwardShape<32, kPacks, 1>>(stream, task, whole);
  if (packs <= 64 * kPacks) return Launch<ForwardShape<64, kPacks, 1>>(stream, task, whole);
  if (packs <= 128 * kPacks) return Launch<ForwardShape<128, kPacks, 1>>(stream, task, whole);
  if (packs <= 256 * kPacks) return Launch<ForwardShape<256, kPacks, 1>>(stream, task, whole);
  if (packs <= 512 * kPacks) return Launch<ForwardShape<512, kPacks, 1>>(stream, task, whole);
  LaunchWide(stream, task, whole);
}

}  // namespace
}  // namespace cuda

void cuda::NormForward(const Stream& stream, const NormForwardArgs& args) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(args.x.dtype) && args.weight.dtype == args.x.dtype &&
                      args.y.dtype == args.x.dtype);
  TANREN_CUDA_REQUIRE(!args.delta || (args.sum && args.delta.dtype == args.x.dtype));
  TANREN_CUDA_REQUIRE(!args.sum || args.sum.dtype == args.x.dtype);
  TANREN_CUDA_REQUIRE(!args.bias || args.bias.dtype == args.x.dtype);
  if (args.rows <= 0 || args.width <= 0) return;
  const auto run = [&]<class T>(const T* x) {
    Forward(stream, ForwardTask<T>{.rows = PlainRows(args.rows, args.width),
                                   .centered = args.kind == NormKind::kLayer,
                                   .epsilon = args.epsilon,
                                   .x = x,
                                   .delta = args.delta.as<T>(),
                                   .sum = args.sum.as<T>(),
                                   .weight = args.weight.as<T>(),
                                   .bias = args.bias.as<T>(),
                                   .y = args.y.as<T>(),
                                   .mean = args.mean,
                                   .rstd = args.rstd});
  };
  if (args.x.dtype == DType::kF32) {
    run(args.x.as<float>());
  } else {
    run(args.x.as<BFloat16>());
  }
}

void cuda::HeadNormForward(const Stream& stream, const HeadNormArgs& args, ConstBuffer x, Buffer y,
                           float* rstd) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(x.dtype) && args.weight.dtype == x.dtype && y.dtype == x.dtype);
  const NormRows rows = HeadRows(args);
  if (rows.rows <= 0 || rows.width <= 0) return;
  const auto run = [&]<class T>(const T* from) {
    Forward(stream, ForwardTask<T>{.rows = rows,
                                   .centered = false,
                                   .epsilon = args.epsilon,
                                   .x = from,
                                   .delta = nullptr,
                                   .sum = nullptr,
                                   .weight = args.weight.as<T>(),
                                   .bias = nullptr,
                                   .y = y.as<T>(),
                                   .mean = nullptr,
                                   .rstd = rstd});
  };
  if (x.dtype == DType::kF32) {
    run(x.as<float>());
  } else {
    run(x.as<BFloat16>());
  }
}

}  // namespace tanren::kernels
