// Token statistics and logit gradients of a chunk of logits, each a single pass that is bound by memory.
//
// A row's statistics are made by one thread block, every thread adding its own columns and the block adding
// the threads' sums in order. The gradient is elementwise: a block takes one segment of one row.
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"
#include "kernels/head.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// u = cap tanh(z / cap) / temperature, rounded the same wherever it is needed; du/dz.
template <bool kCapped>
struct Effective {
  explicit Effective(const LogitShard& shard)
      : inverse_cap(kCapped ? 1.0f / shard.soft_cap : 0.0f),
        scale((kCapped ? shard.soft_cap : 1.0f) / shard.temperature),
        slope_scale(1.0f / shard.temperature) {}
  __device__ __forceinline__ float Value(float z) const {
    if constexpr (kCapped) z = tanhf(__fmul_rn(z, inverse_cap));
    return __fmul_rn(z, scale);
  }
  __device__ __forceinline__ float Value(float z, float* slope) const {
    *slope = slope_scale;
    if constexpr (kCapped) {
      z = tanhf(__fmul_rn(z, inverse_cap));
      *slope = __fmul_rn(slope_scale, __fmaf_rn(-z, z, 1.0f));
    }
    return __fmul_rn(z, scale);
  }
  float inverse_cap, scale, slope_scale;
};

// The column of a row's target within the shard, or -1 when it is none of the shard's real columns.
__device__ __forceinline__ int TargetColumn(const LogitShard& shard, int64_t row) {
  if (shard.targets == nullptr || shard.targets[row] < 0) return -1;
  const int64_t column = shard.targets[row] - shard.first_id;
  return column >= 0 && column < shard.valid ? static_cast<int>(column) : -1;
}

// --- Row statistics. ---

// Threads of a block: as many as a row of that width keeps busy.
constexpr int kFewThreads = 128;
constexpr int kManyThreads = 512;
constexpr int64_t kWideRow = 4096;

// Calls take(pack) for the thread's share of z[0, count): packs of kCount, the last few elements one by one.
template <int kThreads, int kCount, class Take>
__device__ __forceinline__ void ForEachOwn(const float* z, int count, const Take& take) {
  constexpr int kAhead = 4;  // packs in flight
  const int packs = count / kCount;
  for (int first = threadIdx.x; first < packs; first += kThreads * kAhead) {
    Pack<float, kCount> values[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int pack = first + a * kThreads;
      if (pack < packs) values[a] = LoadPack<kCount>(z + int64_t{pack} * kCount);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (first + a * kThreads < packs) take(values[a]);
    }
  }
  if constexpr (kCount > 1) {
    const int rest = packs * kCount + static_cast<int>(threadIdx.x);
    if (rest < count) take(Pack<float, 1>{{z[rest]}});
  }
}

template <class Eff, int kThreads, int kCount>
__global__ __launch_bounds__(kThreads) void RowMaxKernel(LogitShard shard, Eff effective, const float* logits,
                                                         float* max) {
  const int64_t row = blockIdx.x;
  float largest = kNone;
  ForEachOwn<kThreads, kCount>(logits + row * shard.vocab, static_cast<int>(shard.valid), [&](const auto& z) {
    for (const float value : z.at) largest = fmaxf(largest, value);
  });
  largest = BlockMax<kThreads>(largest);
  // u grows with z, so the largest u is that of the largest z.
  if (threadIdx.x == 0) max[row] = shard.valid == 0 ? kNone : effective.Value(largest);
}

template <class Eff, int kThreads, int kCount>
__global__ __launch_bounds__(kThreads) void RowSumsKernel(LogitShard shard, Eff effective,
                                                          const float* logits, const float* max,
                                                          float* sums) {
  const int64_t row = blockIdx.x;
  const float* z = logits + row * shard.vocab;
  const float shift = max[row];
  // sum e and sum e (u - max), whose terms are small: max is put back at the end. Packs are summed on their
  // own, or rounding would grow with the vocabulary.
  float total = 0, total_weighted = 0;
  ForEachOwn<kThreads, kCount>(z, static_cast<int>(shard.valid), [&](const auto& pack) {
    float sum = 0, weighted = 0;
    for (const float value : pack.at) {
      const float below = __fsub_rn(effective.Value(value), shift);
      const float e = expf(below);
      sum = __fadd_rn(sum, e);
      // A column of weight zero counts for nothing, even at u = -inf.
      weighted = e == 0 ? weighted : __fmaf_rn(e, below, weighted);
    }
    total = __fadd_rn(total, sum);
    total_weighted = __fadd_rn(total_weighted, weighted);
  });
  total = BlockSum<kThreads>(total);
  total_weighted = BlockSum<kThreads>(total_weighted);
  if (threadIdx.x != 0) return;
  const int target = TargetColumn(shard, row);
  sums[row] = total;
  sums[shard.rows + row] = target < 0 ? 0.0f : effective.Value(z[target]);
  sums[2 * shard.rows + row] =
      total == 0 ? 0.0f : static_cast<float>(total_weighted + static_cast<double>(shift) * total);
}

// Both at once, for a shard that holds the whole vocabulary: a thread's sums stand under its own largest u so
// far and move with it; at the end they move to the row's.
template <class Eff, int kThreads, int kCount>
__global__ __launch_bounds__(kThreads) void RowMaxAndSumsKernel(LogitShard shard, Eff effective,
                                                                const float* logits, float* max,
                                                                float* sums) {
  const int64_t row = blockIdx.x;
  const float* z = logits + row * shard.vocab;
  float shift = kNone, total = 0, total_weighted = 0;
  // From sums under `shift` to sums under `to`, which is not below it.
  const auto move = [&](float to) {
    if (total != 0) {
      const float factor = expf(__fsub_rn(shift, to));
      total_weighted = __fmul_rn(factor, __fmaf_rn(__fsub_rn(shift, to), total, total_weighted));
      total = __fmul_rn(factor, total);
    }
    shift = to;
  };
  ForEachOwn<kThreads, kCount>(z, static_cast<int>(shard.valid), [&](const auto& pack) {
    float u[sizeof(pack.at) / sizeof(float)];
    constexpr int kElements = sizeof(u) / sizeof(float);
    float largest = kNone;
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      u[e] = effective.Value(pack.at[e]);
      largest = fmaxf(largest, u[e]);
    }
    if (largest > shift) move(largest);
    float sum = 0, weighted = 0;
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      // -inf minus -inf: a column of weight zero counts for nothing.
      const float below = u[e] == kNone ? kNone : __fsub_rn(u[e], shift);
      const float weight = expf(below);
      sum = __fadd_rn(sum, weight);
      weighted = weight == 0 ? weighted : __fmaf_rn(weight, below, weighted);
    }
    total = __fadd_rn(total, sum);
    total_weighted = __fadd_rn(total_weighted, weighted);
  });
  const float largest = BlockMax<kThreads>(shift);
  move(largest);
  total = BlockSum<kThreads>(total);
  total_weighted = BlockSum<kThreads>(total_weighted);
  if (threadIdx.x != 0) return;
  const int target = TargetColumn(shard, row);
  max[row] = largest;
  sums[row] = total;
  sums[shard.rows + row] = target < 0 ? 0.0f : effective.Value(z[target]);
  sums[2 * shard.rows + row] =
      total == 0 ? 0.0f : static_cast<float>(total_weighted + static_cast<double>(largest) * total);
}

// Calls launch(threads, count), constants in the type, with the block size and pack of the shard's rows.
template <class Launch>
void LaunchRows(const LogitShard& shard, const float* logits, const Launch& launch) {
  constexpr int n = kPackOf<float>;
  const auto with_threads = [&](auto threads) {
    if (IsPacked<n>(logits, shard.vocab)) {
      launch(threads, std::integral_constant<int, n>());
    } else {
      launch(threads, std::integral_constant<int, 1>());
    }
  };
  if (shard.valid > kWideRow) {
    with_threads(std::integral_constant<int, kManyThreads>());
  } else {
    with_threads(std::integral_constant<int, kFewThreads>());
  }
}

template <class Eff>
void LaunchRowMax(const Stream& stream, const LogitShard& shard, const float* logits, float* max) {
  LaunchRows(shard, logits, [&](auto threads, auto count) {
    LaunchInTurn(stream, RowMaxKernel<Eff, threads(), count()>, static_cast<unsigned>(shard.rows), threads(),
                 shard, Eff(shard), logits, max);
  });
}

template <class Eff>
void LaunchRowSums(const Stream& stream, const LogitShard& shard, const float* logits, const float* max,
                   float* sums) {
  LaunchRows(shard, logits, [&](auto threads, auto count) {
    LaunchInTurn(stream, RowSumsKernel<Eff, threads(), count()>, static_cast<unsigned>(shard.rows), threads(),
                 shard, Eff(shard), logits, max, sums);
  });
}

template <class Eff>
void LaunchRowMaxAndSums(const Stream& stream, const LogitShard& shard, const float* logits, float* max,
                         float* sums) {
  LaunchRows(shard, logits, [&](auto threads, auto count) {
    LaunchInTurn(stream, RowMaxAndSumsKernel<Eff, threads(), count()>, static_cast<unsigned>(shard.rows),
                 threads(), shard, Eff(shard), logits, max, sums);
  });
}

constexpr int kStatisticsThreads = 128;

__global__ __launch_bounds__(kStatisticsThreads) void TokenStatisticsKernel(int64_t rows, const float* max,
                                                                            const float* sums, float* logp,
                                                                            float* lse, float* entropy) {
  const int64_t row = int64_t{blockIdx.x} * kStatisticsThreads + threadIdx.x;
  if (row >= rows) return;
  // The differences cancel most of their operands: in double, the inputs' rounding is all that is lost.
  const double sum = sums[row], log_sum = max[row] + log(sum);
  lse[row] = static_cast<float>(log_sum);
  logp[row] = static_cast<float>(sums[rows + row] - log_sum);
  entropy[row] = static_cast<float>(log_sum - sums[2 * rows + row] / sum);
}

// --- The gradient. ---

constexpr int kGradientThreads = 256;
constexpr int kGradientPacks = 4;  // a thread reads all its packs before it writes the first
template <int kCount>
constexpr int kGradientSegment = kGradientThreads* kGradientPacks* kCount;

// Seeds by statistic; any may be null.
struct GradientSeeds {
  const float* lse;
  const float* entropy;
  const float* dlogp;
  const float* dlse;
  const float* dentropy;
};

// `logits` and `dlogits` may be the same memory.
template <class Eff, class D, int kCount>
__global__ __launch_bounds__(kGradientThreads) void LogitGradientKernel(LogitShard shard, Eff effective,
                                                                        int segments, const float* logits,
                                                                        GradientSeeds seeds, D* dlogits) {
  const int64_t row = blockIdx.x / static_cast<unsigned>(segments);
  const int begin =
      static_cast<int>(blockIdx.x % static_cast<unsigned>(segments)) * kGradientSegment<kCount> +
      static_cast<int>(threadIdx.x) * kCount;
  const int width = static_cast<int>(shard.vocab), valid = static_cast<int>(shard.valid);
  logits += row * shard.vocab;
  dlogits += row * shard.vocab;

  Pack<float, kCount> values[kGradientPacks];
#pragma unroll
  for (int p = 0; p < kGradientPacks; ++p) {
    const int column = begin + p * kGradientThreads * kCount;
    if (column < width) values[p] = LoadPack<kCount>(logits + column);
  }
  // A row without a target has no logp, whatever its seed says.
  const bool has_target = shard.targets != nullptr && shard.targets[row] >= 0;
  const int target = TargetColumn(shard, row);
  const float dlogp = has_target && seeds.dlogp != nullptr ? seeds.dlogp[row] : 0.0f;
  const float dlse = seeds.dlse != nullptr ? seeds.dlse[row] : 0.0f;
  const float dentropy = seeds.dentropy != nullptr ? seeds.dentropy[row] : 0.0f;
  const float entropy = seeds.dentropy != nullptr ? seeds.entropy[row] : 0.0f;
  const float lse = seeds.lse[row];
  // du = dlogp 1[target] + p (dlse - dlogp - dentropy (log p + H))
  const float constant = __fsub_rn(dlse, dlogp);
#pragma unroll
  for (int p = 0; p < kGradientPacks; ++p) {
    const int column = begin + p * kGradientThreads * kCount;
    if (column >= width) continue;
    float du[kCount], slope[kCount];
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float log_p = __fsub_rn(effective.Value(values[p].at[e], &slope[e]), lse);
      const float probability = expf(log_p);
      const float factor = __fmaf_rn(-dentropy, __fadd_rn(log_p, entropy), constant);
      // A column of weight zero gets nothing, even at u = -inf.
      du[e] = probability == 0 ? 0.0f : __fmul_rn(probability, factor);
    }
    if (target >= column && target < column + kCount) {
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        if (column + e == target) du[e] = __fadd_rn(du[e], dlogp);
      }
    }
    Pack<D, kCount> result;
#pragma unroll
    for (int e = 0; e < kCount; ++e) result.at[e] = FromFloat<D>(__fmul_rn(du[e], slope[e]));
    if (column + kCount > valid) {  // padding
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        if (column + e >= valid) result.at[e] = FromFloat<D>(0);
      }
    }
    StorePack(dlogits + column, result);
  }
}

template <class Eff, class D>
void LaunchGradient(const Stream& stream, const LogitShard& shard, const float* logits,
                    const GradientSeeds& seeds, D* dlogits) {
  constexpr int n = kPackOf<float, D>;
  const bool packed = IsPacked<n>(logits, shard.vocab) && IsPacked<n>(dlogits, shard.vocab);
  const int64_t segments = CeilDiv(shard.vocab, packed ? kGradientSegment<n> : kGradientSegment<1>);
  const auto kernel = packed ? LogitGradientKernel<Eff, D, n> : LogitGradientKernel<Eff, D, 1>;
  LaunchInTurn(stream, kernel, static_cast<unsigned>(shard.rows * segments), kGradientThreads, shard,
               Eff(shard), static_cast<int>(segments), logits, seeds, dlogits);
}

// Columns are counted in 32 bits.
void CheckShard(const LogitShard& shard) {
  constexpr int64_t kWidest = int64_t{1} << 30;
  TANREN_CUDA_REQUIRE(shard.vocab <= kWidest && shard.valid <= shard.vocab);
}

}  // namespace
}  // namespace cuda

void cuda::LogitRowMax(const Stream& stream, const LogitShard& shard, const float* logits, float* max) {
  CheckShard(shard);
  if (shard.rows <= 0) return;
  if (shard.soft_cap > 0) {
    LaunchRowMax<Effective<true>>(stream, shard, logits, max);
  } else {
    LaunchRowMax<Effective<false>>(stream, shard, logits, max);
  }
}

void cuda::LogitRowSums(const Stream& stream, const LogitShard& shard, const float* logits, const float* max,
                        float* sums) {
  CheckShard(shard);
  if (shard.rows <= 0) return;
  if (shard.soft_cap > 0) {
    LaunchRowSums<Effective<true>>(stream, shard, logits, max, sums);
  } else {
    LaunchRowSums<Effective<false>>(stream, shard, logits, max, sums);
  }
}

void cuda::LogitRowMaxAndSums(const Stream& stream, const LogitShard& shard, const float* logits, float* max,
                              float* sums) {
  CheckShard(shard);
  if (shard.rows <= 0) return;
  if (shard.soft_cap > 0) {
    LaunchRowMaxAndSums<Effective<true>>(stream, shard, logits, max, sums);
  } else {
    LaunchRowMaxAndSums<Effective<false>>(stream, shard, logits, max, sums);
  }
}

void cuda::TokenStatistics(const Stream& stream, int64_t rows, const float* max, const float* sums,
                           float* logp, float* lse, float* entropy) {
  if (rows <= 0) return;
  LaunchInTurn(stream, TokenStatisticsKernel, static_cast<unsigned>(CeilDiv(rows, kStatisticsThreads)),
               kStatisticsThreads, rows, max, sums, logp, lse, entropy);
}

void cuda::LogitGradient(const Stream& stream, const LogitShard& shard, const float* logits, const float* lse,
                         const float* entropy, const float* dlogp, const float* dlse, const float* dentropy,
                         Buffer dlogits) {
  TANREN_CUDA_REQUIRE(IsF32OrBF16(dlogits.dtype));
  CheckShard(shard);
  if (shard.rows <= 0 || shard.vocab <= 0) return;
  const GradientSeeds seeds{lse, entropy, dlogp, dlse, dentropy};
  const auto launch = [&](auto* gradient) {
    if (shard.soft_cap > 0) {
      LaunchGradient<Effective<true>>(stream, shard, logits, seeds, gradient);
    } else {
      LaunchGradient<Effective<false>>(stream, shard, logits, seeds, gradient);
    }
  };
  if (dlogits.dtype == DType::kBF16) {
    launch(dlogits.as<BFloat16>());
  } else {
    launch(dlogits.as<float>());
  }
}

}  // namespace tanren::kernels
