// Backward attention for Hopper (after Shah et al. 2024): bf16, head sizes 64 and 128.
//
// A block owns a tile of 128 keys of one key/value head and walks over the queries that see them, head after
// head of its group. With scores S and probabilities P, per tile of queries it computes five products:
//
//   S^T = K Q^T        dP^T = V dO^T        P = exp(S - lse), dS = P (dP - dots)
//   dV += P^T dO       dK += dS^T Q         dQ += dS K
//
// Two warpgroups compute, 64 keys each. S and dP are taken transposed, so that P^T and dS^T come to lie in
// registers as the left operands of dV and dK. dS also goes through shared memory, since a row of dQ sums
// over the keys of both warpgroups; it is the one place of a step where they meet. dP is in the tensor cores'
// queue while P is computed, dV while dS goes to shared memory (with head size 64 while it is computed), and
// dK while dQ leaves.
//
// A third warpgroup serves: one warp loads (K and V once; Q, dO, lse and dots through a ring of two slots),
// two others add tiles of dQ to fp32 sums in the workspace by the bulk copy engine, taking turns so that the
// latency of one addition hides behind the next. dQ is converted to bf16 by a last kernel.
//
// Order of additions. The blocks that see a tile of queries add to it in the order of their keys: a counter
// for each tile of queries and head says how many have added, and each block waits for its turn; the first
// stores instead of adding. Blocks take their work by ticket, tiles of keys of a segment in ascending order,
// so a block waits only for blocks that run already, and the one of the lowest ticket for none. All of them
// walk the queries in descending order, so a block follows the one before it at the distance of one addition.
// In free order (TANREN_ATTENTION_FREE_ORDER=1) nobody waits and the sums depend on timing.
//
// Neighbours in the packed row. A tile may reach past its segment's end. What is there could be infinite, and
// P = 0 alone would not keep it out of a sum, so these rows of Q, dO and K are set to zero in shared memory;
// rows of V reach only rows of dP that are masked. Only rows of the own segment are written.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/attention_hopper_backward.cuh"
#include "kernels/cuda/attention_hopper_backward_compute.cuh"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/hopper_instructions.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {

// Named, as a compiler for another architecture would call device code without a name unused.
namespace hopper_backward {

template <int kHeadDim, bool kDeterministic, bool kSoftCap>
__global__ void __launch_bounds__(kThreads, 1)
    HopperBackwardKernel(const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                         const __grid_constant__ CUtensorMap v_map,
                         const __grid_constant__ CUtensorMap do_map, const __grid_constant__ Arguments a) {
#if TANREN_HOPPER_DEVICE
  using P = Plan<kHeadDim>;
  TANREN_DYNAMIC_SHARED(kTileAlignment, shared);
  Barriers& barriers = *reinterpret_cast<Barriers*>(shared + P::kBarriersAt);
  if (threadIdx.x == 0) {
    BarrierInit(&barriers.key, 1);
    BarrierInit(&barriers.value, 1);
    for (int slot = 0; slot < kSlots; ++slot) {
      BarrierInit(&barriers.query_full[slot], 1 + kWarp);  // the copy engine, and lse and dots
      BarrierInit(&barriers.query_empty[slot], kComputeWarps);
      BarrierInit(&barriers.output_gradient_full[slot], 1);
      BarrierInit(&barriers.output_gradient_empty[slot], kComputeWarps);
      BarrierInit(&barriers.query_gradient_full[slot], kComputeWarps);
      BarrierInit(&barriers.query_gradient_empty[slot], 1);
    }
    FenceBarrierInit();
    for (const CUtensorMap* map : {&q_map, &k_map, &v_map, &do_map}) PrefetchTensorMap(map);
    barriers.item = kDeterministic ? atomicAdd(a.ticket, 1) : static_cast<int>(blockIdx.x);
  }
  __syncthreads();
  const int item = barriers.item;
  if (item >= *a.tile_count * a.kv_heads) return;
  const Work work = WorkOf<P::kQueries>(a, item);
  const int warpgroup = __shfl_sync(kAllLanes, threadIdx.x / kWarpgroup, 0);
  if (warpgroup == 0) {
    GiveRegisters<kServingRegisters>();
    const int warp = __shfl_sync(kAllLanes, threadIdx.x / kWarp, 0), lane = threadIdx.x % kWarp;
    if (warp == 0) {
      Load<kHeadDim>(a, work, q_map, k_map, v_map, do_map, shared, barriers, lane);
    } else if (warp <= kSlots && lane == 0) {
      AddQueryGradients<kHeadDim, kDeterministic>(a, work, shared, barriers, warp - 1);
    }
  } else {
    TakeRegisters<kComputeRegisters>();
    Compute<kHeadDim, kSoftCap>(a, work, shared, barriers, warpgroup - 1, threadIdx.x % kWarpgroup);
  }
#endif
}

// dq = scale * the sums, 8 columns a thread, a head for each blockIdx.y.
inline constexpr int kConvertThreads = 256;
inline constexpr int kConvertColumns = 8;

template <int kHeadDim>
__global__ void __launch_bounds__(kConvertThreads)
    ConvertQueryGradientKernel(const float* sums, int64_t tokens, float scale, BFloat16* dq, int64_t stride) {
  constexpr int kVectors = kHeadDim / kConvertColumns;
  const int64_t i = int64_t{blockIdx.x} * kConvertThreads + threadIdx.x;
  const int64_t token = i / kVectors, head = blockIdx.y;
  if (token >= tokens) return;
  const int at = static_cast<int>(i % kVectors) * kConvertColumns;
  const float* line = sums + (head * tokens + token) * kHeadDim;
  // The exclusive or is its own inverse.
  const int column = QueryGradientColumn(static_cast<uint32_t>(token), at);
  const Vector<float> low = LoadVector(line + at);
  const Vector<float> high = LoadVector(line + at + Vector<float>::kCount);
  Vector<BFloat16> result;
#pragma unroll
  for (int e = 0; e < kConvertColumns; ++e) {
    const float sum = e < Vector<float>::kCount ? low.at[e] : high.at[e - Vector<float>::kCount];
    result.at[e] = FromFloat<BFloat16>(sum * scale);
  }
  StoreVector(dq + token * stride + head * kHeadDim + column, result);
}

}  // namespace hopper_backward

namespace {

using namespace hopper_backward;  // NOLINT: the vocabulary of this file

constexpr int64_t kGrain = 256;
int64_t Rounded(int64_t bytes) { return CeilDiv(bytes, kGrain) * kGrain; }

// The workspace: [tiles of keys, dots, turns and ticket, sums of dq].
struct Workspace {
  int64_t tiles_bytes, dots_bytes, turns_bytes, sums_bytes;
  explicit Workspace(const AttentionShape& shape)
      : tiles_bytes(Rounded(TileListBytes(shape, kKeys))),
        dots_bytes(Rounded(shape.heads * shape.tokens * int64_t{sizeof(float)})),
        turns_bytes(Rounded((shape.heads * shape.tokens + 1) * int64_t{sizeof(int)})),
        sums_bytes(shape.heads * shape.tokens * shape.head_dim * int64_t{sizeof(float)}) {}
  int64_t bytes() const { return tiles_bytes + dots_bytes + turns_bytes + sums_bytes; }
};

bool IsFreeOrder() {
  static const bool free_order = [] {
    const char* value = std::getenv("TANREN_ATTENTION_FREE_ORDER");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return free_order;
}

template <int kHeadDim, bool kDeterministic, bool kSoftCap>
void Launch(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
            const Arguments& arguments) {
  using P = Plan<kHeadDim>;
  const auto map_of = [&](const ConstHeads& heads, int64_t count, int rows) {
    return HeadsTensorMap(heads.data.data, heads.stride, shape.tokens, count, kHeadDim, rows);
  };
  const auto kernel = HopperBackwardKernel<kHeadDim, kDeterministic, kSoftCap>;
  TANREN_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes<kHeadDim>));
  const int64_t blocks = MaxTiles(shape.tokens, shape.segments, kKeys) * shape.kv_heads;
  LaunchInTurnWithMemory(stream, kernel, static_cast<unsigned>(blocks), kThreads, kSharedBytes<kHeadDim>,
                         map_of(operands.q, shape.heads, P::kQueries),
                         map_of(operands.k, shape.kv_heads, kKeys), map_of(operands.v, shape.kv_heads, kKeys),
                         map_of(operands.d_o, shape.heads, P::kQueries), arguments);
  const dim3 convert_blocks(
      static_cast<unsigned>(CeilDiv(shape.tokens * (kHeadDim / kConvertColumns), kConvertThreads)),
      static_cast<unsigned>(shape.heads));
  LaunchInTurn(stream, ConvertQueryGradientKernel<kHeadDim>, convert_blocks, kConvertThreads,
               arguments.dq_sum, shape.tokens, shape.scale, operands.dq.data.as<BFloat16>(),
               operands.dq.stride);
}

template <int kHeadDim>
void LaunchOf(const Stream& stream, const AttentionShape& shape, const AttentionOperands& operands,
              const Arguments& arguments) {
  const bool soft_cap = shape.soft_cap > 0;
  if (IsFreeOrder()) {
    soft_cap ? Launch<kHeadDim, false, true>(stream, shape, operands, arguments)
             : Launch<kHeadDim, false, false>(stream, shape, operands, arguments);
  } else {
    soft_cap ? Launch<kHeadDim, true, true>(stream, shape, operands, arguments)
             : Launch<kHeadDim, true, false>(stream, shape, operands, arguments);
  }
}

bool IsCompiledForDevice() {
  static const bool compiled = hopper::HasBody(HopperBackwardKernel<128, true, false>);
  return compiled;
}

}  // namespace

bool HopperAttentionBackwardSupports(const AttentionShape& shape, const AttentionOperands& operands) {
  if (shape.head_dim != 64 && shape.head_dim != 128) return false;
  const int64_t blocks = MaxTiles(shape.tokens, shape.segments, kKeys) * shape.kv_heads;
  constexpr int64_t kMaxHeads = 65535;  // blockIdx.y
  if (shape.tokens >= kFar || blocks > INT32_MAX || shape.heads > kMaxHeads) return false;
  for (const ConstHeads& heads : {operands.q, operands.k, operands.v, operands.d_o}) {
    if (heads.data.dtype != DType::kBF16) return false;
    if (!TensorMapSupports(heads.data.data, heads.stride, shape.head_dim)) return false;
  }
  constexpr int64_t kVector = Vector<BFloat16>::kCount;
  for (const Heads& heads : {operands.dq, operands.dk, operands.dv}) {
    if (heads.data.dtype != DType::kBF16) return false;
    if (!IsVectorAligned<BFloat16>(heads.data.data, heads.stride) || heads.stride % kVector != 0)
      return false;
  }
  const Architecture& architecture = CurrentArchitecture();
  constexpr int kHopper = 9;
  return architecture.major == kHopper && architecture.shared_memory_bytes >= kSharedBytes<64> &&
         architecture.shared_memory_bytes >= kSharedBytes<128> && IsCompiledForDevice();
}

int64_t HopperAttentionBackwardBytes(const AttentionShape& shape) { return Workspace(shape).bytes(); }

void HopperAttentionBackward(const Stream& stream, const AttentionShape& shape,
                             const AttentionOperands& operands, void* workspace) {
  if (shape.tokens == 0) return;
  const Workspace sizes(shape);
  char* tiles = static_cast<char*>(workspace);
  float* dots = reinterpret_cast<float*>(tiles + sizes.tiles_bytes);
  int* turns = reinterpret_cast<int*>(tiles + sizes.tiles_bytes + sizes.dots_bytes);
  float* sums = reinterpret_cast<float*>(tiles + sizes.tiles_bytes + sizes.dots_bytes + sizes.turns_bytes);
  AttentionRowDots(stream, shape, operands, dots);
  const AttentionTileList list = BuildTiles(stream, shape, kKeys, TileOrder::kKeys, tiles);
  if (IsFreeOrder()) {
    TANREN_CUDA(cudaMemsetAsync(sums, 0, sizes.sums_bytes, Handle(stream)));
  } else {
    TANREN_CUDA(cudaMemsetAsync(turns, 0, sizes.turns_bytes, Handle(stream)));
  }
  Arguments arguments;
  arguments.tiles = list.tiles;
  arguments.tile_count = list.count;
  arguments.ticket = turns + shape.heads * shape.tokens;
  arguments.turns = turns;
  arguments.lse = operands.lse;
  arguments.dots = dots;
  arguments.dq_sum = sums;
  arguments.dk = operands.dk.data.as<BFloat16>();
  arguments.dv = operands.dv.data.as<BFloat16>();
  arguments.dk_stride = operands.dk.stride;
  arguments.dv_stride = operands.dv.stride;
  arguments.tokens = shape.tokens;
  arguments.kv_heads = static_cast<int>(shape.kv_heads);
  arguments.group = static_cast<int>(shape.heads / shape.kv_heads);
  arguments.window = static_cast<int>(std::min(shape.window, shape.tokens));
  arguments.causal = shape.mask == AttentionMask::kCausal;
  arguments.scale = shape.scale;
  arguments.soft_cap = shape.soft_cap;
  if (shape.head_dim == 128) {
    LaunchOf<128>(stream, shape, operands, arguments);
  } else {
    LaunchOf<64>(stream, shape, operands, arguments);
  }
}

}  // namespace tanren::kernels::cuda
