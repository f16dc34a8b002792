// The gradient of attention on one tile of queries and one block of keys (Dao et al. 2022, 2023): scores are
// computed again, and every product skips what no row or no key of its register block sees.
// Included once per instruction set.
#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/attention_plan.h"

#if defined(TANREN_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANREN_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_
#undef TANREN_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_
#else
#define TANREN_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_
#endif

#include "kernels/cpu/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

inline constexpr int64_t kQueryTile = 64;

// One block of keys and one tile of queries, packed, with the gradients that gather on the key side.
struct Tiles {
  int64_t head_dim = 0;
  int64_t ld = 0;
  float* keys_transposed = nullptr;    // [head_dim, kKeyTile], times ScoreScale::factor
  float* values_transposed = nullptr;  // [head_dim, kKeyTile]
  float* keys = nullptr;               // [kKeyTile, ld], times the scale
  float* dkeys = nullptr;              // [kKeyTile, ld]
  float* dvalues = nullptr;            // [kKeyTile, ld]
  float* query = nullptr;              // [kQueryTile, ld], if not packed in a slab
  float* doutput = nullptr;            // [kQueryTile, ld], likewise
  float* dquery = nullptr;             // [kQueryTile, ld], likewise
  float* weights = nullptr;            // [kQueryTile, kKeyTile]
  float* dscores = nullptr;            // [kQueryTile, kKeyTile]

  explicit Tiles(int64_t width) : head_dim(width), ld(attention::PaddedWidth(width)) {
    const int64_t tile = kKeyTile * ld, square = kQueryTile * kKeyTile;
    float* at = attention::ThreadScratch(8 * tile + 2 * square);
    for (float** place :
         {&keys_transposed, &values_transposed, &keys, &dkeys, &dvalues, &query, &doutput, &dquery}) {
      *place = at;
      at += tile;
    }
    weights = at;
    dscores = at + square;
  }
};
static_assert(kQueryTile == kKeyTile);

// The keys of the packed block and the queries of the tile at hand, as positions of the segment.
struct TileRange {
  int64_t key = 0;
  int64_t keys = 0;
  int64_t query = 0;
  int64_t queries = 0;
};

// Packed queries and output gradients [rows, ld], and where their dq is summed (null: not wanted).
struct QuerySide {
  const float* query = nullptr;
  const float* doutput = nullptr;
  float* dquery = nullptr;
};

// Scores of one row (masked) and d(output) . value become weights and score gradients.
template <bool kCapped>
HWY_INLINE void DifferentiateRow(const ScoreScale& scale, int64_t first, int64_t last, float lse, float delta,
                                 float* weights, float* dscores) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VF32 shift = hn::Set(d, lse * kLog2E), center = hn::Set(d, delta);
  const bool masked = first > 0 || last < kKeyTile;
  for (int64_t i = 0; i < kKeyTile; i += lanes) {
    VF32 s = hn::LoadU(d, weights + i);
    VF32 slope = hn::Set(d, 1.0f);
    if constexpr (kCapped) {
      const VF32 t = Tanh(d, s);
      slope = hn::NegMulAdd(t, t, slope);
      s = hn::Mul(t, hn::Set(d, scale.cap_log2));
    }
    // The score may exceed the log-sum-exp by a rounding only.
    VF32 p = Exp2NonPositive(d, hn::Min(hn::Zero(d), hn::Sub(s, shift)));
    VF32 ds = hn::Mul(p, hn::Sub(hn::LoadU(d, dscores + i), center));
    if constexpr (kCapped) ds = hn::Mul(ds, slope);
    if (masked) {
      const VF32 key = hn::Iota(d, static_cast<float>(i));
      const auto seen = hn::And(hn::Ge(key, hn::Set(d, static_cast<float>(first))),
                                hn::Lt(key, hn::Set(d, static_cast<float>(last))));
      p = hn::IfThenElseZero(seen, p);
      ds = hn::IfThenElseZero(seen, ds);
    }
    hn::StoreU(p, d, weights + i);
    hn::StoreU(ds, d, dscores + i);
  }
}

// The keys of the block, counted from its begin, that any of `rows` neighbouring queries sees. Both ends of
// what a query sees grow with its position.
HWY_INLINE attention::Range SeenKeys(const attention::Visibility& visibility, const TileRange& range,
                                     int64_t row, int64_t rows) {
  const int64_t begin = visibility.KeysOf(range.query + row).begin - range.key;
  const int64_t end = visibility.KeysOf(range.query + row + rows - 1).end - range.key;
  return {std::max<int64_t>(begin, 0), std::min(end, range.keys)};
}

// Fills weights and dscores of the tile, zero where masked.
template <bool kCapped>
void ScoreTile(const Tiles& t, const QuerySide& side, const ScoreScale& scale,
               const attention::Visibility& visibility, const TileRange& range, const float* lse,
               const float* delta) {
  for (int64_t row = 0; row < range.queries; row += kRowBlock) {
    const int64_t rows = std::min<int64_t>(kRowBlock, range.queries - row);
    // Columns from here on are not computed; DifferentiateRow masks what they hold.
    const int64_t width = std::max<int64_t>(0, SeenKeys(visibility, range, row, rows).end);
    Operands product{.a = side.query + row * t.ld,
                     .lda = t.ld,
                     .b = t.keys_transposed,
                     .ldb = kKeyTile,
                     .c = t.weights + row * kKeyTile,
                     .ldc = kKeyTile,
                     .depth = t.head_dim};
    BlockProduct<false, Into::kWrite>(product, rows, width);
    product.a = side.doutput + row * t.ld;
    product.b = t.values_transposed;
    product.c = t.dscores + row * kKeyTile;
    BlockProduct<false, Into::kWrite>(product, rows, width);
    for (int64_t r = row; r < row + rows; ++r) {
      const attention::Range seen = visibility.KeysOf(range.query + r);
      DifferentiateRow<kCapped>(scale, seen.begin - range.key, std::min(seen.end - range.key, range.keys),
                                lse[r], delta[r], t.weights + r * kKeyTile, t.dscores + r * kKeyTile);
    }
  }
}

void ScoreTile(const Tiles& t, const QuerySide& side, const ScoreScale& scale,
               const attention::Visibility& visibility, const TileRange& range, const float* lse,
               const float* delta) {
  if (scale.capped) {
    ScoreTile<true>(t, side, scale, visibility, range, lse, delta);
  } else {
    ScoreTile<false>(t, side, scale, visibility, range, lse, delta);
  }
}

// dv += p^T do and dk += ds^T q.
void AddKeyGradients(const Tiles& t, const QuerySide& side, const attention::Visibility& visibility,
                     const TileRange& range) {
  for (int64_t key = 0; key < range.keys; key += kRowBlock) {
    const int64_t rows = std::min<int64_t>(kRowBlock, range.keys - key);
    const attention::Range seeing = visibility.QueriesOf(range.key + key, range.key + key + rows);
    const int64_t first = std::max<int64_t>(0, seeing.begin - range.query);
    const int64_t last = std::min(range.queries, seeing.end - range.query);
    if (first >= last) continue;
    Operands product{.a = t.weights + first * kKeyTile + key,
                     .lda = kKeyTile,
                     .b = side.doutput + first * t.ld,
                     .ldb = t.ld,
                     .c = t.dvalues + key * t.ld,
                     .ldc = t.ld,
                     .depth = last - first};
    BlockProduct<true, Into::kAdd>(product, rows, t.ld);
    product.a = t.dscores + first * kKeyTile + key;
    product.b = side.query + first * t.ld;
    product.c = t.dkeys + key * t.ld;
    BlockProduct<true, Into::kAdd>(product, rows, t.ld);
  }
}

// dq += ds k.
void AddQueryGradient(const Tiles& t, const attention::Visibility& visibility, const TileRange& range,
                      float* dq) {
  for (int64_t row = 0; row < range.queries; row += kRowBlock) {
    const int64_t rows = std::min<int64_t>(kRowBlock, range.queries - row);
    const attention::Range seen = SeenKeys(visibility, range, row, rows);
    if (seen.begin >= seen.end) continue;
    BlockProduct<false, Into::kAdd>({.a = t.dscores + row * kKeyTile + seen.begin,
                                     .lda = kKeyTile,
                                     .b = t.keys + seen.begin * t.ld,
                                     .ldb = t.ld,
                                     .c = dq + row * t.ld,
                                     .ldc = t.ld,
                                     .depth = seen.end - seen.begin},
                                    rows, t.ld);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
