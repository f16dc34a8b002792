// Backward attention for Hopper: the computing warpgroups. The whole is described in
// attention_hopper_backward.cu.
#ifndef TANREN_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_COMPUTE_CUH_
#define TANREN_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_COMPUTE_CUH_

#include <climits>
#include <cstdint>

#include "kernels/cuda/attention_hopper_backward.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/hopper_backward.cuh"
#include "kernels/cuda/hopper_instructions.cuh"

namespace tanren::kernels::cuda::hopper_backward {

// Sets rows first .. rows - 1 of a tile in panels to zero, by all computing threads.
template <int kPanels, int kRows>
__device__ __forceinline__ void ClearRows(unsigned char* tile, int first, int thread) {
  constexpr int kChunks = kPanelRowBytes / 16;
  const int chunks = (kRows - first) * kChunks;
#pragma unroll 1
  for (int panel = 0; panel < kPanels; ++panel) {
    unsigned char* at = tile + panel * kRows * kPanelRowBytes + first * kPanelRowBytes;
#pragma unroll 1
    for (int i = thread; i < chunks; i += kComputeThreads) *reinterpret_cast<uint4*>(at + i * 16) = uint4{};
  }
  FenceAsyncProxy();
  NamedSync(kComputeBarrier, kComputeThreads);
}

// d[64 x 64] = a[64, head_dim] b[64, head_dim]^T, both K-major in panels.
template <int kPanels>
__device__ __forceinline__ void MultiplyRows(float (&d)[kScores], uint64_t a, uint64_t b, int a_panel_bytes,
                                             int b_panel_bytes) {
#pragma unroll
  for (int panel = 0; panel < kPanels; ++panel) {
#pragma unroll
    for (int k = 0; k < kStepsOfInner; ++k) {
      WgmmaSS<false, false>(d, Advance(a, panel * a_panel_bytes + k * kKMajorStepBytes),
                            Advance(b, panel * b_panel_bytes + k * kKMajorStepBytes), panel + k > 0);
    }
  }
}

// The same with the rows of a in registers (one panel).
__device__ __forceinline__ void MultiplyFragments(float (&d)[kScores], const uint32_t (&a)[kScores / 2],
                                                  uint64_t b) {
#pragma unroll
  for (int k = 0; k < kStepsOfInner; ++k) {
    WgmmaRS<false>(d, a[4 * k], a[4 * k + 1], a[4 * k + 2], a[4 * k + 3], Advance(b, k * kKMajorStepBytes),
                   k > 0);
  }
}

// d[64, head_dim] += a[64, 64 queries] b[64 queries, head_dim], a in registers.
template <int kCount>
__device__ __forceinline__ void AddProduct(float (&d)[kCount], const uint32_t (&a)[kScores / 2], uint64_t b,
                                           int accumulate) {
#pragma unroll
  for (int k = 0; k < kStepsOfInner; ++k) {
    WgmmaRS<true>(d, a[4 * k], a[4 * k + 1], a[4 * k + 2], a[4 * k + 3], Advance(b, k * kMnMajorStepBytes),
                  k > 0 || accumulate);
  }
}

// Stores a warpgroup's [64, head_dim] sums as bf16 rows of global memory, through its own rows of the tile at
// `staging` (which nothing reads any more). Rows at or past `rows` are left out.
template <int kHeadDim>
__device__ __forceinline__ void StoreRows(const float (&sums)[kHeadDim / 2], float factor,
                                          unsigned char* staging, int warpgroup, int thread, BFloat16* to,
                                          int64_t stride, int rows) {
  using P = Plan<kHeadDim>;
  const int warp = thread / kWarp, lane = thread % kWarp;
#pragma unroll
  for (int k = 0; k < kHeadDim / kWgmmaInner; ++k) {
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      words[w] = PackBf16(sums[8 * k + 2 * w] * factor, sums[8 * k + 2 * w + 1] * factor);
    }
    const uint32_t panel = k / kStepsOfInner * P::kKeyPanelBytes;
    StoreMatrix4(SharedAddress(staging) + panel +
                     StoreMatrixOffset(warpgroup * kPartRows, warp, lane, k % kStepsOfInner),
                 words[0], words[1], words[2], words[3]);
  }
  NamedSync(kWarpgroupBarrier + warpgroup, kWarpgroup);
  constexpr int kChunkElements = 8, kChunks = kHeadDim / kChunkElements;
#pragma unroll
  for (int i = thread; i < kPartRows * kChunks; i += kWarpgroup) {
    const int row = i / kChunks, column = i % kChunks * kChunkElements;
    if (row < rows) {
      const uint4 chunk =
          *reinterpret_cast<const uint4*>(staging + TileOffset(warpgroup * kPartRows + row, column, kKeys));
      *reinterpret_cast<uint4*>(to + row * stride + column) = chunk;
    }
  }
  NamedSync(kWarpgroupBarrier + warpgroup, kWarpgroup);
}

// Element i of a thread's accumulator of S^T belongs to the key KeyOf(i) and the query QueryOf(i) after its
// first.
__device__ constexpr int KeyOf(int i) { return AccumulatorRow(0, i); }
__device__ constexpr int QueryOf(int i) { return AccumulatorColumn(0, i); }

// Absolute error some 1e-7; right at both infinities.
__device__ __forceinline__ float Tanh(float x) { return 1 - 2 * Reciprocal(Exp2(x * (2 * kLog2E)) + 1); }

// P in place of S. lse: that of the thread's first query.
__device__ __forceinline__ void Probabilities(float scale_log2, const float* lse, float (&scores)[kScores]) {
#pragma unroll
  for (int c = 0; c < kScores; c += 4) {
    const float2 two = *reinterpret_cast<const float2*>(lse + QueryOf(c));
    const float lse_log2[2] = {two.x * kLog2E, two.y * kLog2E};
#pragma unroll
    for (int i = c; i < c + 4; ++i) scores[i] = Exp2(scores[i] * scale_log2 - lse_log2[i % 2]);
  }
}
// dS in place of dP.
__device__ __forceinline__ void ScoreGradients(const float* dots, const float (&p)[kScores],
                                               float (&gradient)[kScores]) {
#pragma unroll
  for (int c = 0; c < kScores; c += 4) {
    const float2 two = *reinterpret_cast<const float2*>(dots + QueryOf(c));
#pragma unroll
    for (int i = c; i < c + 4; ++i) gradient[i] = p[i] * (gradient[i] - (i % 2 == 0 ? two.x : two.y));
  }
}
// Both with a soft cap.
__device__ __forceinline__ void CappedProbabilities(float scale, float cap, const float* lse,
                                                    const float* dots, float (&scores)[kScores],
                                                    float (&gradient)[kScores]) {
#pragma unroll
  for (int c = 0; c < kScores; c += 4) {
    const float2 two_lse = *reinterpret_cast<const float2*>(lse + QueryOf(c));
    const float2 two_dots = *reinterpret_cast<const float2*>(dots + QueryOf(c));
#pragma unroll
    for (int i = c; i < c + 4; ++i) {
      const float tanh = Tanh(scores[i] * (scale / cap));
      scores[i] = Exp2((tanh * cap - (i % 2 == 0 ? two_lse.x : two_lse.y)) * kLog2E);
      gradient[i] = scores[i] * (gradient[i] - (i % 2 == 0 ? two_dots.x : two_dots.y)) * (1 - tanh * tanh);
    }
  }
}

// Query q sees key k if after <= q - k <= before.
struct Visibility {
  int before, after;
  __device__ __forceinline__ explicit Visibility(const Arguments& a)
      : before(a.window > 0 ? a.window - 1 : kFar), after(a.causal ? 0 : -before) {}
};

// Sets P to zero where the query does not see the key, or either lies past the segment's end. key, query: the
// thread's first.
__device__ __forceinline__ void Mask(const Visibility& sees, int length, int key, int query,
                                     float (&p)[kScores]) {
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    const int k = key + KeyOf(i), q = query + QueryOf(i);
    const int low = k < length ? k + sees.after : INT_MAX;
    const int high = min(k + sees.before, length - 1);
    if (q < low || q > high) p[i] = 0;
  }
}

// A computing warpgroup's part in a block.
template <int kHeadDim, bool kSoftCap>
__device__ __forceinline__ void Compute(const Arguments& a, const Work& work, unsigned char* shared,
                                        Barriers& barriers, int warpgroup, int thread) {
  using P = Plan<kHeadDim>;
  const int warp = thread / kWarp, lane = thread % kWarp;
  const int compute_thread = warpgroup * kWarpgroup + thread;
  const uint32_t base = SharedAddress(shared);
  const uint32_t own_rows = warpgroup * kPartRows * kPanelRowBytes;
  const uint64_t key_rows = KMajorDescriptor(base + P::kKeyAt + own_rows);
  const uint64_t value_rows = KMajorDescriptor(base + P::kValueAt + own_rows);
  const uint64_t query_rows = KMajorDescriptor(base + P::kQueryAt);
  const uint64_t output_gradient_rows = KMajorDescriptor(base + P::kOutputGradientAt);
  const uint64_t queries = MnMajorDescriptor(base + P::kQueryAt, P::kQueryPanelBytes);
  const uint64_t output_gradients = MnMajorDescriptor(base + P::kOutputGradientAt, P::kQueryPanelBytes);
  // dQ: two parts of the queries are shared out by part, one by columns.
  const uint64_t score_gradients = MnMajorDescriptor(
      base + P::kScoreGradientAt + (P::kParts > 1 ? warpgroup * P::kKeyPanelBytes : 0), P::kKeyPanelBytes);
  const uint64_t keys = MnMajorDescriptor(
      base + P::kKeyAt + (P::kPanels > 1 ? warpgroup * P::kKeyPanelBytes : 0), P::kKeyPanelBytes);
  // dS is stored at these addresses, the k-th 16 columns with bits 5 and 6 xored with k.
  const uint32_t score_gradient_store =
      base + P::kScoreGradientAt + StoreMatrixOffset(warpgroup * kPartRows, warp, lane, 0);

  const int first_key = work.key + warpgroup * kPartRows;
  const int key_row = AccumulatorRow(thread, 0);          // and 8 further
  const int query_column = AccumulatorColumn(thread, 0);  // and 1 further, and 8 further, ...
  const Visibility sees(a);

  float scores[kScores], score_gradient[kScores];
  float(&dq)[kScores] = score_gradient;  // dP has gone to ds_fragment by then
  uint32_t p_fragment[kScores / 2], ds_fragment[kScores / 2];
  float dk[P::kGradients], dv[P::kGradients];

  QueryTile at(work);
  RingPosition<kSlots> ring;

  // Of a step's tile of queries; the rows past the segment's end become zero.
  const auto clear_rows_behind = [&](int tile_at) {
    const int rows = work.length - at.tile * P::kQueries;
    if (rows < P::kQueries) ClearRows<P::kPanels, P::kQueries>(shared + tile_at, rows, compute_thread);
  };
  Wait(&barriers.key, 0);
  if (work.length - work.key < kKeys) {
    ClearRows<P::kPanels, kKeys>(shared + P::kKeyAt, work.length - work.key, compute_thread);
  }
  Wait(&barriers.value, 0);
  uint32_t key_fragment[kScores / 2], value_fragment[kScores / 2];
  if constexpr (P::kKeysInRegisters) {
#pragma unroll
    for (int k = 0; k < kStepsOfInner; ++k) {
      const uint32_t at = base + StoreMatrixOffset(warpgroup * kPartRows, warp, lane, k);
      LoadMatrix4(at + P::kKeyAt, key_fragment[4 * k], key_fragment[4 * k + 1], key_fragment[4 * k + 2],
                  key_fragment[4 * k + 3]);
      LoadMatrix4(at + P::kValueAt, value_fragment[4 * k], value_fragment[4 * k + 1],
                  value_fragment[4 * k + 2], value_fragment[4 * k + 3]);
    }
  }

  int step = 0;
#pragma unroll 1
  do {
    const int slot = ring.slot;
    const float* statistics =
        reinterpret_cast<const float*>(shared + P::kStatisticsAt + slot * P::kStatisticsBytes) + query_column;
    Wait(&barriers.query_full[slot], ring.parity);
    clear_rows_behind(P::kQueryAt + slot * P::kQueryBytes);
    Wait(&barriers.output_gradient_full[slot], ring.parity);
    clear_rows_behind(P::kOutputGradientAt + slot * P::kQueryBytes);
#pragma unroll
    for (int part = 0; part < P::kParts; ++part) {
      const uint32_t part_at = slot * P::kQueryBytes + part * kPartRows * kPanelRowBytes;
      const int first_query = at.tile * P::kQueries + part * kPartRows;
      const int distance = first_query - first_key;
      const bool masked = distance - (kPartRows - 1) < sees.after ||
                          distance + (kPartRows - 1) > sees.before || first_query + kPartRows > work.length ||
                          first_key + kPartRows > work.length;

      WgmmaFence();
      if constexpr (P::kKeysInRegisters) {
        MultiplyFragments(scores, key_fragment, Advance(query_rows, part_at));
        WgmmaCommit();
        MultiplyFragments(score_gradient, value_fragment, Advance(output_gradient_rows, part_at));
      } else {
        MultiplyRows<P::kPanels>(scores, key_rows, Advance(query_rows, part_at), P::kKeyPanelBytes,
                                 P::kQueryPanelBytes);
        WgmmaCommit();
        MultiplyRows<P::kPanels>(score_gradient, value_rows, Advance(output_gradient_rows, part_at),
                                 P::kKeyPanelBytes, P::kQueryPanelBytes);
      }
      WgmmaCommit();
      if constexpr (kSoftCap) {
        WgmmaWait<0>();
        FenceRegisters(score_gradient);
      } else {
        WgmmaWait<1>();
      }
      FenceRegisters(scores);
      if (part == 0 && step > 0) {
        // The queries of the step before were in use by dK until now.
        __syncwarp();
        if (lane == 0) Arrive(&barriers.query_empty[slot ^ 1]);
      }

      const float* lse = statistics + part * kPartRows;
      const float* dots = lse + P::kQueries;
      if constexpr (kSoftCap) {
        CappedProbabilities(a.scale, a.soft_cap, lse, dots, scores, score_gradient);
      } else {
        Probabilities(a.scale * kLog2E, lse, scores);
      }
      if (masked) Mask(sees, work.length, first_key + key_row, first_query + query_column, scores);

      const auto add_value_gradient = [&] {
        WgmmaFence();
        AddProduct(dv, p_fragment, Advance(output_gradients, part_at), part > 0 || step > 0);
        WgmmaCommit();
      };
      if constexpr (P::kEarlyValueGradient) {
        PackFragment(scores, p_fragment);
        add_value_gradient();
      }
      if constexpr (!kSoftCap) {
        WgmmaWait<P::kEarlyValueGradient ? 1 : 0>();
        FenceRegisters(score_gradient);
        ScoreGradients(dots, scores, score_gradient);
      }
      if (masked) {
        // dP may be anything there, and 0 * inf is not 0.
#pragma unroll
        for (int i = 0; i < kScores; ++i) score_gradient[i] = scores[i] == 0 ? 0 : score_gradient[i];
      }
      if constexpr (!P::kEarlyValueGradient) PackFragment(scores, p_fragment);
      PackFragment(score_gradient, ds_fragment);
      if constexpr (!P::kEarlyValueGradient) add_value_gradient();
#pragma unroll
      for (int k = 0; k < kStepsOfInner; ++k) {
        StoreMatrix4(
            (score_gradient_store + slot * P::kScoreGradientBytes + part * P::kKeyPanelBytes) ^ (k * 32),
            ds_fragment[4 * k], ds_fragment[4 * k + 1], ds_fragment[4 * k + 2], ds_fragment[4 * k + 3]);
      }
      if (part + 1 == P::kParts) {
        // From here on the dS of both warpgroups is there. Each came here after its dQ of the step before, so
        // in the next step both may write the other slot of dS without another barrier.
        FenceAsyncProxy();
        NamedSync(kComputeBarrier, kComputeThreads);
        WgmmaFence();
#pragma unroll
        for (int k = 0; k < kKeys / kWgmmaInner; ++k) {
          WgmmaSS<true, true>(dq,
                              Advance(score_gradients, slot * P::kScoreGradientBytes + k * kMnMajorStepBytes),
                              Advance(keys, k * kMnMajorStepBytes), k > 0);
        }
        WgmmaCommit();
      }
      WgmmaFence();
      if constexpr (P::kKeyGradientFromShared) {
        const uint64_t rows = KMajorDescriptor(base + P::kScoreGradientAt + own_rows);
#pragma unroll
        for (int k = 0; k < kStepsOfInner; ++k) {
          WgmmaSS<false, true>(dk, Advance(rows, slot * P::kScoreGradientBytes + k * kKMajorStepBytes),
                               Advance(queries, part_at + k * kMnMajorStepBytes), k > 0 || step > 0);
        }
      } else {
        AddProduct(dk, ds_fragment, Advance(queries, part_at), part > 0 || step > 0);
      }
      WgmmaCommit();
    }

    const uint32_t parity = ring.parity;
    const int token = work.begin + at.tile * P::kQueries;
    at.Next(work);
    ring.Next();
    WgmmaWait<P::kLateKeyGradient ? 1 : 0>();
    FenceRegisters(dq);
    __syncwarp();
    if (lane == 0) Arrive(&barriers.output_gradient_empty[slot]);
    Wait(&barriers.query_gradient_empty[slot], parity ^ 1);
    const int dq_row = key_row + (P::kParts > 1 ? warpgroup * kPartRows : 0);
    const int dq_column = query_column + (P::kPanels > 1 ? warpgroup * kPanelColumns : 0);
    unsigned char* dq_tile = shared + P::kQueryGradientAt + slot * P::kQueryGradientBytes;
    const uint32_t dq_at = (dq_row * kHeadDim + QueryGradientColumn(token + dq_row, dq_column)) * 4;
#pragma unroll
    for (int c = 0; c < kScores / 4; ++c) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // 8 rows further the token's index modulo 4 is the same.
        *reinterpret_cast<float2*>(dq_tile + (dq_at ^ (c * 32)) + half * 8 * kHeadDim * 4) =
            float2{dq[4 * c + 2 * half], dq[4 * c + 2 * half + 1]};
      }
    }
    FenceAsyncProxy();
    __syncwarp();
    if (lane == 0) Arrive(&barriers.query_gradient_full[slot]);
  } while (++step < work.steps);

  WgmmaWait<0>();
  FenceRegisters(dv);
  FenceRegisters(dk);
  const int64_t row = work.begin + first_key;
  const int rows = work.length - first_key;
  unsigned char* staging = shared + P::kValueAt;
  StoreRows<kHeadDim>(dv, 1.0f, staging, warpgroup, thread,
                      a.dv + row * a.dv_stride + work.kv_head * kHeadDim, a.dv_stride, rows);
  StoreRows<kHeadDim>(dk, a.scale, staging, warpgroup, thread,
                      a.dk + row * a.dk_stride + work.kv_head * kHeadDim, a.dk_stride, rows);
}

}  // namespace tanren::kernels::cuda::hopper_backward

#endif  // TANREN_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_COMPUTE_CUH_
