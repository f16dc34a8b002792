// Writes the keys and values of new tokens to their places in a key-value cache, whole words a thread; where
// positions are rotary, on the way from the rotation.
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/rotary.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels {
namespace cuda {
namespace {

constexpr int kAppendThreads = 256;

struct AppendArgs {
  int64_t kv_heads = 0;
  int64_t max_tokens = 0;
  const int32_t* slots = nullptr;
  const int32_t* positions = nullptr;
  // In words:
  int words = 0;  // of a head
  int64_t k_stride = 0;
  int64_t v_stride = 0;
};

template <class Word>
__global__ __launch_bounds__(kAppendThreads) void AppendKernel(const AppendArgs args, const Word* k,
                                                               const Word* v, Word* k_cache, Word* v_cache) {
  AwaitEarlierKernels();
  const int64_t token = blockIdx.x;
  const int64_t slot = args.slots[token];
  if (slot < 0) return;
  const int64_t at = int64_t{blockIdx.y} * kAppendThreads + threadIdx.x;
  if (at >= args.kv_heads * args.words) return;
  const int64_t head = at / args.words;
  const int64_t place =
      ((slot * args.kv_heads + head) * args.max_tokens + args.positions[token]) * args.words +
      at % args.words;
  const Word key = k[token * args.k_stride + at];
  const Word value = v[token * args.v_stride + at];
  k_cache[place] = key;
  v_cache[place] = value;
}

template <class Word>
void LaunchAppend(const Stream& stream, const CachedAttentionShape& shape, ConstHeads k, ConstHeads v,
                  Buffer k_cache, Buffer v_cache) {
  const int64_t per_word = static_cast<int64_t>(sizeof(Word)) / SizeOf(k_cache.dtype);
  const AppendArgs args{.kv_heads = shape.kv_heads,
                        .max_tokens = shape.max_tokens,
                        .slots = shape.slots,
                        .positions = shape.positions,
                        .words = static_cast<int>(shape.head_dim / per_word),
                        .k_stride = k.stride / per_word,
                        .v_stride = v.stride / per_word};
  const dim3 grid(static_cast<unsigned>(shape.tokens),
                  static_cast<unsigned>(CeilDiv(shape.kv_heads * args.words, kAppendThreads)));
  LaunchChained(stream, AppendKernel<Word>, grid, kAppendThreads, args, k.data.as<Word>(), v.data.as<Word>(),
                k_cache.as<Word>(), v_cache.as<Word>());
}

// A thread takes a pack of pairs of one head, of queries, keys or values, as Rotary does: elements [j, j +
// kCount) of the first half and their partners in the second. Queries and keys are turned in place.
template <class T, int kCount>
__global__ __launch_bounds__(kAppendThreads) void RotaryAppendKernel(const RotaryArgs rotary,
                                                                     const CachedAttentionShape shape, T* qkv,
                                                                     T* k_cache, T* v_cache) {
  AwaitEarlierKernels();
  const int64_t half = shape.head_dim / 2, half_packs = half / kCount;
  const int64_t units = (rotary.heads + shape.kv_heads) * half_packs;  // of a token
  const int64_t unit = int64_t{blockIdx.x} * kAppendThreads + threadIdx.x;
  const int64_t token = unit / units;
  if (token >= shape.tokens) return;
  const int64_t head = unit % units / half_packs, pair = unit % half_packs * kCount;
  T* const from = qkv + token * rotary.stride + head * shape.head_dim + pair;
  Pack<T, kCount> first = LoadPack<kCount>(from), second = LoadPack<kCount>(from + half);
  const int64_t position = shape.positions[token], slot = shape.slots[token];
  if (head < rotary.heads) {
    float cosine[kCount], sine[kCount];
    LoadAngles(rotary.cosine + position * half + pair, cosine);
    LoadAngles(rotary.sine + position * half + pair, sine);
    Turn(cosine, sine, first, second);
    StorePack(from, first);
    StorePack(from + half, second);
  }
  if (head < shape.heads || slot < 0) return;
  const bool is_key = head < rotary.heads;
  const int64_t kv_head = head - (is_key ? shape.heads : rotary.heads);
  T* const to = (is_key ? k_cache : v_cache) +
                ((slot * shape.kv_heads + kv_head) * shape.max_tokens + position) * shape.head_dim + pair;
  StorePack(to, first);
  StorePack(to + half, second);
}

// False: not in whole packs.
template <class T>
bool LaunchRotaryAppend(const Stream& stream, const RotaryArgs& rotary, const CachedAttentionShape& shape,
                        Buffer qkv, Buffer k_cache, Buffer v_cache) {
  constexpr int n = kPackOf<T>;
  const int64_t half = shape.head_dim / 2;
  if (!IsPacked<n>(qkv.as<T>(), rotary.stride) || !IsPacked<n>(k_cache.as<T>(), half) ||
      !IsPacked<n>(v_cache.as<T>(), half) || !IsPacked<kAnglePack>(rotary.cosine, half) ||
      !IsPacked<kAnglePack>(rotary.sine, half)) {
    return false;
  }
  const int64_t units = shape.tokens * (rotary.heads + shape.kv_heads) * (half / n);
  LaunchChained(stream, RotaryAppendKernel<T, n>, static_cast<unsigned>(CeilDiv(units, kAppendThreads)),
                kAppendThreads, rotary, shape, qkv.as<T>(), k_cache.as<T>(), v_cache.as<T>());
  return true;
}

}  // namespace

void RotaryAppend(const Stream& stream, const RotaryArgs& rotary, const CachedAttentionShape& shape,
                  Buffer qkv, Buffer k_cache, Buffer v_cache) {
  TANREN_CUDA_REQUIRE(rotary.tokens == shape.tokens && rotary.heads == shape.heads + shape.kv_heads &&
                      rotary.head_dim == shape.head_dim && rotary.positions == shape.positions &&
                      shape.head_dim % 2 == 0);
  TANREN_CUDA_REQUIRE(IsF32OrBF16(qkv.dtype) && k_cache.dtype == qkv.dtype && v_cache.dtype == qkv.dtype);
  if (shape.tokens == 0) return;
  const bool done = qkv.dtype == DType::kF32
                        ? LaunchRotaryAppend<float>(stream, rotary, shape, qkv, k_cache, v_cache)
                        : LaunchRotaryAppend<BFloat16>(stream, rotary, shape, qkv, k_cache, v_cache);
  if (done) return;
  const auto head = [&](int64_t index) {
    const int64_t bytes = index * shape.head_dim * SizeOf(qkv.dtype);
    return ConstHeads{ConstBuffer(qkv.as<char>() + bytes, qkv.dtype), rotary.stride};
  };
  cuda::Rotary(stream, rotary, qkv, false);
  cuda::CacheAppend(stream, shape, head(shape.heads), head(rotary.heads), k_cache, v_cache);
}

void CacheAppend(const Stream& stream, const CachedAttentionShape& shape, ConstHeads k, ConstHeads v,
                 Buffer k_cache, Buffer v_cache) {
  if (shape.tokens == 0) return;
  const int64_t element = SizeOf(k_cache.dtype);
  TANREN_CUDA_REQUIRE(k.data.dtype == k_cache.dtype && v.data.dtype == k_cache.dtype &&
                      v_cache.dtype == k_cache.dtype && (element == 2 || element == 4));
  const auto is_aligned = [&](const void* data, int64_t stride) {
    return reinterpret_cast<uintptr_t>(data) % sizeof(uint4) == 0 && stride * element % sizeof(uint4) == 0;
  };
  const int64_t d = shape.head_dim;
  if (is_aligned(k.data.data, k.stride) && is_aligned(v.data.data, v.stride) && is_aligned(k_cache.data, d) &&
      is_aligned(v_cache.data, d)) {
    LaunchAppend<uint4>(stream, shape, k, v, k_cache, v_cache);
  } else if (element == 2) {
    LaunchAppend<uint16_t>(stream, shape, k, v, k_cache, v_cache);
  } else {
    LaunchAppend<uint32_t>(stream, shape, k, v, k_cache, v_cache);
  }
}

}  // namespace cuda
}  // namespace tanren::kernels
