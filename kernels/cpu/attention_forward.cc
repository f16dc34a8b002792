// Forward attention over packed rows: tasks are (part of a segment, key/value head). The query heads that
// share the key/value head are rows of one tile, which passes over its keys once.
#include <algorithm>

#include "kernels/attention.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/element.h"
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
void ForwardPart(const AttentionShape& shape, const attention::Part& part, int64_t kv_head, ConstHeads q,
                 ConstHeads k, ConstHeads v, Heads o, float* lse) {
  const int64_t width = shape.head_dim, group = shape.heads / shape.kv_heads, first_head = kv_head * group;
  const attention::Visibility visibility{shape.mask, shape.window, part.length};
  const ScoreScale scale(shape.scale, shape.soft_cap);
  const int64_t tokens = part.end - part.begin;
  QueryRows query(tokens * group, width);
  query.Reset(tokens * group);
  for (int64_t t = 0; t < tokens; ++t) {
    const T* heads = q.data.as<T>() + (part.start + part.begin + t) * q.stride + first_head * width;
    PackRows(group, width, heads, width, scale.factor, query.query + t * group * query.ld, query.ld);
    const attention::Range keys = visibility.KeysOf(part.begin + t);
    std::fill_n(query.first + t * group, group, keys.begin);
    std::fill_n(query.last + t * group, group, keys.end);
  }
  AttendRows(query, scale, k.data.as<T>() + part.start * k.stride + kv_head * width, k.stride,
             v.data.as<T>() + part.start * v.stride + kv_head * width, v.stride);
  for (int64_t row = 0; row < tokens * group; ++row) {
    const int64_t token = part.start + part.begin + row / group, head = first_head + row % group;
    FinishRow(query, row, o.data.as<T>() + token * o.stride + head * width,
              lse == nullptr ? nullptr : lse + head * shape.tokens + token);
  }
}

// Tokens a tile. Large tiles read and pack each block of keys less often, as long as the tile's queries and
// outputs fit the second-level cache; smaller ones leave enough tasks to share out.
int64_t QueryTile(const AttentionShape& shape) {
  constexpr int64_t kFloats = 1 << 16;
  const int64_t group = shape.heads / shape.kv_heads;
  int64_t rows = kFloats / attention::PaddedWidth(shape.head_dim);
  const auto tasks = [&] { return shape.tokens * group / rows * shape.kv_heads; };
  while (rows > 4 * kRowBlock && cpu::MaxThreads() > 1 && tasks() < 4 * cpu::MaxThreads()) rows /= 2;
  return std::max<int64_t>(1, rows / group);
}

void Forward(const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v, Heads o, float* lse) {
  const std::vector<attention::Part> parts =
      attention::CutSegments(shape, QueryTile(shape), [](int64_t) { return true; });
  const int64_t count = parts.size();
  // The last parts of a causal segment see the most keys: they go first.
  cpu::ParallelItems(count * shape.kv_heads, [&](int64_t item) {
    const attention::Part& part = parts[count - 1 - item / shape.kv_heads];
    const int64_t kv_head = item % shape.kv_heads;
    if (q.data.dtype == DType::kBF16) {
      ForwardPart<BFloat16>(shape, part, kv_head, q, k, v, o, lse);
    } else {
      ForwardPart<float>(shape, part, kv_head, q, k, v, o, lse);
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

void cpu::AttentionForward(const Stream&, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                           ConstHeads v, Heads o, float* lse) {
  cpu::CheckElements(q.data.dtype, {k.data, v.data, o.data});
  TANREN_KERNEL_CHECK(shape.heads % shape.kv_heads == 0);
  HWY_DYNAMIC_DISPATCH(Forward)(shape, q, k, v, o, lse);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
