// Backward attention (Dao et al. 2022, 2023): scores are computed again from the log-sum-exp.
//
// A segment's work is shared out in one of two ways. As long as there are enough (segment, key/value head)
// pairs, one task each takes the blocks of keys in order and does all five products, dq gathering in the
// workspace. Otherwise the segment is split: tasks by block of keys for dk and dv, then tasks by block of queries for
// dq, at the price of computing the scores twice. Every sum runs in the same order both ways, so the choice
// changes no bit.
#include <omp.h>

#include <algorithm>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/attention_tile-inl.h"

#ifndef TANREN_KERNELS_CPU_ATTENTION_BACKWARD_CC_
#define TANREN_KERNELS_CPU_ATTENTION_BACKWARD_CC_
namespace tanren::kernels {
namespace {

using attention::Part;

struct BackwardBuffers {
  ConstHeads q, k, v, o, d_o;
  Heads dq, dk, dv;
  const float* lse = nullptr;  // [heads, tokens]
  float* delta = nullptr;      // [heads, tokens]: the row sums of d_o * o
  float* dq_sums = nullptr;    // [slabs, heads / kv_heads, tokens, padded width]
};

// dq gathers in one slab a thread, or in one slab a key/value head where those are fewer.
inline int64_t SlabCount(const AttentionShape& shape) {
  return std::min<int64_t>(cpu::MaxThreads(), shape.kv_heads);
}

inline constexpr int64_t kQueryTile = 64;

}  // namespace
}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_ATTENTION_BACKWARD_CC_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

// One block of keys and one tile of queries, packed, with the gradients that gather on the key side.
struct Tiles {
  int64_t head_dim = 0;
  int64_t ld = 0;
  float* keys_transposed = nullptr;    // [head_dim, kKeyTile], times ScoreScale::factor
  float* values_transposed = nullptr;  // [head_dim, kKeyTile]
  float* keys = nullptr;               // [kKeyTile, ld], times the scale
  float* dkeys = nullptr;              // [kKeyTile, ld]
  float* dvalues = nullptr;            // [kKeyTile, ld]
  float* query = nullptr;              // [kQueryTile, ld]
  float* doutput = nullptr;            // [kQueryTile, ld]
  float* dquery = nullptr;             // [kQueryTile, ld]
  float* weights = nullptr;            // [kQueryTile, kKeyTile]
  float* dscores = nullptr;            // [kQueryTile, kKeyTile]

  explicit Tiles(int64_t width) : head_dim(width), ld(attention::PaddedWidth(width)) {
    const int64_t tile = kKeyTile * ld, square = kQueryTile * kKeyTile;
    float* at = attention::ThreadScratch(8 * tile + 2 * square);
    for (float** place : {&keys_transposed, &values_transposed, &keys, &dkeys, &dvalues, &query, &doutput, &dquery}) {
      *place = at;
      at += tile;
    }
    weights = at;
    dscores = at + square;
  }
};
static_assert(kQueryTile == kKeyTile);

// The keys of the packed block, as positions of the segment, and the queries of the packed tile.
struct TileRange {
  int64_t key = 0;
  int64_t keys = 0;
  int64_t query = 0;
  int64_t queries = 0;
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

// Fills weights and dscores of the tile, zero where masked.
template <bool kCapped>
void ScoreTile(const Tiles& t, const ScoreScale& scale, const attention::Visibility& visibility,
               const TileRange& range, const float* lse, const float* delta) {
  for (int64_t row = 0; row < range.queries; row += kRowBlock) {
    const int64_t rows = std::min<int64_t>(kRowBlock, range.queries - row);
    Operands product{.a = t.query + row * t.ld,
                     .lda = t.ld,
                     .b = t.keys_transposed,
                     .ldb = kKeyTile,
                     .c = t.weights + row * kKeyTile,
                     .ldc = kKeyTile,
                     .depth = t.head_dim};
    BlockProduct<false, Into::kWrite>(product, rows, kKeyTile);
    product.a = t.doutput + row * t.ld;
    product.b = t.values_transposed;
    product.c = t.dscores + row * kKeyTile;
    BlockProduct<false, Into::kWrite>(product, rows, kKeyTile);
    for (int64_t r = row; r < row + rows; ++r) {
      const attention::Range seen = visibility.KeysOf(range.query + r);
      DifferentiateRow<kCapped>(scale, seen.begin - range.key, std::min(seen.end - range.key, range.keys), lse[r],
                                delta[r], t.weights + r * kKeyTile, t.dscores + r * kKeyTile);
    }
  }
}

void ScoreTile(const Tiles& t, const ScoreScale& scale, const attention::Visibility& visibility,
               const TileRange& range, const float* lse, const float* delta) {
  if (scale.capped) {
    ScoreTile<true>(t, scale, visibility, range, lse, delta);
  } else {
    ScoreTile<false>(t, scale, visibility, range, lse, delta);
  }
}

// dv += p^T do and dk += ds^T q.
void AddKeyGradients(const Tiles& t, const TileRange& range) {
  for (int64_t key = 0; key < range.keys; key += kRowBlock) {
    const int64_t rows = std::min<int64_t>(kRowBlock, range.keys - key);
    Operands product{.a = t.weights + key,
                     .lda = kKeyTile,
                     .b = t.doutput,
                     .ldb = t.ld,
                     .c = t.dvalues + key * t.ld,
                     .ldc = t.ld,
                     .depth = range.queries};
    BlockProduct<true, Into::kAdd>(product, rows, t.ld);
    product.a = t.dscores + key;
    product.b = t.query;
    product.c = t.dkeys + key * t.ld;
    BlockProduct<true, Into::kAdd>(product, rows, t.ld);
  }
}

// dq += ds k.
void AddQueryGradient(const Tiles& t, const TileRange& range, float* dq) {
  for (int64_t row = 0; row < range.queries; row += kRowBlock) {
    BlockProduct<false, Into::kAdd>({.a = t.dscores + row * kKeyTile,
                                     .lda = kKeyTile,
                                     .b = t.keys,
                                     .ldb = t.ld,
                                     .c = dq + row * t.ld,
                                     .ldc = t.ld,
                                     .depth = range.keys},
                                    std::min<int64_t>(kRowBlock, range.queries - row), t.ld);
  }
}

template <class T>
void PackKeys(const Tiles& t, const AttentionShape& shape, const BackwardBuffers& b, int64_t token, int64_t kv_head,
              int64_t keys, bool for_queries) {
  const T* k = b.k.data.as<T>() + token * b.k.stride + kv_head * t.head_dim;
  const T* v = b.v.data.as<T>() + token * b.v.stride + kv_head * t.head_dim;
  PackTransposed(keys, t.head_dim, k, b.k.stride, ScoreScale(shape.scale, shape.soft_cap).factor, t.keys_transposed);
  PackTransposed(keys, t.head_dim, v, b.v.stride, 1.0f, t.values_transposed);
  if (for_queries) PackRows(keys, t.head_dim, k, b.k.stride, shape.scale, t.keys, t.ld);
}

template <class T>
void PackQueries(const Tiles& t, const BackwardBuffers& b, int64_t token, int64_t head, int64_t queries) {
  PackRows(queries, t.head_dim, b.q.data.as<T>() + token * b.q.stride + head * t.head_dim, b.q.stride, 1.0f, t.query,
           t.ld);
  PackRows(queries, t.head_dim, b.d_o.data.as<T>() + token * b.d_o.stride + head * t.head_dim, b.d_o.stride, 1.0f,
           t.doutput, t.ld);
}

// dk and dv of one block of keys (a part of kKeyTile positions), from all queries and query heads that see it.
// With `dq_sums`, [group, tokens, ld], the queries' gradients are added to it too.
template <class T>
void KeyBlock(const AttentionShape& shape, const BackwardBuffers& b, const Part& part, int64_t kv_head,
              float* dq_sums) {
  const Tiles t(shape.head_dim);
  const ScoreScale scale(shape.scale, shape.soft_cap);
  const attention::Visibility visibility{shape.mask, shape.window, part.length};
  const int64_t group = shape.heads / shape.kv_heads;
  TileRange range{.key = part.begin, .keys = part.end - part.begin, .query = 0, .queries = 0};
  const int64_t token = part.start + part.begin;
  PackKeys<T>(t, shape, b, token, kv_head, range.keys, dq_sums != nullptr);
  std::fill_n(t.dkeys, kKeyTile * t.ld, 0.0f);
  std::fill_n(t.dvalues, kKeyTile * t.ld, 0.0f);
  const attention::Range queries = visibility.QueriesOf(part.begin, part.end);
  for (int64_t g = 0; g < group; ++g) {
    const int64_t head = kv_head * group + g;
    for (int64_t q = queries.begin / kQueryTile * kQueryTile; q < queries.end; q += kQueryTile) {
      const int64_t at = part.start + q;
      range.query = q;
      range.queries = std::min(kQueryTile, part.length - q);
      PackQueries<T>(t, b, at, head, range.queries);
      ScoreTile(t, scale, visibility, range, b.lse + head * shape.tokens + at, b.delta + head * shape.tokens + at);
      AddKeyGradients(t, range);
      if (dq_sums != nullptr) AddQueryGradient(t, range, dq_sums + (g * shape.tokens + at) * t.ld);
    }
  }
  for (int64_t key = 0; key < range.keys; ++key) {
    StoreRow(t.head_dim, t.dkeys + key * t.ld, shape.scale,
             b.dk.data.as<T>() + (token + key) * b.dk.stride + kv_head * t.head_dim);
    StoreRow(t.head_dim, t.dvalues + key * t.ld, 1.0f,
             b.dv.data.as<T>() + (token + key) * b.dv.stride + kv_head * t.head_dim);
  }
}

// A whole segment and key/value head in one task.
template <class T>
void WholeSegment(const AttentionShape& shape, const BackwardBuffers& b, const Part& segment, int64_t kv_head,
                  int64_t slab) {
  const int64_t ld = attention::PaddedWidth(shape.head_dim), group = shape.heads / shape.kv_heads;
  float* dq_sums = b.dq_sums + slab * group * shape.tokens * ld;
  for (int64_t g = 0; g < group; ++g) {
    std::fill_n(dq_sums + (g * shape.tokens + segment.start) * ld, segment.length * ld, 0.0f);
  }
  for (int64_t begin = 0; begin < segment.length; begin += kKeyTile) {
    const Part part{segment.start, segment.length, begin, std::min(segment.length, begin + kKeyTile)};
    KeyBlock<T>(shape, b, part, kv_head, dq_sums);
  }
  for (int64_t g = 0; g < group; ++g) {
    const int64_t head = kv_head * group + g;
    for (int64_t t = segment.start; t < segment.start + segment.length; ++t) {
      StoreRow(shape.head_dim, dq_sums + (g * shape.tokens + t) * ld, 1.0f,
               b.dq.data.as<T>() + t * b.dq.stride + head * shape.head_dim);
    }
  }
}

// dq of one tile of queries (a part of kQueryTile positions) and one head.
template <class T>
void QueryBlock(const AttentionShape& shape, const BackwardBuffers& b, const Part& part, int64_t head) {
  const Tiles t(shape.head_dim);
  const ScoreScale scale(shape.scale, shape.soft_cap);
  const attention::Visibility visibility{shape.mask, shape.window, part.length};
  const int64_t kv_head = head / (shape.heads / shape.kv_heads), token = part.start + part.begin;
  TileRange range{.key = 0, .keys = 0, .query = part.begin, .queries = part.end - part.begin};
  PackQueries<T>(t, b, token, head, range.queries);
  std::fill_n(t.dquery, kQueryTile * t.ld, 0.0f);
  const int64_t end = visibility.KeysOf(part.end - 1).end;
  for (int64_t key = visibility.KeysOf(part.begin).begin / kKeyTile * kKeyTile; key < end; key += kKeyTile) {
    range.key = key;
    range.keys = std::min(kKeyTile, part.length - key);
    PackKeys<T>(t, shape, b, part.start + key, kv_head, range.keys, true);
    ScoreTile(t, scale, visibility, range, b.lse + head * shape.tokens + token,
              b.delta + head * shape.tokens + token);
    AddQueryGradient(t, range, t.dquery);
  }
  for (int64_t r = 0; r < range.queries; ++r) {
    StoreRow(t.head_dim, t.dquery + r * t.ld, 1.0f,
             b.dq.data.as<T>() + (token + r) * b.dq.stride + head * t.head_dim);
  }
}

template <class T>
void RowDots(const AttentionShape& shape, const BackwardBuffers& b) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d), width = shape.head_dim;
  cpu::ParallelRange(shape.tokens, 16, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      for (int64_t head = 0; head < shape.heads; ++head) {
        const T* o = b.o.data.as<T>() + token * b.o.stride + head * width;
        const T* d_o = b.d_o.data.as<T>() + token * b.d_o.stride + head * width;
        VF32 sum = hn::Zero(d);
        for (int64_t i = 0; i < width; i += lanes) {
          sum = hn::MulAdd(LoadUpTo(d, o + i, width - i), LoadUpTo(d, d_o + i, width - i), sum);
        }
        b.delta[head * shape.tokens + token] = SumLanes(d, sum);
      }
    }
  });
}

// From which length on a segment is split. A whole-segment task costs about the square of its length; one that
// is a large part of a thread's share would leave the others waiting.
int64_t SplitLength(const AttentionShape& shape) {
  const int threads = omp_in_parallel() ? 1 : cpu::MaxThreads();
  double total = 0;
  for (int64_t s = 0; s < shape.segments; ++s) {
    const double length = shape.cu_seqlens[s + 1] - shape.cu_seqlens[s];
    total += length * length * shape.kv_heads;
  }
  int64_t length = 1;
  while (threads > 1 && length <= shape.tokens && double(length) * length <= 0.7 * total / threads) ++length;
  return threads == 1 ? shape.tokens + 1 : length;
}

template <class T>
void BackwardOf(const AttentionShape& shape, const BackwardBuffers& b) {
  RowDots<T>(shape, b);
  const int64_t split = SplitLength(shape);
  const auto is_whole = [split](int64_t length) { return length < split; };
  const auto is_split = [split](int64_t length) { return length >= split; };
  std::vector<Part> wholes = attention::CutSegments(shape, shape.tokens, is_whole);
  std::stable_sort(wholes.begin(), wholes.end(), [](const Part& x, const Part& y) { return x.length > y.length; });
  const std::vector<Part> key_blocks = attention::CutSegments(shape, kKeyTile, is_split);
  const std::vector<Part> query_blocks = attention::CutSegments(shape, kQueryTile, is_split);
  const int64_t by_key = key_blocks.size() * shape.kv_heads, by_query = query_blocks.size() * shape.heads;
  const int64_t slabs = SlabCount(shape);
  const bool nested = omp_in_parallel();
  // Whole segments first: they are the longest tasks.
  const int64_t whole = wholes.size() * shape.kv_heads;
  cpu::ParallelItems(whole + by_key + by_query, [&](int64_t item) {
    if (item < whole) {
      const int64_t kv_head = item % shape.kv_heads;
      const int64_t slab = slabs == shape.kv_heads ? kv_head : nested ? 0 : omp_get_thread_num();
      return WholeSegment<T>(shape, b, wholes[item / shape.kv_heads], kv_head, slab);
    }
    item -= whole;
    if (item < by_key) {
      return KeyBlock<T>(shape, b, key_blocks[item / shape.kv_heads], item % shape.kv_heads, nullptr);
    }
    item -= by_key;
    QueryBlock<T>(shape, b, query_blocks[query_blocks.size() - 1 - item / shape.heads], item % shape.heads);
  });
}

void Backward(const AttentionShape& shape, const BackwardBuffers& b) {
  if (b.q.data.dtype == DType::kBF16) {
    BackwardOf<BFloat16>(shape, b);
  } else {
    BackwardOf<float>(shape, b);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {
HWY_EXPORT(Backward);

int64_t DeltaFloats(const AttentionShape& shape) { return (shape.heads * shape.tokens + 15) / 16 * 16; }
}  // namespace

int64_t AttentionBackwardWorkspaceBytes(const AttentionShape& shape) {
  const int64_t slab = shape.heads / shape.kv_heads * shape.tokens * attention::PaddedWidth(shape.head_dim);
  return (DeltaFloats(shape) + SlabCount(shape) * slab) * static_cast<int64_t>(sizeof(float));
}

void AttentionBackward(const Stream&, const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v,
                       ConstHeads o, const float* lse, ConstHeads d_o, Heads dq, Heads dk, Heads dv, void* workspace) {
  BackwardBuffers buffers{.q = q,
                          .k = k,
                          .v = v,
                          .o = o,
                          .d_o = d_o,
                          .dq = dq,
                          .dk = dk,
                          .dv = dv,
                          .lse = lse,
                          .delta = static_cast<float*>(workspace),
                          .dq_sums = static_cast<float*>(workspace) + DeltaFloats(shape)};
  HWY_DYNAMIC_DISPATCH(Backward)(shape, buffers);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
