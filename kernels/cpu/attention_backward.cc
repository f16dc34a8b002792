// Backward attention (Dao et al. 2022, 2023): scores are computed again from the log-sum-exp.
//
// A segment's work is shared out in one of two ways. As long as there are enough (segment, key/value head)
// pairs, one task each takes the blocks of keys in order and does all five products, dq gathering in the
// workspace. Otherwise the segment is split: tasks by block of keys for dk and dv, then tasks by block of
// queries for dq, at the price of computing the scores twice. Every sum runs in the same order both ways, so
// the choice changes no bit.
#include <omp.h>

#include <algorithm>
#include <vector>

#include "kernels/attention.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/element.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/attention_gradient-inl.h"

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
  float* slabs = nullptr;      // [slabs, kSlabParts, heads / kv_heads, tokens, padded width]
};

// A whole-segment task keeps its queries and output gradients, packed once, and its sums of dq in a slab.
// There is a slab for each thread, or for each key/value head where those are fewer.
inline constexpr int64_t kSlabParts = 3;
inline int64_t SlabCount(const AttentionShape& shape) {
  return std::min<int64_t>(cpu::MaxThreads(), shape.kv_heads);
}

inline int64_t SlabPartFloats(const AttentionShape& shape) {
  return shape.heads / shape.kv_heads * shape.tokens * attention::PaddedWidth(shape.head_dim);
}

}  // namespace
}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_ATTENTION_BACKWARD_CC_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void PackKeys(const Tiles& t, const AttentionShape& shape, const BackwardBuffers& b, int64_t token,
              int64_t kv_head, int64_t keys, bool for_queries) {
  const T* k = b.k.data.as<T>() + token * b.k.stride + kv_head * t.head_dim;
  const T* v = b.v.data.as<T>() + token * b.v.stride + kv_head * t.head_dim;
  PackTransposed(keys, t.head_dim, k, b.k.stride, ScoreScale(shape.scale, shape.soft_cap).factor,
                 t.keys_transposed);
  PackTransposed(keys, t.head_dim, v, b.v.stride, 1.0f, t.values_transposed);
  if (for_queries) PackRows(keys, t.head_dim, k, b.k.stride, shape.scale, t.keys, t.ld);
}

template <class T>
void PackQueries(const AttentionShape& shape, const BackwardBuffers& b, int64_t token, int64_t head,
                 int64_t queries, float* query, float* doutput) {
  const int64_t width = shape.head_dim, ld = attention::PaddedWidth(width);
  PackRows(queries, width, b.q.data.as<T>() + token * b.q.stride + head * width, b.q.stride, 1.0f, query, ld);
  PackRows(queries, width, b.d_o.data.as<T>() + token * b.d_o.stride + head * width, b.d_o.stride, 1.0f,
           doutput, ld);
}

// dk and dv of one block of keys (a part of kKeyTile positions), from all queries and query heads that see
// it. With a slab the queries are packed there already, and their gradients are summed there.
template <class T>
void KeyBlock(const AttentionShape& shape, const BackwardBuffers& b, const Part& part, int64_t kv_head,
              float* slab) {
  const Tiles t(shape.head_dim);
  const ScoreScale scale(shape.scale, shape.soft_cap);
  const attention::Visibility visibility{shape.mask, shape.window, part.length};
  const int64_t group = shape.heads / shape.kv_heads, slab_part = SlabPartFloats(shape);
  TileRange range{.key = part.begin, .keys = part.end - part.begin, .query = 0, .queries = 0};
  const int64_t token = part.start + part.begin;
  PackKeys<T>(t, shape, b, token, kv_head, range.keys, slab != nullptr);
  std::fill_n(t.dkeys, kKeyTile * t.ld, 0.0f);
  std::fill_n(t.dvalues, kKeyTile * t.ld, 0.0f);
  const attention::Range queries = visibility.QueriesOf(part.begin, part.end);
  for (int64_t g = 0; g < group; ++g) {
    const int64_t head = kv_head * group + g;
    for (int64_t q = queries.begin / kQueryTile * kQueryTile; q < queries.end; q += kQueryTile) {
      const int64_t at = part.start + q, in_slab = (g * shape.tokens + at) * t.ld;
      range.query = q;
      range.queries = std::min(kQueryTile, part.length - q);
      QuerySide side{.query = t.query, .doutput = t.doutput, .dquery = nullptr};
      if (slab == nullptr) {
        PackQueries<T>(shape, b, at, head, range.queries, t.query, t.doutput);
      } else {
        side = {.query = slab + in_slab,
                .doutput = slab + slab_part + in_slab,
                .dquery = slab + 2 * slab_part + in_slab};
      }
      const int64_t statistic = head * shape.tokens + at;
      ScoreTile(t, side, scale, visibility, range, b.lse + statistic, b.delta + statistic);
      AddKeyGradients(t, side, visibility, range);
      if (side.dquery != nullptr) AddQueryGradient(t, visibility, range, side.dquery);
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
                  float* slab) {
  const int64_t ld = attention::PaddedWidth(shape.head_dim), group = shape.heads / shape.kv_heads;
  float* doutput = slab + SlabPartFloats(shape);
  float* dquery = doutput + SlabPartFloats(shape);
  for (int64_t g = 0; g < group; ++g) {
    const int64_t at = (g * shape.tokens + segment.start) * ld;
    PackQueries<T>(shape, b, segment.start, kv_head * group + g, segment.length, slab + at, doutput + at);
    std::fill_n(dquery + at, segment.length * ld, 0.0f);
  }
  for (int64_t begin = 0; begin < segment.length; begin += kKeyTile) {
    const Part part{segment.start, segment.length, begin, std::min(segment.length, begin + kKeyTile)};
    KeyBlock<T>(shape, b, part, kv_head, slab);
  }
  for (int64_t t = segment.start; t < segment.start + segment.length; ++t) {
    for (int64_t g = 0; g < group; ++g) {
      StoreRow(shape.head_dim, dquery + (g * shape.tokens + t) * ld, 1.0f,
               b.dq.data.as<T>() + t * b.dq.stride + (kv_head * group + g) * shape.head_dim);
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
  PackQueries<T>(shape, b, token, head, range.queries, t.query, t.doutput);
  const QuerySide side{.query = t.query, .doutput = t.doutput, .dquery = t.dquery};
  std::fill_n(t.dquery, kQueryTile * t.ld, 0.0f);
  const int64_t end = visibility.KeysOf(part.end - 1).end;
  for (int64_t key = visibility.KeysOf(part.begin).begin / kKeyTile * kKeyTile; key < end; key += kKeyTile) {
    range.key = key;
    range.keys = std::min(kKeyTile, part.length - key);
    PackKeys<T>(t, shape, b, part.start + key, kv_head, range.keys, true);
    ScoreTile(t, side, scale, visibility, range, b.lse + head * shape.tokens + token,
              b.delta + head * shape.tokens + token);
    AddQueryGradient(t, visibility, range, side.dquery);
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

// From which length on a segment is split. A whole-segment task costs about the square of its length; one
// that is a large part of a thread's share would leave the others waiting.
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
  std::stable_sort(wholes.begin(), wholes.end(),
                   [](const Part& x, const Part& y) { return x.length > y.length; });
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
      return WholeSegment<T>(shape, b, wholes[item / shape.kv_heads], kv_head,
                             b.slabs + slab * kSlabParts * SlabPartFloats(shape));
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

int64_t cpu::AttentionBackwardWorkspaceBytes(const Stream&, const AttentionShape& shape) {
  return (DeltaFloats(shape) + SlabCount(shape) * kSlabParts * SlabPartFloats(shape)) *
         static_cast<int64_t>(sizeof(float));
}

void cpu::AttentionBackward(const Stream&, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                            ConstHeads v, ConstHeads o, const float* lse, ConstHeads d_o, Heads dq, Heads dk,
                            Heads dv, void* workspace) {
  cpu::CheckElements(q.data.dtype, {k.data, v.data, o.data, d_o.data, dq.data, dk.data, dv.data});
  TANREN_KERNEL_CHECK(shape.heads % shape.kv_heads == 0);
  TANREN_KERNEL_CHECK(reinterpret_cast<uintptr_t>(workspace) % 64 == 0);
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
                          .slabs = static_cast<float*>(workspace) + DeltaFloats(shape)};
  HWY_DYNAMIC_DISPATCH(Backward)(shape, buffers);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
