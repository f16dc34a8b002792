// Forward attention over packed rows: tasks are (part of a segment, query head), each a tile of query rows that
// passes over its keys once.
#include <algorithm>

#include "kernels/attention.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_forward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/attention_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void ForwardPart(const AttentionShape& shape, const attention::Part& part, int64_t head, ConstHeads q, ConstHeads k,
                 ConstHeads v, Heads o, float* lse) {
  const int64_t width = shape.head_dim;
  const int64_t kv_head = head / (shape.heads / shape.kv_heads);
  const attention::Visibility visibility{shape.mask, shape.window, part.length};
  const ScoreScale scale(shape.scale, shape.soft_cap);
  const int64_t rows = part.end - part.begin, token = part.start + part.begin;
  QueryRows query(rows, width);
  query.Reset(rows);
  PackRows(rows, width, q.data.as<T>() + token * q.stride + head * width, q.stride, scale.factor, query.query,
           query.ld);
  for (int64_t r = 0; r < rows; ++r) {
    const attention::Range keys = visibility.KeysOf(part.begin + r);
    query.first[r] = keys.begin;
    query.last[r] = keys.end;
  }
  AttendRows(query, scale, k.data.as<T>() + part.start * k.stride + kv_head * width, k.stride,
             v.data.as<T>() + part.start * v.stride + kv_head * width, v.stride);
  for (int64_t r = 0; r < rows; ++r) {
    FinishRow(query, r, o.data.as<T>() + (token + r) * o.stride + head * width,
              lse == nullptr ? nullptr : lse + head * shape.tokens + token + r);
  }
}

// Larger tiles pack each block of keys less often; smaller ones leave more tasks to share.
int64_t QueryTile(const AttentionShape& shape) {
  constexpr int64_t kLargest = 32 * kRowBlock;
  int64_t tile = kLargest;
  while (tile > 4 * kRowBlock && shape.tokens / tile * shape.heads < 4 * cpu::MaxThreads()) tile /= 2;
  return tile;
}

void Forward(const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v, Heads o, float* lse) {
  const std::vector<attention::Part> parts =
      attention::CutSegments(shape, QueryTile(shape), [](int64_t) { return true; });
  const int64_t count = parts.size();
  // The last parts of a causal segment see the most keys: they go first.
  cpu::ParallelItems(count * shape.heads, [&](int64_t item) {
    const attention::Part& part = parts[count - 1 - item / shape.heads];
    const int64_t head = item % shape.heads;
    if (q.data.dtype == DType::kBF16) {
      ForwardPart<BFloat16>(shape, part, head, q, k, v, o, lse);
    } else {
      ForwardPart<float>(shape, part, head, q, k, v, o, lse);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {
HWY_EXPORT(Forward);
}  // namespace

void AttentionForward(const Stream&, const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v, Heads o,
                      float* lse) {
  HWY_DYNAMIC_DISPATCH(Forward)(shape, q, k, v, o, lse);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
