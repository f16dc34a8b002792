// Layer and root-mean-square normalisation. A row stays in the first-level cache while it is read twice or
// three times; sums run in four vectors of lanes that are added at the end of the row.
#include "kernels/norm.h"

#include <cmath>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/element.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/vector-inl.h"

#ifndef TANREN_KERNELS_CPU_NORM_CC_
#define TANREN_KERNELS_CPU_NORM_CC_
namespace tanren::kernels {
namespace {

// Rows of both contracts: row r of plain rows is r * width; of heads, (r / heads) * stride + (r % heads) *
// width.
struct NormRows {
  int64_t rows = 0;
  int64_t width = 0;
  int64_t heads = 1;
  int64_t stride = 0;
  int64_t Offset(int64_t row) const {
    return heads == 1 ? row * stride : row / heads * stride + row % heads * width;
  }
};

struct NormBackwardBuffers {
  NormKind kind = NormKind::kRms;
  ConstBuffer dy, x, weight, dresidual;
  const float* mean = nullptr;
  const float* rstd = nullptr;
  Buffer dx;
};

// Weight gradients are summed over blocks of this many rows, and the blocks' sums added in order.
constexpr int64_t kRowsPerBlock = 64;
// So many blocks are worked on at once, which bounds the scratch memory.
constexpr int64_t kBlocksPerGroup = 64;

}  // namespace
}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_NORM_CC_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

// The sum over a row of term(i, left), where `left` >= 1 elements remain from i on; lanes beyond must be
// zero.
template <class Term>
HWY_INLINE float SumRow(F32 d, int64_t width, const Term& term) {
  const int64_t lanes = hn::Lanes(d);
  VF32 s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= width; i += 4 * lanes) {
    s0 = hn::Add(s0, term(i, lanes));
    s1 = hn::Add(s1, term(i + lanes, lanes));
    s2 = hn::Add(s2, term(i + 2 * lanes, lanes));
    s3 = hn::Add(s3, term(i + 3 * lanes, lanes));
  }
  for (; i < width; i += lanes) s0 = hn::Add(s0, term(i, std::min(lanes, width - i)));
  return SumLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

template <class T>
void ForwardRow(NormKind kind, int64_t width, float epsilon, const T* x, const T* weight, const T* bias, T* y,
                float* mean_out, float* rstd_out) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  float mean = 0;
  if (kind == NormKind::kLayer) {
    mean =
        SumRow(d, width, [&](int64_t i, int64_t left) HWY_ATTR { return LoadUpTo(d, x + i, left); }) / width;
  }
  const VF32 center = hn::Set(d, mean);
  const float squares = SumRow(d, width, [&](int64_t i, int64_t left) HWY_ATTR {
    VF32 v = hn::Sub(LoadUpTo(d, x + i, left), center);
    if (left < lanes) v = hn::IfThenElseZero(hn::FirstN(d, left), v);
    return hn::Mul(v, v);
  });
  const float rstd = 1.0f / std::sqrt(squares / width + epsilon);
  const VF32 scale = hn::Set(d, rstd);
  for (int64_t i = 0; i < width; i += lanes) {
    const int64_t left = width - i;
    const VF32 v = hn::Mul(hn::Sub(LoadUpTo(d, x + i, left), center), scale);
    const VF32 shift = bias == nullptr ? hn::Zero(d) : LoadUpTo(d, bias + i, left);
    StoreUpTo(d, hn::MulAdd(v, LoadUpTo(d, weight + i, left), shift), y + i, left);
  }
  if (mean_out != nullptr) *mean_out = mean;
  if (rstd_out != nullptr) *rstd_out = rstd;
}

template <class T>
void AddRow(int64_t width, const T* x, const T* delta, T* sum) {
  const F32 d;
  for (int64_t i = 0; i < width; i += hn::Lanes(d)) {
    const int64_t left = width - i;
    StoreUpTo(d, hn::Add(LoadUpTo(d, x + i, left), LoadUpTo(d, delta + i, left)), sum + i, left);
  }
}

template <class T>
void ForwardOf(const NormForwardArgs& args) {
  cpu::ParallelRange(args.rows, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * args.width;
      const T* x = args.x.as<T>() + at;
      if (args.delta) {
        AddRow(args.width, x, args.delta.as<T>() + at, args.sum.as<T>() + at);
        x = args.sum.as<T>() + at;
      }
      ForwardRow(args.kind, args.width, args.epsilon, x, args.weight.as<T>(), args.bias.as<T>(),
                 args.y.as<T>() + at, args.mean == nullptr ? nullptr : args.mean + row,
                 args.rstd == nullptr ? nullptr : args.rstd + row);
    }
  });
}

void Forward(const NormForwardArgs& args) {
  if (args.x.dtype == DType::kBF16) {
    ForwardOf<BFloat16>(args);
  } else {
    ForwardOf<float>(args);
  }
}

template <class T>
void HeadForwardOf(const NormRows& rows, float epsilon, ConstBuffer weight, ConstBuffer x, Buffer y,
                   float* rstd) {
  cpu::ParallelRange(rows.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = rows.Offset(row);
      ForwardRow<T>(NormKind::kRms, rows.width, epsilon, x.as<T>() + at, weight.as<T>(), nullptr,
                    y.as<T>() + at, nullptr, rstd == nullptr ? nullptr : rstd + row);
    }
  });
}

void HeadForward(const NormRows& rows, float epsilon, ConstBuffer weight, ConstBuffer x, Buffer y,
                 float* rstd) {
  if (x.dtype == DType::kBF16) {
    HeadForwardOf<BFloat16>(rows, epsilon, weight, x, y, rstd);
  } else {
    HeadForwardOf<float>(rows, epsilon, weight, x, y, rstd);
  }
}

// dx of one row; adds its part of the weight gradients to dweight and dbias (dbias may be null).
template <class T>
void BackwardRow(NormKind kind, int64_t width, const T* dy, const T* x, const T* weight, const T* dresidual,
                 float mean, float rstd, T* dx, float* dweight, float* dbias) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VF32 center = hn::Set(d, mean), scale = hn::Set(d, rstd);
  VF32 sum_g = hn::Zero(d), sum_gx = hn::Zero(d);
  for (int64_t i = 0; i < width; i += lanes) {
    const int64_t left = width - i;
    const VF32 grad = LoadUpTo(d, dy + i, left);  // zero beyond the row, and so are both products
    const VF32 normal = hn::Mul(hn::Sub(LoadUpTo(d, x + i, left), center), scale);
    const VF32 g = hn::Mul(grad, LoadUpTo(d, weight + i, left));
    sum_g = hn::Add(sum_g, g);
    sum_gx = hn::MulAdd(g, normal, sum_gx);
    StoreUpTo(d, hn::MulAdd(grad, normal, LoadUpTo(d, dweight + i, left)), dweight + i, left);
    if (dbias != nullptr) StoreUpTo(d, hn::Add(grad, LoadUpTo(d, dbias + i, left)), dbias + i, left);
  }
  const VF32 mean_g = hn::Set(d, kind == NormKind::kLayer ? SumLanes(d, sum_g) / width : 0.0f);
  const VF32 mean_gx = hn::Set(d, SumLanes(d, sum_gx) / width);
  for (int64_t i = 0; i < width; i += lanes) {
    const int64_t left = width - i;
    const VF32 normal = hn::Mul(hn::Sub(LoadUpTo(d, x + i, left), center), scale);
    const VF32 g = hn::Mul(LoadUpTo(d, dy + i, left), LoadUpTo(d, weight + i, left));
    const VF32 through = hn::NegMulAdd(normal, mean_gx, hn::Sub(g, mean_g));
    const VF32 residual = dresidual == nullptr ? hn::Zero(d) : LoadUpTo(d, dresidual + i, left);
    StoreUpTo(d, hn::MulAdd(through, scale, residual), dx + i, left);
  }
}

template <class T>
void BackwardBlock(const NormRows& rows, const NormBackwardBuffers& b, int64_t block, float* dweight,
                   float* dbias) {
  std::fill_n(dweight, rows.width, 0.0f);
  if (dbias != nullptr) std::fill_n(dbias, rows.width, 0.0f);
  const int64_t end = std::min(rows.rows, (block + 1) * kRowsPerBlock);
  for (int64_t row = block * kRowsPerBlock; row < end; ++row) {
    const int64_t at = rows.Offset(row);
    BackwardRow<T>(b.kind, rows.width, b.dy.as<T>() + at, b.x.as<T>() + at, b.weight.as<T>(),
                   b.dresidual ? b.dresidual.as<T>() + at : nullptr, b.mean == nullptr ? 0.0f : b.mean[row],
                   b.rstd[row], b.dx.as<T>() + at, dweight, dbias);
  }
}

void Backward(const NormRows& rows, const NormBackwardBuffers& b, float* dweight, float* dbias) {
  const int64_t width = rows.width;
  const int64_t blocks = (rows.rows + kRowsPerBlock - 1) / kRowsPerBlock;
  const int64_t sums = dbias == nullptr ? 1 : 2;
  std::vector<float> scratch(std::min(blocks, kBlocksPerGroup) * sums * width);
  for (int64_t first = 0; first < blocks; first += kBlocksPerGroup) {
    const int64_t count = std::min(kBlocksPerGroup, blocks - first);
    cpu::ParallelItems(count, [&](int64_t i) {
      float* block_dweight = scratch.data() + i * sums * width;
      float* block_dbias = dbias == nullptr ? nullptr : block_dweight + width;
      if (b.x.dtype == DType::kBF16) {
        BackwardBlock<BFloat16>(rows, b, first + i, block_dweight, block_dbias);
      } else {
        BackwardBlock<float>(rows, b, first + i, block_dweight, block_dbias);
      }
    });
    cpu::ParallelRange(width, 512, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < count; ++i) {
        const float* block_dweight = scratch.data() + i * sums * width;
        for (int64_t c = begin; c < end; ++c) dweight[c] += block_dweight[c];
        if (dbias == nullptr) continue;
        for (int64_t c = begin; c < end; ++c) dbias[c] += block_dweight[width + c];
      }
    });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {
HWY_EXPORT(Forward);
HWY_EXPORT(HeadForward);
HWY_EXPORT(Backward);

NormRows RowsOfHeads(const HeadNormArgs& args) {
  return {.rows = args.tokens * args.heads, .width = args.width, .heads = args.heads, .stride = args.stride};
}
}  // namespace

void cpu::NormForward(const Stream&, const NormForwardArgs& args) {
  cpu::CheckElements(args.x.dtype, {args.delta, args.sum, args.weight, args.bias, args.y});
  TANREN_KERNEL_CHECK(!args.delta || args.sum);
  HWY_DYNAMIC_DISPATCH(Forward)(args);
}

void cpu::NormBackward(const Stream&, const NormBackwardArgs& args) {
  cpu::CheckElements(args.x.dtype, {args.dy, args.weight, args.dresidual, args.dx});
  const NormRows rows{.rows = args.rows, .width = args.width, .heads = 1, .stride = args.width};
  const NormBackwardBuffers buffers{.kind = args.kind,
                                    .dy = args.dy,
                                    .x = args.x,
                                    .weight = args.weight,
                                    .dresidual = args.dresidual,
                                    .mean = args.kind == NormKind::kLayer ? args.mean : nullptr,
                                    .rstd = args.rstd,
                                    .dx = args.dx};
  HWY_DYNAMIC_DISPATCH(Backward)(rows, buffers, args.dweight, args.dbias);
}

void cpu::HeadNormForward(const Stream&, const HeadNormArgs& args, ConstBuffer x, Buffer y, float* rstd) {
  cpu::CheckElements(x.dtype, {args.weight, y});
  HWY_DYNAMIC_DISPATCH(HeadForward)(RowsOfHeads(args), args.epsilon, args.weight, x, y, rstd);
}

void cpu::HeadNormBackward(const Stream&, const HeadNormArgs& args, ConstBuffer dy, ConstBuffer x,
                           const float* rstd, Buffer dx, float* dweight) {
  cpu::CheckElements(x.dtype, {args.weight, dy, dx});
  const NormBackwardBuffers buffers{.kind = NormKind::kRms,
                                    .dy = dy,
                                    .x = x,
                                    .weight = args.weight,
                                    .dresidual = {},
                                    .mean = nullptr,
                                    .rstd = rstd,
                                    .dx = dx};
  HWY_DYNAMIC_DISPATCH(Backward)(RowsOfHeads(args), buffers, dweight, nullptr);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
