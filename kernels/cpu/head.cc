// Token statistics and logit gradients: each a single pass over the logits of a chunk, bound by memory.
#include "kernels/head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/element.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/vector-inl.h"

#ifndef TANREN_KERNELS_CPU_HEAD_CC_
#define TANREN_KERNELS_CPU_HEAD_CC_
namespace tanren::kernels {
namespace {

// The column of a row's target within the shard, or -1 when it is none of the shard's real columns.
inline int64_t TargetColumn(const LogitShard& shard, int64_t row) {
  if (shard.targets == nullptr || shard.targets[row] < 0) return -1;
  const int64_t column = shard.targets[row] - shard.first_id;
  return column >= 0 && column < shard.valid ? column : -1;
}

// Columns whose exponentials are summed on their own: a multiple of every vector.
constexpr int64_t kColumnBlock = 512;

// The scalar head's weight gradient is summed over blocks of this many rows, and the blocks' sums added in
// order.
constexpr int64_t kRowsPerBlock = 64;
constexpr int64_t kBlocksPerGroup = 64;

}  // namespace
}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_HEAD_CC_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

// e^x for a log-probability or a score below the largest. Its error relative to itself grows with |x|, as its
// share of any sum falls.
HWY_INLINE VF32 ExpBelow(F32 d, VF32 x) {
  return Exp2NonPositive(d, hn::Mul(x, hn::Set(d, 1.44269504088896341f)));
}

// u = cap tanh(z / cap) / temperature; du/dz.
template <bool kCapped>
struct Effective {
  explicit Effective(const LogitShard& shard)
      : inverse_cap(kCapped ? 1.0f / shard.soft_cap : 0.0f),
        scale((kCapped ? shard.soft_cap : 1.0f) / shard.temperature),
        slope_scale(1.0f / shard.temperature) {}
  HWY_INLINE VF32 Value(F32 d, VF32 z) const {
    if constexpr (kCapped) z = Tanh(d, hn::Mul(z, hn::Set(d, inverse_cap)));
    return hn::Mul(z, hn::Set(d, scale));
  }
  HWY_INLINE VF32 Value(F32 d, VF32 z, VF32* slope) const {
    *slope = hn::Set(d, slope_scale);
    if constexpr (kCapped) {
      z = Tanh(d, hn::Mul(z, hn::Set(d, inverse_cap)));
      *slope = hn::Mul(*slope, hn::NegMulAdd(z, z, hn::Set(d, 1.0f)));
    }
    return hn::Mul(z, hn::Set(d, scale));
  }
  float inverse_cap, scale, slope_scale;
};

template <bool kCapped>
float RowMaxOf(const LogitShard& shard, const float* z) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const F32 d;
  const int64_t lanes = hn::Lanes(d), count = shard.valid;
  if (count == 0) return kNone;
  VF32 m0 = hn::Set(d, kNone), m1 = m0, m2 = m0, m3 = m0;
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    m0 = hn::Max(m0, hn::LoadU(d, z + i));
    m1 = hn::Max(m1, hn::LoadU(d, z + i + lanes));
    m2 = hn::Max(m2, hn::LoadU(d, z + i + 2 * lanes));
    m3 = hn::Max(m3, hn::LoadU(d, z + i + 3 * lanes));
  }
  for (; i + lanes <= count; i += lanes) m0 = hn::Max(m0, hn::LoadU(d, z + i));
  float max = MaxLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));
  for (; i < count; ++i) max = std::max(max, z[i]);
  // u grows with z, so the largest u is that of the largest z.
  return hn::GetLane(Effective<kCapped>(shard).Value(d, hn::Set(d, max)));
}

void RowMax(const LogitShard& shard, const float* logits, float* max) {
  cpu::ParallelRange(shard.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* z = logits + row * shard.vocab;
      max[row] = shard.soft_cap > 0 ? RowMaxOf<true>(shard, z) : RowMaxOf<false>(shard, z);
    }
  });
}

template <bool kCapped>
void RowSumsOf(const LogitShard& shard, const float* z, float max, int64_t target, float* sum,
               float* at_target, float* weighted) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d), count = shard.valid;
  const Effective<kCapped> effective(shard);
  const VF32 shift = hn::Set(d, max), none = hn::Set(d, -std::numeric_limits<float>::infinity());
  // sum e and sum e (u - max), whose terms are small: max is put back at the end. Blocks of columns are
  // summed on their own, or rounding would grow with the vocabulary.
  VF32 total = hn::Zero(d), total_weighted = total, block = total, block_weighted = total;
  const auto add = [&](VF32 below) HWY_ATTR {
    const VF32 e = ExpBelow(d, below);
    block = hn::Add(block, e);
    // A column of weight zero counts for nothing, even at u = -inf.
    const VF32 product = hn::IfThenZeroElse(hn::Eq(e, hn::Zero(d)), hn::Mul(e, below));
    block_weighted = hn::Add(block_weighted, product);
  };
  for (int64_t begin = 0; begin < count; begin += kColumnBlock) {
    const int64_t end = std::min(count, begin + kColumnBlock);
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) add(hn::Sub(effective.Value(d, hn::LoadU(d, z + i)), shift));
    if (i < end) {
      const VF32 below = hn::Sub(effective.Value(d, LoadPart(d, z + i, end - i)), shift);
      add(hn::IfThenElse(hn::FirstN(d, end - i), below, none));
    }
    total = hn::Add(total, block), total_weighted = hn::Add(total_weighted, block_weighted);
    block = block_weighted = hn::Zero(d);
  }
  *sum = SumLanes(d, total);
  *weighted = *sum == 0 ? 0.0f : static_cast<float>(SumLanes(d, total_weighted) + double{max} * *sum);
  *at_target = target < 0 ? 0.0f : hn::GetLane(effective.Value(d, hn::Set(d, z[target])));
}

void RowSums(const LogitShard& shard, const float* logits, const float* max, float* sums) {
  cpu::ParallelRange(shard.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto sum = shard.soft_cap > 0 ? RowSumsOf<true> : RowSumsOf<false>;
      sum(shard, logits + row * shard.vocab, max[row], TargetColumn(shard, row), sums + row,
          sums + shard.rows + row, sums + 2 * shard.rows + row);
    }
  });
}

template <bool kCapped, class T>
void GradientRow(const LogitShard& shard, const float* z, float lse, float entropy, float dlogp, float dlse,
                 float dentropy, int64_t target, T* dz) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d), count = shard.valid;
  const Effective<kCapped> effective(shard);
  const VF32 shift = hn::Set(d, lse);
  // du = dlogp 1[target] + p (dlse - dlogp - dentropy (log p + H))
  const VF32 constant = hn::Set(d, dlse - dlogp), by_log = hn::Set(d, dentropy), h = hn::Set(d, entropy);
  const auto gradient = [&](VF32 raw, VF32 extra) HWY_ATTR {
    VF32 slope;
    const VF32 logp = hn::Sub(effective.Value(d, raw, &slope), shift);
    const VF32 p = ExpBelow(d, logp);
    const VF32 factor = hn::NegMulAdd(by_log, hn::Add(logp, h), constant);
    const VF32 du = hn::IfThenZeroElse(hn::Eq(p, hn::Zero(d)), hn::Mul(p, factor));
    return hn::Mul(hn::Add(du, extra), slope);
  };
  // The target's logit is read before its place is written over.
  const VF32 at_target = target < 0 ? hn::Zero(d) : gradient(hn::Set(d, z[target]), hn::Set(d, dlogp));
  const VF32 zero = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) StoreF32(d, gradient(hn::LoadU(d, z + i), zero), dz + i);
  if (i < count) StorePart(d, gradient(LoadPart(d, z + i, count - i), zero), dz + i, count - i);
  if (target >= 0) StorePart(d, at_target, dz + target, 1);
  std::fill(dz + count, dz + shard.vocab, T(0.0f));
}

template <class T>
void GradientOf(const LogitShard& shard, const float* logits, const float* lse, const float* entropy,
                const float* dlogp, const float* dlse, const float* dentropy, T* dlogits) {
  cpu::ParallelRange(shard.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const auto gradient = shard.soft_cap > 0 ? GradientRow<true, T> : GradientRow<false, T>;
      // A row without a target has no logp, whatever its seed says.
      const bool has_target = shard.targets != nullptr && shard.targets[row] >= 0;
      gradient(shard, logits + row * shard.vocab, lse[row], dentropy == nullptr ? 0.0f : entropy[row],
               has_target && dlogp != nullptr ? dlogp[row] : 0.0f, dlse == nullptr ? 0.0f : dlse[row],
               dentropy == nullptr ? 0.0f : dentropy[row], TargetColumn(shard, row),
               dlogits + row * shard.vocab);
    }
  });
}

void Gradient(const LogitShard& shard, const float* logits, const float* lse, const float* entropy,
              const float* dlogp, const float* dlse, const float* dentropy, Buffer dlogits) {
  if (dlogits.dtype == DType::kBF16) {
    GradientOf(shard, logits, lse, entropy, dlogp, dlse, dentropy, dlogits.as<BFloat16>());
  } else {
    GradientOf(shard, logits, lse, entropy, dlogp, dlse, dentropy, dlogits.as<float>());
  }
}

template <class T>
void ScalarForwardOf(int64_t rows, int64_t width, const T* x, const T* weight, float bias, float* y) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  cpu::ParallelRange(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      VF32 sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
      for (int64_t i = 0, turn = 0; i < width; i += lanes, turn = (turn + 1) & 3) {
        sums[turn] = hn::MulAdd(LoadUpTo(d, x + row * width + i, width - i),
                                LoadUpTo(d, weight + i, width - i), sums[turn]);
      }
      y[row] = SumLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))) + bias;
    }
  });
}

void ScalarForward(int64_t rows, int64_t width, ConstBuffer x, ConstBuffer weight, float bias, float* y) {
  if (x.dtype == DType::kBF16) {
    ScalarForwardOf(rows, width, x.as<BFloat16>(), weight.as<BFloat16>(), bias, y);
  } else {
    ScalarForwardOf(rows, width, x.as<float>(), weight.as<float>(), bias, y);
  }
}

// One block of rows: dx += dy w, and the block's sum of dy x into dweight.
template <class T, class D>
void ScalarBackwardBlock(int64_t first, int64_t last, int64_t width, const float* dy, const T* x,
                         const T* weight, D* dx, float* dweight) {
  const F32 d;
  std::fill_n(dweight, width, 0.0f);
  for (int64_t row = first; row < last; ++row) {
    const VF32 grad = hn::Set(d, dy[row]);
    const int64_t at = row * width;
    for (int64_t i = 0; i < width; i += hn::Lanes(d)) {
      const int64_t left = width - i;
      StoreUpTo(d, hn::MulAdd(grad, LoadUpTo(d, x + at + i, left), LoadUpTo(d, dweight + i, left)),
                dweight + i, left);
      StoreUpTo(d, hn::MulAdd(grad, LoadUpTo(d, weight + i, left), LoadUpTo(d, dx + at + i, left)),
                dx + at + i, left);
    }
  }
}

template <class T, class D>
void ScalarBackwardOf(int64_t rows, int64_t width, const float* dy, const T* x, const T* weight, D* dx,
                      float* dweight) {
  const int64_t blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  std::vector<float> scratch(std::min(blocks, kBlocksPerGroup) * width);
  for (int64_t first = 0; first < blocks; first += kBlocksPerGroup) {
    const int64_t count = std::min(kBlocksPerGroup, blocks - first);
    cpu::ParallelItems(count, [&](int64_t i) {
      const int64_t begin = (first + i) * kRowsPerBlock;
      ScalarBackwardBlock(begin, std::min(rows, begin + kRowsPerBlock), width, dy, x, weight, dx,
                          scratch.data() + i * width);
    });
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < width; ++c) dweight[c] += scratch[i * width + c];
    }
  }
}

void ScalarBackward(int64_t rows, int64_t width, const float* dy, ConstBuffer x, ConstBuffer weight,
                    Buffer dx, float* dweight, float* dbias) {
  if (x.dtype == DType::kF32) {
    ScalarBackwardOf(rows, width, dy, x.as<float>(), weight.as<float>(), dx.as<float>(), dweight);
  } else if (dx.dtype == DType::kF32) {
    ScalarBackwardOf(rows, width, dy, x.as<BFloat16>(), weight.as<BFloat16>(), dx.as<float>(), dweight);
  } else {
    ScalarBackwardOf(rows, width, dy, x.as<BFloat16>(), weight.as<BFloat16>(), dx.as<BFloat16>(), dweight);
  }
  if (dbias == nullptr) return;
  float total = 0;
  for (int64_t first = 0; first < rows; first += kRowsPerBlock) {
    float sum = 0;
    for (int64_t row = first; row < std::min(rows, first + kRowsPerBlock); ++row) sum += dy[row];
    total += sum;
  }
  *dbias += total;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {
HWY_EXPORT(RowMax);
HWY_EXPORT(RowSums);
HWY_EXPORT(Gradient);
HWY_EXPORT(ScalarForward);
HWY_EXPORT(ScalarBackward);
}  // namespace

void cpu::LogitRowMax(const Stream&, const LogitShard& shard, const float* logits, float* max) {
  HWY_DYNAMIC_DISPATCH(RowMax)(shard, logits, max);
}

void cpu::LogitRowSums(const Stream&, const LogitShard& shard, const float* logits, const float* max,
                       float* sums) {
  HWY_DYNAMIC_DISPATCH(RowSums)(shard, logits, max, sums);
}

// Exponentials need the maximum first; two passes give the bits of a split vocabulary.
void cpu::LogitRowMaxAndSums(const Stream& stream, const LogitShard& shard, const float* logits, float* max,
                             float* sums) {
  cpu::LogitRowMax(stream, shard, logits, max);
  cpu::LogitRowSums(stream, shard, logits, max, sums);
}

void cpu::TokenStatistics(const Stream&, int64_t rows, const float* max, const float* sums, float* logp,
                          float* lse, float* entropy) {
  for (int64_t row = 0; row < rows; ++row) {
    // The differences cancel most of their operands: in double, the inputs' rounding is all that is lost.
    const double sum = sums[row], log_sum = max[row] + std::log(sum);
    lse[row] = static_cast<float>(log_sum);
    logp[row] = static_cast<float>(sums[rows + row] - log_sum);
    entropy[row] = static_cast<float>(log_sum - sums[2 * rows + row] / sum);
  }
}

void cpu::LogitGradient(const Stream&, const LogitShard& shard, const float* logits, const float* lse,
                        const float* entropy, const float* dlogp, const float* dlse, const float* dentropy,
                        Buffer dlogits) {
  cpu::CheckElements(dlogits.dtype, {});
  HWY_DYNAMIC_DISPATCH(Gradient)(shard, logits, lse, entropy, dlogp, dlse, dentropy, dlogits);
}

void cpu::ScalarHeadForward(const Stream&, int64_t rows, int64_t width, ConstBuffer x, ConstBuffer weight,
                            float bias, float* y) {
  cpu::CheckElements(x.dtype, {weight});
  HWY_DYNAMIC_DISPATCH(ScalarForward)(rows, width, x, weight, bias, y);
}

void cpu::ScalarHeadBackward(const Stream&, int64_t rows, int64_t width, const float* dy, ConstBuffer x,
                             ConstBuffer weight, Buffer dx, float* dweight, float* dbias) {
  cpu::CheckElements(x.dtype, {weight});
  TANREN_KERNEL_CHECK(dx.dtype == DType::kF32 || dx.dtype == x.dtype);
  HWY_DYNAMIC_DISPATCH(ScalarBackward)(rows, width, dy, x, weight, dx, dweight, dbias);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
