// Attention over a key-value cache, whose time is that of reading the cache.
//
// The keys of a slot are cut into chunks of 256 from position 0 on. For each chunk a block of threads takes
// up to eight query rows at once: the query heads that share a key/value head, and where those are few, also
// neighbouring tokens of one slot, so that a prompt is not read once for each of its tokens. It goes in three
// steps:
//   scores    Key groups of 8 to 32 neighbouring threads read a key each, a thread eight of its elements, and
//             add their parts of its products with the rows.
//   weights   A warp turns a row's scores into weights.
//   mix       Key groups read the values and sum them with the weights, each over its own keys; then the sums
//             of the groups are added.
// The chunks' results join in the order of the chunks. Either one block walks over all chunks of its rows and
// joins them as it goes, or, when there are too few rows to fill the machine, the chunks are dealt out to
// several blocks, which leave their results in scratch memory for a second kernel. The host cannot know the
// positions, so it chooses by the number of rows, and a block finds its chunks itself.
//
// Which thread adds which keys and in which order depends on the keys' positions alone, both ways of joining
// chunks round alike, and a row's arithmetic does not depend on the rows beside it: a row's result is a
// function of its slot's contents, bit for bit.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/attention_cached.cuh"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels {
namespace cuda {
namespace {

using namespace cached;  // NOLINT: the vocabulary of this file

// kPacked: keys and values can be read in whole vectors.
template <class T, class G, bool kPacked>
__global__ __launch_bounds__(kThreads, kPacked ? G::kBlocksPerProcessor
                                               : 2) void CachedKernel(const CachedArgs<T> args) {
  __shared__ SharedState<G> shared;
  AwaitEarlierKernels();
  int64_t block = blockIdx.x;
  const int share = static_cast<int>(block % args.shares);
  block /= args.shares;
  const int pass = static_cast<int>(block % args.passes);
  block /= args.passes;
  const int kv_head = static_cast<int>(block % args.kv_heads);
  const int64_t token = block / args.kv_heads;
  const int32_t slot = args.slots[token];
  const int group = args.heads / args.kv_heads;
  Rows rows{token, 0, pass * G::kMostRows, group, kv_head * group};
  if (slot < 0) {
    if (args.shares > 1) return;  // the second kernel's
    const int columns = min(G::kMostRows, group - rows.offset) * args.head_dim;
    const int64_t first_head = rows.first_head + rows.offset;
    T* const o = args.o + token * args.o_stride + first_head * args.head_dim;
    for (int column = threadIdx.x; column < columns; column += kThreads) o[column] = FromFloat<T>(0);
    return;
  }
  // Of neighbouring tokens of one slot, the block of the first takes them all; runs do not reach over
  // multiples of args.run, so that a block finds its run from a few slots.
  const int64_t run_begin = token - token % args.run;
  if (token > run_begin && args.slots[token - 1] == slot) return;
  const int64_t run_end = min(run_begin + args.run, args.tokens);
  int run = 1;
  while (token + run < run_end && args.slots[token + run] == slot) ++run;
  rows.count = min(G::kMostRows, run * group - rows.offset);

  // The sizes worth code of their own: a query head for each key/value head, and two; four serve fewer where
  // eight would be usual.
  if constexpr (kPacked && G::kMostRows == 4) {
    if (rows.count == 1) return Attend<1, kPacked>(args, rows, slot, kv_head, share, shared);
    if (rows.count == 2) return Attend<2, kPacked>(args, rows, slot, kv_head, share, shared);
  } else if constexpr (kPacked) {
    if (rows.count <= 4) return Attend<4, kPacked>(args, rows, slot, kv_head, share, shared);
  }
  Attend<G::kMostRows, kPacked>(args, rows, slot, kv_head, share, shared);
}

// Joins the chunks of a (token, head).
template <class T>
__global__ void JoinChunksKernel(const CachedArgs<T> args) {
  constexpr int kAhead = 4;
  AwaitEarlierKernels();
  const int64_t row = blockIdx.x;
  const int64_t token = row / args.heads;
  const int column = threadIdx.x;
  if (column >= args.head_dim) return;
  T* const o = args.o + token * args.o_stride + row % args.heads * args.head_dim + column;
  if (args.slots[token] < 0) {
    *o = FromFloat<T>(0);
    return;
  }
  const int position = args.positions[token];
  const int first = args.window > 0 ? max(0, position - args.window + 1) : 0;
  const int last_chunk = position / kChunk;
  const float* const partial = args.partial + row * args.chunks * args.head_dim + column;
  const float2* const weights = args.partial_weights + row * args.chunks;
  RowState state = {kNone, 0};
  float out = 0;
  for (int chunk = first / kChunk; chunk <= last_chunk; chunk += kAhead) {
    float sums[kAhead];
    float2 states[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (chunk + a > last_chunk) continue;
      sums[a] = partial[int64_t{chunk + a} * args.head_dim];
      states[a] = weights[chunk + a];
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (chunk + a > last_chunk) continue;
      float old_factor, new_factor;
      JoinStates(&state, RowState{states[a].x, states[a].y}, &old_factor, &new_factor);
      out = JoinSums(out, old_factor, sums[a], new_factor);
    }
  }
  *o = FromFloat<T>(__fdiv_rn(out, state.total));
}

template <class T, class G>
void LaunchCached(const Stream& stream, CachedArgs<T> args) {
  const int group = args.heads / args.kv_heads;
  args.run = std::max(1, G::kMostRows / group);
  args.passes = static_cast<int>(CeilDiv(group, G::kMostRows));
  const int64_t blocks = args.tokens * args.kv_heads * args.passes;
  // Enough blocks to fill the machine once, as long as their partial results stay small.
  const int64_t wanted = CurrentArchitecture().multiprocessors * G::kBlocksPerProcessor;
  args.shares = static_cast<int>(std::min(args.chunks, CeilDiv(wanted, blocks)));
  const int64_t places = args.tokens * args.heads * args.chunks;
  const int64_t partial_bytes = places * args.head_dim * int64_t{sizeof(float)};
  const int64_t weight_bytes = places * int64_t{sizeof(float2)};
  if (partial_bytes + weight_bytes > kMostPartialBytes) args.shares = 1;
  if (args.shares > 1) {
    char* const memory = static_cast<char*>(Scratch(stream, partial_bytes + weight_bytes));
    args.partial_weights = reinterpret_cast<float2*>(memory);
    args.partial = reinterpret_cast<float*>(memory + weight_bytes);
  }
  const auto is_packed = [&](const T* data) {
    return IsVectorAligned<T>(data, args.head_dim) && args.head_dim % kLaneElements == 0;
  };
  const auto kernel =
      is_packed(args.k) && is_packed(args.v) ? CachedKernel<T, G, true> : CachedKernel<T, G, false>;
  LaunchChained(stream, kernel, static_cast<unsigned>(blocks * args.shares), kThreads, args);
  if (args.shares > 1) {
    const int threads = static_cast<int>(CeilDiv(args.head_dim, kWarp) * kWarp);
    LaunchChained(stream, JoinChunksKernel<T>, static_cast<unsigned>(args.tokens * args.heads), threads,
                  args);
  }
}

template <class T>
void CachedAs(const Stream& stream, const CachedAttentionShape& shape, ConstHeads q, ConstBuffer k_cache,
              ConstBuffer v_cache, Heads o) {
  // A window as long as the cache is none.
  const bool windowed = shape.window > 0 && shape.window < shape.max_tokens;
  CachedArgs<T> args;
  args.tokens = shape.tokens;
  args.max_tokens = shape.max_tokens;
  args.chunks = CeilDiv(shape.max_tokens, kChunk);
  args.heads = static_cast<int>(shape.heads);
  args.kv_heads = static_cast<int>(shape.kv_heads);
  args.head_dim = static_cast<int>(shape.head_dim);
  args.window = windowed ? static_cast<int>(shape.window) : 0;
  args.factor = shape.soft_cap > 0 ? shape.scale / shape.soft_cap : shape.scale * kLog2E;
  args.cap_log2 = shape.soft_cap > 0 ? shape.soft_cap * kLog2E : 0.0f;
  args.slots = shape.slots;
  args.positions = shape.positions;
  args.q = q.data.as<T>();
  args.q_stride = q.stride;
  args.k = k_cache.as<T>();
  args.v = v_cache.as<T>();
  args.o = o.data.as<T>();
  args.o_stride = o.stride;
  // Eight rows only where they spare a second reading of the keys: they leave room for fewer blocks.
  const bool few = args.heads / args.kv_heads <= 4;
  if (args.head_dim <= Geometry<8, 4>::kWidth) {
    return few ? LaunchCached<T, Geometry<8, 4>>(stream, args)
               : LaunchCached<T, Geometry<8, 8>>(stream, args);
  }
  if (args.head_dim <= Geometry<16, 4>::kWidth) {
    return few ? LaunchCached<T, Geometry<16, 4>>(stream, args)
               : LaunchCached<T, Geometry<16, 8>>(stream, args);
  }
  LaunchCached<T, Geometry<32, 4>>(stream, args);
}

}  // namespace

void CachedAttention(const Stream& stream, const CachedAttentionShape& shape, ConstHeads q,
                     ConstBuffer k_cache, ConstBuffer v_cache, Heads o) {
  if (shape.tokens == 0) return;
  constexpr int64_t kLargestHead = Geometry<32, 4>::kWidth;
  TANREN_CUDA_REQUIRE(shape.heads % shape.kv_heads == 0 && shape.head_dim >= 1 &&
                      shape.head_dim <= kLargestHead);
  TANREN_CUDA_REQUIRE(k_cache.dtype == q.data.dtype && v_cache.dtype == q.data.dtype &&
                      o.data.dtype == q.data.dtype);
  if (q.data.dtype == DType::kBF16) {
    CachedAs<BFloat16>(stream, shape, q, k_cache, v_cache, o);
  } else {
    TANREN_CUDA_REQUIRE(q.data.dtype == DType::kF32);
    CachedAs<float>(stream, shape, q, k_cache, v_cache, o);
  }
}

}  // namespace cuda
}  // namespace tanren::kernels
