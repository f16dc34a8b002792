// Writes the keys and values of new tokens to their places in a key-value cache, whole words a thread.
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
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
  AppendKernel<Word><<<grid, kAppendThreads, 0, Handle(stream)>>>(args, k.data.as<Word>(), v.data.as<Word>(),
                                                                  k_cache.as<Word>(), v_cache.as<Word>());
  TANREN_CUDA_LAUNCHED();
}

}  // namespace

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
