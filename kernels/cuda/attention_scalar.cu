// Attention in plain fp32 arithmetic: any head size, any alignment, fp32 and bf16 operands. It serves fp32
// training, and whatever the tensor-core kernels do not take.
//
// A block of threads owns a tile of rows of one head, kept in shared memory: of queries in the forward pass
// and for dq, of keys for dk and dv. It walks over the other side's rows in tiles of 64, of which it stages
// slabs of 64 columns. Two products are all there is (Dao et al. 2022, 2023):
//
//   AddScores   scores[own row][other row] += sum over a slab's columns of own * staged
//   AddMix      out[own row][slab column] += sum over the other rows of weight * staged
//
// Eight neighbouring threads share own rows: each has the scores of eight of the 64 other rows, and eight
// columns of each slab of the output. The weights (probabilities, or their gradients) pass between the eight
// through shared memory that belongs to their warp. A backward pass is two kernels, so that no two blocks add
// to one place: the first gives dk and dv, adding the query heads of a group in order; the second gives dq.
// Both compute the scores again and take the probabilities from lse. Tiles without a visible pair are
// skipped. All positions count from the segment's begin, and rows past its end are staged as zeros, so a
// segment's result depends on nothing outside it.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_scalar.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

using namespace scalar;  // NOLINT: the vocabulary of this file

// --- Forward. ---

template <class T>
struct ForwardArgs {
  Sizes sizes;
  Matrix<const T> q, k, v;
  Matrix<T> o;
  float* lse = nullptr;
};

// Turns scores into weights and moves the rows' maxima and sums. The sums are of this thread's part.
template <int kRows, int kSlabs>
__device__ __forceinline__ void SoftmaxTile(Scores<kRows>& scores, float (&maximum)[kRows],
                                            float (&sum)[kRows], Scores<kRows> (&out)[kSlabs]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float largest = scores[r][0];
#pragma unroll
    for (int i = 1; i < kPerThread; ++i) largest = fmaxf(largest, scores[r][i]);
    const float now = fmaxf(maximum[r], RowMax(largest));
    // A row that has seen no key yet keeps weights of zero (2^-inf), not the NaN of inf - inf.
    const float shift = now == kNone ? 0.0f : now;
    const float rescale = exp2f(maximum[r] - shift);
    maximum[r] = now;
    sum[r] *= rescale;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      scores[r][i] = exp2f(scores[r][i] - shift);
      sum[r] += scores[r][i];
    }
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) out[slab][r][i] *= rescale;
    }
  }
}

template <class T, int kRows, int kSlabs>
__global__ __launch_bounds__(kThreads, kSlabs > 2 ? 1 : 2) void ForwardKernel(const ForwardArgs<T> args) {
  using Tile = Tiling<kRows, kSlabs>;
  TANREN_DYNAMIC_SHARED(16, shared);
  float* const own = reinterpret_cast<float*>(shared);
  float* const weights = own + Tile::kOwnFloats;
  float* const stage = weights + Tile::kWeightFloats;
  const Sizes& sizes = args.sizes;
  const int index = blockIdx.x / sizes.heads;
  const int head = blockIdx.x % sizes.heads;
  if (index >= *sizes.list.count) return;
  const Place place = PlaceOf(sizes.list.tiles[index], Tile::kOwnRows);
  const Visibility visibility{sizes.causal, sizes.window, place.length};
  const int d = sizes.head_dim;
  const int64_t kv_offset = int64_t{head / (sizes.heads / sizes.kv_heads)} * d;
  const T* const k = args.k.data + place.start * args.k.stride + kv_offset;
  const T* const v = args.v.data + place.start * args.v.stride + kv_offset;
  const int64_t q_offset = int64_t{head} * d;
  LoadOwn<Tile>(args.q, args.q.data + place.start * args.q.stride + q_offset, place, d, own);

  const ThreadPlace<kRows> thread;
  const float* const mine = own + thread.template Own<Tile::kWidth>();
  float maximum[kRows], sum[kRows] = {};
  Scores<kRows> out[kSlabs];
#pragma unroll
  for (int r = 0; r < kRows; ++r) maximum[r] = kNone;
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) Clear<kRows>(out[slab]);

  const int last = place.first + place.rows - 1;
  const int end = visibility.EndOfKeys(last);
  for (int key = visibility.FirstKey(place.first) / kTile * kTile; key < end; key += kTile) {
    Scores<kRows> scores;
    Clear<kRows>(scores);
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.k, k, key, place.length, slab, d, stage);
      AddScores<kRows, Tile::kWidth>(thread, mine + slab * kSlab * kRowGroup, stage, scores);
    }
    ToScores<kRows>(sizes, scores);
    if (!visibility.SeesAll(place.first, last, key, key + kTile - 1)) {
      Hide<kRows>(scores, [&](int r, int i) {
        return visibility.Sees(place.first + thread.Row(r), key + thread.Other(i));
      });
    }
    SoftmaxTile<kRows, kSlabs>(scores, maximum, sum, out);
    ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) { *weight = scores[r][i]; });
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.v, v, key, place.length, slab, d, stage);
      AddMix<kRows>(thread, weights, stage, out[slab]);
    }
  }

  float inverse[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float total = RowSum(sum[r]);
    inverse[r] = 1 / total;
    const int row = thread.Row(r);
    if (args.lse != nullptr && thread.part == 0 && row < place.rows) {
      args.lse[head * sizes.tokens + place.start + place.first + row] = (maximum[r] + log2f(total)) * kLn2;
    }
  }
  StoreOwn<kRows, kSlabs>(thread, args.o, args.o.data + place.start * args.o.stride + q_offset, place, d,
                          inverse, out);
}

// --- Backward. ---

template <class T>
struct BackwardArgs {
  Sizes sizes;  // its list is of queries for dq, of keys for dk and dv
  Matrix<const T> q, k, v, d_o;
  Matrix<T> dq, dk, dv;
  const float* lse = nullptr;
  const float* dots = nullptr;
};

// The derivative of a capped score by the uncapped one, from the score's weight: the score's own registers
// are free by the time it is needed. A weight of zero has no gradient anyway.
__device__ __forceinline__ float SlopeOfWeight(const Sizes& sizes, float weight, float lse_log2) {
  if (sizes.cap_log2 <= 0 || weight <= 0) return 1;
  const float t = (log2f(weight) + lse_log2) / sizes.cap_log2;
  return fmaf(-t, t, 1.0f);
}

// Floats of lse and of the row sums, of a tile's queries.
constexpr int kQueryFloats = 2 * kTile;

template <class T, int kRows, int kSlabs>
__global__ __launch_bounds__(kThreads,
                             kSlabs > 2 ? 1 : 2) void KeyGradientKernel(const BackwardArgs<T> args) {
  using Tile = Tiling<kRows, kSlabs>;
  TANREN_DYNAMIC_SHARED(16, shared);
  float* const own_k = reinterpret_cast<float*>(shared);
  float* const own_v = own_k + Tile::kOwnFloats;
  float* const weights = own_v + Tile::kOwnFloats;
  float* const stage = weights + Tile::kWeightFloats;
  float* const lse_log2 = stage + kStageFloats;
  float* const dots = lse_log2 + kTile;
  const Sizes& sizes = args.sizes;
  const int index = blockIdx.x / sizes.kv_heads;
  const int kv_head = blockIdx.x % sizes.kv_heads;
  if (index >= *sizes.list.count) return;
  const Place place = PlaceOf(sizes.list.tiles[index], Tile::kOwnRows);
  const Visibility visibility{sizes.causal, sizes.window, place.length};
  const int d = sizes.head_dim;
  const int64_t kv_offset = int64_t{kv_head} * d;
  LoadOwn<Tile>(args.k, args.k.data + place.start * args.k.stride + kv_offset, place, d, own_k);
  LoadOwn<Tile>(args.v, args.v.data + place.start * args.v.stride + kv_offset, place, d, own_v);

  const ThreadPlace<kRows> thread;
  const float* const my_k = own_k + thread.template Own<Tile::kWidth>();
  const float* const my_v = own_v + thread.template Own<Tile::kWidth>();
  Scores<kRows> dk[kSlabs], dv[kSlabs];
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) Clear<kRows>(dk[slab]), Clear<kRows>(dv[slab]);

  const int last = place.first + place.rows - 1;
  const int begin = visibility.FirstQuery(place.first) / kTile * kTile;
  const int end = visibility.EndOfQueries(last);
  const int group = sizes.heads / sizes.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const T* const q = args.q.data + place.start * args.q.stride + head * d;
    const T* const d_o = args.d_o.data + place.start * args.d_o.stride + head * d;
    const int64_t row_values = head * sizes.tokens + place.start;
    for (int query = begin; query < end; query += kTile) {
      // Before the barriers of the staging; the last tile's readers are behind a barrier too.
      if (threadIdx.x < kTile) {
        const int row = query + threadIdx.x;
        const bool exists = row < place.length;
        lse_log2[threadIdx.x] = exists ? args.lse[row_values + row] * kLog2E : 0.0f;
        dots[threadIdx.x] = exists ? args.dots[row_values + row] : 0.0f;
      }
      Scores<kRows> scores;
      Clear<kRows>(scores);
#pragma unroll 1
      for (int slab = 0; slab < kSlabs; ++slab) {
        Stage(args.q, q, query, place.length, slab, d, stage);
        AddScores<kRows, Tile::kWidth>(thread, my_k + slab * kSlab * kRowGroup, stage, scores);
      }
      ToScores<kRows>(sizes, scores);
      if (query + kTile > place.length || !visibility.SeesAll(query, query + kTile - 1, place.first, last)) {
        Hide<kRows>(scores, [&](int r, int i) {
          const int row = query + thread.Other(i);
          return row < place.length && visibility.Sees(row, place.first + thread.Row(r));
        });
      }
      ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) {
        *weight = exp2f(scores[r][i] - lse_log2[thread.Other(i)]);
      });
      Scores<kRows> gradients;
      Clear<kRows>(gradients);
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        Stage(args.d_o, d_o, query, place.length, slab, d, stage);
        AddScores<kRows, Tile::kWidth>(thread, my_v + slab * kSlab * kRowGroup, stage, gradients);
        AddMix<kRows>(thread, weights, stage, dv[slab]);
      }
      ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) {
        const float slope = SlopeOfWeight(sizes, *weight, lse_log2[thread.Other(i)]);
        *weight *= (gradients[r][i] - dots[thread.Other(i)]) * slope;
      });
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        Stage(args.q, q, query, place.length, slab, d, stage);
        AddMix<kRows>(thread, weights, stage, dk[slab]);
      }
    }
  }

  float scales[kRows], ones[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) scales[r] = sizes.scale, ones[r] = 1;
  StoreOwn<kRows, kSlabs>(thread, args.dk, args.dk.data + place.start * args.dk.stride + kv_offset, place, d,
                          scales, dk);
  StoreOwn<kRows, kSlabs>(thread, args.dv, args.dv.data + place.start * args.dv.stride + kv_offset, place, d,
                          ones, dv);
}

template <class T, int kRows, int kSlabs>
__global__ __launch_bounds__(kThreads,
                             kSlabs > 2 ? 1 : 2) void QueryGradientKernel(const BackwardArgs<T> args) {
  using Tile = Tiling<kRows, kSlabs>;
  TANREN_DYNAMIC_SHARED(16, shared);
  float* const own_q = reinterpret_cast<float*>(shared);
  float* const own_d_o = own_q + Tile::kOwnFloats;
  float* const weights = own_d_o + Tile::kOwnFloats;
  float* const stage = weights + Tile::kWeightFloats;
  const Sizes& sizes = args.sizes;
  const int index = blockIdx.x / sizes.heads;
  const int head = blockIdx.x % sizes.heads;
  if (index >= *sizes.list.count) return;
  const Place place = PlaceOf(sizes.list.tiles[index], Tile::kOwnRows);
  const Visibility visibility{sizes.causal, sizes.window, place.length};
  const int d = sizes.head_dim;
  const int64_t q_offset = int64_t{head} * d;
  const int64_t kv_offset = int64_t{head / (sizes.heads / sizes.kv_heads)} * d;
  const T* const k = args.k.data + place.start * args.k.stride + kv_offset;
  const T* const v = args.v.data + place.start * args.v.stride + kv_offset;
  LoadOwn<Tile>(args.q, args.q.data + place.start * args.q.stride + q_offset, place, d, own_q);
  LoadOwn<Tile>(args.d_o, args.d_o.data + place.start * args.d_o.stride + q_offset, place, d, own_d_o);

  const ThreadPlace<kRows> thread;
  const float* const my_q = own_q + thread.template Own<Tile::kWidth>();
  const float* const my_d_o = own_d_o + thread.template Own<Tile::kWidth>();
  float lse_log2[kRows], dots[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = thread.Row(r);
    const int64_t at = head * sizes.tokens + place.start + place.first + row;
    lse_log2[r] = row < place.rows ? args.lse[at] * kLog2E : 0.0f;
    dots[r] = row < place.rows ? args.dots[at] : 0.0f;
  }
  Scores<kRows> dq[kSlabs];
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) Clear<kRows>(dq[slab]);

  const int last = place.first + place.rows - 1;
  const int end = visibility.EndOfKeys(last);
  for (int key = visibility.FirstKey(place.first) / kTile * kTile; key < end; key += kTile) {
    Scores<kRows> scores, gradients;
    Clear<kRows>(scores), Clear<kRows>(gradients);
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.v, v, key, place.length, slab, d, stage);
      AddScores<kRows, Tile::kWidth>(thread, my_d_o + slab * kSlab * kRowGroup, stage, gradients);
    }
#pragma unroll 1
    for (int slab = 0; slab < kSlabs; ++slab) {
      Stage(args.k, k, key, place.length, slab, d, stage);
      AddScores<kRows, Tile::kWidth>(thread, my_q + slab * kSlab * kRowGroup, stage, scores);
    }
    ToScores<kRows>(sizes, scores);
    if (!visibility.SeesAll(place.first, last, key, key + kTile - 1)) {
      Hide<kRows>(scores, [&](int r, int i) {
        return visibility.Sees(place.first + thread.Row(r), key + thread.Other(i));
      });
    }
    ForWeights<kRows>(thread, weights, [&](int r, int i, float* weight) {
      const float probability = exp2f(scores[r][i] - lse_log2[r]);
      *weight = probability * (gradients[r][i] - dots[r]) * SlopeOfWeight(sizes, probability, lse_log2[r]);
    });
    // The last slab of k is still staged.
    AddMix<kRows>(thread, weights, stage, dq[kSlabs - 1]);
#pragma unroll
    for (int slab = 0; slab < kSlabs - 1; ++slab) {
      Stage(args.k, k, key, place.length, slab, d, stage);
      AddMix<kRows>(thread, weights, stage, dq[slab]);
    }
  }

  float scales[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) scales[r] = sizes.scale;
  StoreOwn<kRows, kSlabs>(thread, args.dq, args.dq.data + place.start * args.dq.stride + q_offset, place, d,
                          scales, dq);
}

// --- Launchers. ---

// Own rows of a thread, by the slabs of a head: as many as shared memory and registers hold.
template <int kSlabs>
constexpr int kForwardRows = kSlabs == 1 ? 4 : 2;
template <int kSlabs>
constexpr int kBackwardRows = kSlabs <= 2 ? 2 : 1;

int SlabsOf(int64_t head_dim) { return head_dim <= kSlab ? 1 : head_dim <= 2 * kSlab ? 2 : 4; }

// Calls launch with the number of slabs as a constant.
template <class Launch>
auto ForSlabs(int64_t head_dim, const Launch& launch) {
  switch (SlabsOf(head_dim)) {
    case 1:
      return launch(std::integral_constant<int, 1>());
    case 2:
      return launch(std::integral_constant<int, 2>());
    default:
      return launch(std::integral_constant<int, 4>());
  }
}

int64_t ForwardTileRows(int64_t head_dim) {
  return ForSlabs(head_dim, [](auto slabs) { return Tiling<kForwardRows<slabs>, slabs>::kOwnRows; });
}
int64_t BackwardTileRows(int64_t head_dim) {
  return ForSlabs(head_dim, [](auto slabs) { return Tiling<kBackwardRows<slabs>, slabs>::kOwnRows; });
}

Sizes SizesOf(const AttentionShape& shape) {
  // A window as long as the row is none.
  const bool windowed = shape.window > 0 && shape.window < shape.tokens;
  return {.tokens = shape.tokens,
          .heads = static_cast<int>(shape.heads),
          .kv_heads = static_cast<int>(shape.kv_heads),
          .head_dim = static_cast<int>(shape.head_dim),
          .scale = shape.scale,
          .factor = shape.soft_cap > 0 ? shape.scale / shape.soft_cap : shape.scale * kLog2E,
          .cap_log2 = shape.soft_cap > 0 ? shape.soft_cap * kLog2E : 0.0f,
          .causal = shape.mask == AttentionMask::kCausal,
          .window = windowed ? static_cast<int>(shape.window) : 0,
          .list = {}};
}

template <class T>
Matrix<const T> MatrixOf(const ConstHeads& heads, int64_t head_dim) {
  const T* data = heads.data.as<T>();
  return {data, heads.stride, IsPacked<kQuad>(data, heads.stride) && head_dim % kQuad == 0};
}
template <class T>
Matrix<T> MatrixOf(const Heads& heads, int64_t head_dim) {
  T* data = heads.data.as<T>();
  return {data, heads.stride, IsPacked<kQuad>(data, heads.stride) && head_dim % kQuad == 0};
}

template <class Args>
void Launch(const Stream& stream, void (*kernel)(Args), int64_t blocks, int shared_bytes, const Args& args) {
  TANREN_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  LaunchInTurnWithMemory(stream, kernel, static_cast<unsigned>(blocks), kThreads, shared_bytes, args);
}

template <class T>
void ForwardAs(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands) {
  const int64_t rows = ForwardTileRows(shape.head_dim);
  const int64_t d = shape.head_dim;
  void* memory = Scratch(stream, TileListBytes(shape, rows));
  ForwardArgs<T> args{.sizes = SizesOf(shape),
                      .q = MatrixOf<T>(operands.q, d),
                      .k = MatrixOf<T>(operands.k, d),
                      .v = MatrixOf<T>(operands.v, d),
                      .o = MatrixOf<T>(operands.o, d),
                      .lse = operands.lse};
  args.sizes.list = BuildTiles(stream, shape, rows, TileOrder::kQueries, memory);
  const int64_t blocks = MaxTiles(shape.tokens, shape.segments, rows) * shape.heads;
  ForSlabs(d, [&](auto slabs) {
    constexpr int kSlabs = slabs;
    constexpr int kRows = kForwardRows<kSlabs>;
    constexpr int kBytes = Tiling<kRows, kSlabs>::Bytes(1, 0);
    static_assert(kBytes <= kSharedBytes);
    Launch(stream, ForwardKernel<T, kRows, kSlabs>, blocks, kBytes, args);
  });
}

// The workspace: the row sums, then the tile lists of dk and dv and of dq.
struct Workspace {
  explicit Workspace(const AttentionShape& shape) {
    constexpr int64_t kAlignment = 256;
    const int64_t rows = BackwardTileRows(shape.head_dim);
    key_list = CeilDiv(shape.heads * shape.tokens * int64_t{sizeof(float)}, kAlignment) * kAlignment;
    query_list = key_list + TileListBytes(shape, rows);
    bytes = query_list + TileListBytes(shape, rows);
  }
  int64_t key_list, query_list, bytes;
};

template <class T>
void BackwardAs(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
                void* workspace) {
  const int64_t rows = BackwardTileRows(shape.head_dim);
  const int64_t d = shape.head_dim;
  const Workspace layout(shape);
  char* const base = static_cast<char*>(workspace);
  float* const dots = reinterpret_cast<float*>(base);
  AttentionRowDots(stream, shape, operands, dots);
  BackwardArgs<T> args{.sizes = SizesOf(shape),
                       .q = MatrixOf<T>(operands.q, d),
                       .k = MatrixOf<T>(operands.k, d),
                       .v = MatrixOf<T>(operands.v, d),
                       .d_o = MatrixOf<T>(operands.d_o, d),
                       .dq = MatrixOf<T>(operands.dq, d),
                       .dk = MatrixOf<T>(operands.dk, d),
                       .dv = MatrixOf<T>(operands.dv, d),
                       .lse = operands.lse,
                       .dots = dots};
  const int64_t tiles = MaxTiles(shape.tokens, shape.segments, rows);
  ForSlabs(d, [&](auto slabs) {
    constexpr int kSlabs = slabs;
    constexpr int kRows = kBackwardRows<kSlabs>;
    constexpr int kKeyBytes = Tiling<kRows, kSlabs>::Bytes(2, kQueryFloats);
    constexpr int kQueryBytes = Tiling<kRows, kSlabs>::Bytes(2, 0);
    static_assert(kKeyBytes <= kSharedBytes);
    args.sizes.list = BuildTiles(stream, shape, rows, TileOrder::kKeys, base + layout.key_list);
    Launch(stream, KeyGradientKernel<T, kRows, kSlabs>, tiles * shape.kv_heads, kKeyBytes, args);
    args.sizes.list = BuildTiles(stream, shape, rows, TileOrder::kQueries, base + layout.query_list);
    Launch(stream, QueryGradientKernel<T, kRows, kSlabs>, tiles * shape.heads, kQueryBytes, args);
  });
}

}  // namespace

bool ScalarAttentionSupports(const AttentionShape&, const AttentionOperands&) { return true; }

void ScalarAttentionForward(const Stream& stream, const AttentionShape& shape,
                            const AttentionOperands& operands) {
  if (shape.tokens == 0) return;
  if (operands.q.data.dtype == DType::kBF16) {
    ForwardAs<BFloat16>(stream, shape, operands);
  } else {
    ForwardAs<float>(stream, shape, operands);
  }
}

int64_t ScalarAttentionBackwardBytes(const AttentionShape& shape) { return Workspace(shape).bytes; }

void ScalarAttentionBackward(const Stream& stream, const AttentionShape& shape,
                             const AttentionOperands& operands, void* workspace) {
  if (shape.tokens == 0) return;
  if (operands.q.data.dtype == DType::kBF16) {
    BackwardAs<BFloat16>(stream, shape, operands, workspace);
  } else {
    BackwardAs<float>(stream, shape, operands, workspace);
  }
}

}  // namespace tanren::kernels::cuda
