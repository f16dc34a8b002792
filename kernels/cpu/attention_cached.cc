// Attention over a key-value cache: tasks are (run of tokens of one slot, key/value head). The query heads
// that share the key/value head are rows of one tile, so that each block of keys is packed once for all of
// them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/attention.h"
#include "kernels/backend.h"
#include "kernels/cpu/element.h"
#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_cached.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
// After highway.h:
#include "kernels/cpu/attention_rows-inl.h"

#ifndef TANREN_KERNELS_CPU_ATTENTION_CACHED_CC_
#define TANREN_KERNELS_CPU_ATTENTION_CACHED_CC_
namespace tanren::kernels {
namespace {
struct TokenRun {
  int64_t begin = 0;
  int64_t end = 0;
};
}  // namespace
}  // namespace tanren::kernels
#endif  // TANREN_KERNELS_CPU_ATTENTION_CACHED_CC_

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

template <class T>
void AttendRun(const CachedAttentionShape& shape, TokenRun run, int64_t kv_head, ConstHeads q,
               ConstBuffer k_cache, ConstBuffer v_cache, Heads o) {
  const int64_t width = shape.head_dim, group = shape.heads / shape.kv_heads;
  const int64_t first_head = kv_head * group, tokens = run.end - run.begin;
  const ScoreScale scale(shape.scale, shape.soft_cap);
  QueryRows query(tokens * group, width);
  query.Reset(tokens * group);
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t token = run.begin + t, position = shape.positions[token];
    PackRows(group, width, q.data.as<T>() + token * q.stride + first_head * width, width, scale.factor,
             query.query + t * group * query.ld, query.ld);
    const int64_t first = shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
    std::fill_n(query.first + t * group, group, first);
    std::fill_n(query.last + t * group, group, position + 1);
  }
  const int64_t cache = (shape.slots[run.begin] * shape.kv_heads + kv_head) * shape.max_tokens * width;
  AttendRows(query, scale, k_cache.as<T>() + cache, width, v_cache.as<T>() + cache, width);
  for (int64_t row = 0; row < tokens * group; ++row) {
    const int64_t token = run.begin + row / group, head = first_head + row % group;
    FinishRow<T>(query, row, o.data.as<T>() + token * o.stride + head * width, nullptr);
  }
}

void Attend(const CachedAttentionShape& shape, const std::vector<TokenRun>& runs, ConstHeads q,
            ConstBuffer k_cache, ConstBuffer v_cache, Heads o) {
  const int64_t count = runs.size();
  cpu::ParallelItems(count * shape.kv_heads, [&](int64_t item) {
    const TokenRun run = runs[count - 1 - item / shape.kv_heads];
    const int64_t kv_head = item % shape.kv_heads;
    if (q.data.dtype == DType::kBF16) {
      AttendRun<BFloat16>(shape, run, kv_head, q, k_cache, v_cache, o);
    } else {
      AttendRun<float>(shape, run, kv_head, q, k_cache, v_cache, o);
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
HWY_EXPORT(Attend);

// A tile's rows are the run's tokens times the query heads that share a key/value head.
constexpr int64_t kRowsPerRun = 192;

// Neighbouring tokens of one slot, at most `longest` in a run. Idle rows are in none.
std::vector<TokenRun> RunsOf(const CachedAttentionShape& shape, int64_t longest) {
  std::vector<TokenRun> runs;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    if (shape.slots[t] < 0) continue;
    const bool joins = !runs.empty() && runs.back().end == t && shape.slots[t - 1] == shape.slots[t] &&
                       t - runs.back().begin < longest;
    if (joins) {
      runs.back().end = t + 1;
    } else {
      runs.push_back({t, t + 1});
    }
  }
  return runs;
}
}  // namespace

void cpu::CacheAppend(const Stream&, const CachedAttentionShape& shape, ConstHeads k, ConstHeads v,
                      Buffer k_cache, Buffer v_cache) {
  cpu::CheckElements(k_cache.dtype, {v_cache, k.data, v.data});
  const int64_t bytes = shape.head_dim * SizeOf(k_cache.dtype);
  cpu::ParallelRange(shape.tokens, 32, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (shape.slots[t] < 0) continue;
      for (int64_t head = 0; head < shape.kv_heads; ++head) {
        const int64_t place =
            ((shape.slots[t] * shape.kv_heads + head) * shape.max_tokens + shape.positions[t]) * bytes;
        const int64_t element = SizeOf(k_cache.dtype);
        std::memcpy(k_cache.as<char>() + place, k.data.as<char>() + t * k.stride * element + head * bytes,
                    bytes);
        std::memcpy(v_cache.as<char>() + place, v.data.as<char>() + t * v.stride * element + head * bytes,
                    bytes);
      }
    }
  });
}

void cpu::RotaryAppend(const Stream& stream, const RotaryArgs& rotary, const CachedAttentionShape& shape,
                       Buffer qkv, Buffer k_cache, Buffer v_cache) {
  TANREN_KERNEL_CHECK(rotary.tokens == shape.tokens && rotary.heads == shape.heads + shape.kv_heads &&
                      rotary.head_dim == shape.head_dim && rotary.positions == shape.positions);
  const auto head = [&](int64_t index) {
    const int64_t bytes = index * shape.head_dim * SizeOf(qkv.dtype);
    return ConstHeads{ConstBuffer(qkv.as<char>() + bytes, qkv.dtype), rotary.stride};
  };
  cpu::Rotary(stream, rotary, qkv, false);
  cpu::CacheAppend(stream, shape, head(shape.heads), head(rotary.heads), k_cache, v_cache);
}

void cpu::CachedAttention(const Stream&, const CachedAttentionShape& shape, ConstHeads q, ConstBuffer k_cache,
                          ConstBuffer v_cache, Heads o) {
  cpu::CheckElements(q.data.dtype, {k_cache, v_cache, o.data});
  TANREN_KERNEL_CHECK(shape.heads % shape.kv_heads == 0);
  const int64_t row_bytes = shape.heads * shape.head_dim * SizeOf(o.data.dtype);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    if (shape.slots[t] >= 0) continue;
    std::memset(o.data.as<char>() + t * o.stride * SizeOf(o.data.dtype), 0, row_bytes);
  }
  const int64_t longest = std::max<int64_t>(1, kRowsPerRun / (shape.heads / shape.kv_heads));
  HWY_DYNAMIC_DISPATCH(Attend)(shape, RunsOf(shape, longest), q, k_cache, v_cache, o);
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
