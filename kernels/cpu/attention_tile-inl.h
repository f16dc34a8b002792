// What the attention kernels share: small matrix products held in registers, and the packing of heads into
// contiguous fp32 tiles. Included once per instruction set.
//
// Packing is not only for bf16: a token's stride in a fused qkv buffer is several KiB, so that 64 rows read
// in place would fall on a few sets of the first-level cache and evict one another.
#include <algorithm>
#include <cstdint>

#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/types.h"

#ifndef TANREN_KERNELS_CPU_ATTENTION_TILE_COMMON_
#define TANREN_KERNELS_CPU_ATTENTION_TILE_COMMON_
namespace tanren::kernels::attention {

// Keys are taken in blocks of this many, counted from the segment's or the slot's begin.
inline constexpr int64_t kKeyTile = 64;
// Tile rows are padded with zeros to a multiple of this, the widest vector.
inline constexpr int64_t kLaneMultiple = 16;
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;

inline int64_t PaddedWidth(int64_t head_dim) {
  return (head_dim + kLaneMultiple - 1) / kLaneMultiple * kLaneMultiple;
}

// Aligned memory that a thread keeps between calls and that grows when asked for more.
inline float* ThreadScratch(int64_t floats) {
  thread_local hwy::AlignedFreeUniquePtr<float[]> memory;
  thread_local int64_t capacity = 0;
  if (capacity < floats) {
    memory = hwy::AllocateAligned<float>(floats);
    capacity = floats;
  }
  return memory.get();
}

// What a product does with the values already in C.
enum class Into { kWrite, kAdd, kScaleAdd };

}  // namespace tanren::kernels::attention
#endif  // TANREN_KERNELS_CPU_ATTENTION_TILE_COMMON_

#if defined(TANREN_KERNELS_CPU_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANREN_KERNELS_CPU_ATTENTION_TILE_INL_H_
#undef TANREN_KERNELS_CPU_ATTENTION_TILE_INL_H_
#else
#define TANREN_KERNELS_CPU_ATTENTION_TILE_INL_H_
#endif

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

using attention::Into;
using attention::kKeyTile;
using attention::kLog2E;

// Register blocks are up to kRowBlock rows of kPanel vectors: 24 of 32 registers with AVX-512, 12 of 16 with
// AVX2.
inline constexpr int kRowBlock = 6;
inline constexpr int kPanel = HWY_TARGET <= HWY_AVX3 ? 4 : 2;

struct Operands {
  const float* a = nullptr;  // element (row, k) at row * lda + k, or k * lda + row when transposed
  int64_t lda = 0;
  const float* b = nullptr;  // [depth, ldb]
  int64_t ldb = 0;
  float* c = nullptr;  // [rows, ldc]
  int64_t ldc = 0;
  int64_t depth = 0;
  const float* scale = nullptr;  // [rows], kScaleAdd: C is multiplied by it first
};

// C = A B, C += A B or C = scale C + A B for a block held in registers. Every element is one chain of fused
// multiply-adds in order of k, so its value does not depend on the block that it is computed in.
template <int kRows, int kVectors, bool kTransposed, Into kInto>
HWY_NOINLINE void RegisterBlock(const Operands& o) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  VF32 acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kInto == Into::kWrite) {
        acc[r][v] = hn::Zero(d);
      } else {
        acc[r][v] = hn::LoadU(d, o.c + r * o.ldc + v * lanes);
        if constexpr (kInto == Into::kScaleAdd) acc[r][v] = hn::Mul(acc[r][v], hn::Set(d, o.scale[r]));
      }
    }
  }
  const float* a = o.a;
  const float* b = o.b;
  const int64_t lda = o.lda, ldb = o.ldb;
  for (int64_t k = 0; k < o.depth; ++k, b += ldb, a += kTransposed ? lda : 1) {
    VF32 row_b[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row_b[v] = hn::LoadU(d, b + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const VF32 value = hn::Set(d, a[kTransposed ? r : r * lda]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(value, row_b[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) hn::StoreU(acc[r][v], d, o.c + r * o.ldc + v * lanes);
  }
}

// `rows` <= kRowBlock rows of one column panel.
template <int kVectors, bool kTransposed, Into kInto>
HWY_INLINE void RowBlock(Operands o, int64_t rows) {
  if (rows == 6) return RegisterBlock<6, kVectors, kTransposed, kInto>(o);
  const auto advance = [&o](int64_t done) {
    o.a += kTransposed ? done : done * o.lda;
    o.c += done * o.ldc;
    if (o.scale != nullptr) o.scale += done;
  };
  if (rows & 4) RegisterBlock<4, kVectors, kTransposed, kInto>(o), advance(4);
  if (rows & 2) RegisterBlock<2, kVectors, kTransposed, kInto>(o), advance(2);
  if (rows & 1) RegisterBlock<1, kVectors, kTransposed, kInto>(o);
}

// As RegisterBlock, for `rows` <= kRowBlock and `width` columns rounded up to whole vectors.
template <bool kTransposed, Into kInto>
HWY_INLINE void BlockProduct(Operands o, int64_t rows, int64_t width) {
  const int64_t lanes = hn::Lanes(F32());
  int64_t vectors = (width + lanes - 1) / lanes;
  for (; vectors >= kPanel; vectors -= kPanel, o.b += kPanel * lanes, o.c += kPanel * lanes) {
    RowBlock<kPanel, kTransposed, kInto>(o, rows);
  }
  if constexpr (kPanel == 4) {
    if (vectors == 3) return RowBlock<3, kTransposed, kInto>(o, rows);
    if (vectors == 2) return RowBlock<2, kTransposed, kInto>(o, rows);
  }
  if (vectors == 1) RowBlock<1, kTransposed, kInto>(o, rows);
}

// A head's rows lie far apart, which the processor's own prefetching does not follow. Reaching beyond the end
// of the buffer is harmless.
inline constexpr int64_t kPrefetchRows = 8;
template <class T>
HWY_INLINE void PrefetchRow(const T* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(T)) hwy::Prefetch(row + i);
}

// `rows` heads of `head_dim` elements, `stride` apart, times `factor`, into [rows, ld] padded with zeros.
template <class T>
void PackRows(int64_t rows, int64_t head_dim, const T* from, int64_t stride, float factor, float* to,
              int64_t ld) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VF32 by = hn::Set(d, factor);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += ld) {
    PrefetchRow(from + kPrefetchRows * stride, head_dim);
    int64_t i = 0;
    for (; i < head_dim; i += lanes) {
      const VF32 v = LoadUpTo(d, from + i, head_dim - i);
      hn::StoreU(factor == 1.0f ? v : hn::Mul(v, by), d, to + i);
    }
    for (; i < ld; i += lanes) hn::StoreU(hn::Zero(d), d, to + i);
  }
}

// The transpose of PackRows: [head_dim, kKeyTile], the keys from `keys` on being zero.
template <class T>
void PackTransposed(int64_t keys, int64_t head_dim, const T* from, int64_t stride, float factor, float* to) {
  int64_t key = 0;
#if HWY_TARGET != HWY_SCALAR
  // Four by four elements at a time, in 128-bit vectors.
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto by = hn::Set(d, factor);
  for (; key + 4 <= keys; key += 4) {
    const T* row = from + key * stride;
    for (int64_t r = 0; r < 4; ++r) PrefetchRow(row + (kPrefetchRows + r) * stride, head_dim);
    int64_t i = 0;
    for (; i + 4 <= head_dim; i += 4) {
      const auto r0 = hn::Mul(LoadF32(d, row + i), by), r1 = hn::Mul(LoadF32(d, row + stride + i), by);
      const auto r2 = hn::Mul(LoadF32(d, row + 2 * stride + i), by);
      const auto r3 = hn::Mul(LoadF32(d, row + 3 * stride + i), by);
      const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1));
      const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3));
      const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1));
      const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
      float* out = to + i * kKeyTile + key;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, out + kKeyTile);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, out + 2 * kKeyTile);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, out + 3 * kKeyTile);
    }
    for (; i < head_dim; ++i) {
      for (int64_t r = 0; r < 4; ++r) {
        to[i * kKeyTile + key + r] = static_cast<float>(row[r * stride + i]) * factor;
      }
    }
  }
#endif
  for (; key < keys; ++key) {
    for (int64_t i = 0; i < head_dim; ++i)
      to[i * kKeyTile + key] = static_cast<float>(from[key * stride + i]) * factor;
  }
  if (keys == kKeyTile) return;
  for (int64_t i = 0; i < head_dim; ++i) std::fill(to + i * kKeyTile + keys, to + (i + 1) * kKeyTile, 0.0f);
}

// One row of a tile times `factor` to its place in memory. Adding zero turns -0 into 0: whether a product
// with a masked (zero) weight was added to an element must not show.
template <class T>
HWY_INLINE void StoreRow(int64_t head_dim, const float* from, float factor, T* to) {
  const F32 d;
  const VF32 by = hn::Set(d, factor);
  for (int64_t i = 0; i < head_dim; i += hn::Lanes(d)) {
    StoreUpTo(d, hn::Add(hn::Mul(hn::LoadU(d, from + i), by), hn::Zero(d)), to + i, head_dim - i);
  }
}

// Scores as the exponent of two: a product's row is multiplied by `factor` on packing; `capped` scores are
// then turned into cap * tanh(.) * log2(e).
struct ScoreScale {
  ScoreScale(float scale, float soft_cap)
      : factor(soft_cap > 0 ? scale / soft_cap : scale * kLog2E),
        cap_log2(soft_cap * kLog2E),
        capped(soft_cap > 0) {}
  float factor;
  float cap_log2;
  bool capped;
};

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
