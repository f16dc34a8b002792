// Softmax attention over packed rows (variable length), with grouped queries: query head h reads key/value
// head h / (heads / kv_heads). Forward and backward never hold the score matrix (Dao et al. 2022, 2023).
//
// A row of `tokens` is cut into segments by cu_seqlens [segments + 1] (cu_seqlens[0] = 0, last = tokens); a
// query sees keys of its own segment only, by `mask`. Scores are scale * q.k, soft-capped when asked
// (cap * tanh(s / cap)), computed and summed in fp32.
//
// Each (query token, head) sums over keys in blocks that start at its segment's begin, so its result does not
// depend on other segments, on where the segment stands in the row, or on the number of threads.
#ifndef TANREN_KERNELS_ATTENTION_H_
#define TANREN_KERNELS_ATTENTION_H_

#include <cstdint>

#include "kernels/rotary.h"
#include "kernels/types.h"

namespace tanren::kernels {

enum class AttentionMask : uint8_t { kCausal, kFull };

struct AttentionShape {
  int64_t tokens = 0;
  int64_t segments = 0;
  const int32_t* cu_seqlens = nullptr;  // [segments + 1]
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;  // 1..256
  float scale = 1;
  AttentionMask mask = AttentionMask::kCausal;
  int64_t window =
      0;  // > 0: a query sees itself and the window - 1 keys before it (and, with kFull, after it)
  float soft_cap = 0;  // 0: none
};

// Head h of token t starts at data + t * stride + h * head_dim.
struct ConstHeads {
  ConstBuffer data;
  int64_t stride = 0;
};
struct Heads {
  Buffer data;
  int64_t stride = 0;
};

// o = softmax(scores) v; lse [heads, tokens] = log-sum-exp of the scores (fp32), needed by the backward pass,
// may be null. q, k, v, o share one dtype (kF32 or kBF16).
void AttentionForward(const Stream& stream, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                      ConstHeads v, Heads o, float* lse);

// Bytes of workspace for AttentionBackward on the stream's device (a function of the shape's sizes and the
// thread count, not of the segments).
int64_t AttentionBackwardWorkspaceBytes(const Stream& stream, const AttentionShape& shape);

// dq, dk, dv are written (not accumulated). `workspace` is 64-byte aligned.
void AttentionBackward(const Stream& stream, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                       ConstHeads v, ConstHeads o, const float* lse, ConstHeads d_o, Heads dq, Heads dk,
                       Heads dv, void* workspace);

// Attention of new tokens over a key-value cache, for decoding and chunked prefill.
//
// Cache: k and v are [slots, kv_heads, max_tokens, head_dim], contiguous. Query token t belongs to slot
// slots[t] at position positions[t] and sees cache positions 0..positions[t] of its slot (less with
// `window`); slots[t] < 0 marks an idle row, whose output is zero. A row's result depends on its slot's
// contents only.
struct CachedAttentionShape {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_tokens = 0;
  const int32_t* slots = nullptr;      // [tokens]
  const int32_t* positions = nullptr;  // [tokens]
  float scale = 1;
  int64_t window = 0;
  float soft_cap = 0;
};
// Writes k, v of the new tokens into their cache places (idle rows are skipped).
void CacheAppend(const Stream& stream, const CachedAttentionShape& shape, ConstHeads k, ConstHeads v,
                 Buffer k_cache, Buffer v_cache);
// Rotary of the queries and keys of [query | key | value] rows (their stride is rotary.stride; the
// positions of both arguments are one array, valid for idle rows too), in place, and then CacheAppend of the
// keys and values: one kernel where the backend has it.
void RotaryAppend(const Stream& stream, const RotaryArgs& rotary, const CachedAttentionShape& shape,
                  Buffer qkv, Buffer k_cache, Buffer v_cache);
void CachedAttention(const Stream& stream, const CachedAttentionShape& shape, ConstHeads q,
                     ConstBuffer k_cache, ConstBuffer v_cache, Heads o);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_ATTENTION_H_
