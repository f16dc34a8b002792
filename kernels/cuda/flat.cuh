// Elementwise kernels over flat ranges, at the bandwidth of memory.
//
// The range is walked in packs (see pack.cuh). A thread reads all its packs before it writes the first, so
// that several reads are in flight. Where the arrays of a range begin at the same place within a pack, the
// few elements before the first whole pack and after the last go one by one; where they do not, every
// element does. Either way an element meets the same arithmetic, so a result does not depend on the cut.
//
// An operation is a struct with
//   kPack                          elements in a pack
//   kPacks                         packs that a thread reads before it writes
//   Input<n>                       what an element's result depends on, for n neighbours
//   Input<n> Load<n>(i) const      reads elements [i, i + n)
//   void Finish<n>(i, Input<n>&)   computes and writes them
#ifndef TANREN_KERNELS_CUDA_FLAT_CUH_
#define TANREN_KERNELS_CUDA_FLAT_CUH_

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {

inline constexpr int kFlatThreads = 256;

// [0, head), then `packs` packs, then the rest up to `count`.
struct FlatCut {
  int64_t count = 0;
  int64_t head = 0;
  int64_t packs = 0;
};

template <class Op, int kCount>
__global__ __launch_bounds__(kFlatThreads, 4) void FlatKernel(const Op op, const FlatCut cut) {
  AwaitEarlierKernels();
  const int64_t first = int64_t{blockIdx.x} * (kFlatThreads * Op::kPacks) + threadIdx.x;
  typename Op::template Input<kCount> inputs[Op::kPacks];
#pragma unroll
  for (int p = 0; p < Op::kPacks; ++p) {
    const int64_t pack = first + p * kFlatThreads;
    if (pack < cut.packs) inputs[p] = op.template Load<kCount>(cut.head + pack * kCount);
  }
#pragma unroll
  for (int p = 0; p < Op::kPacks; ++p) {
    const int64_t pack = first + p * kFlatThreads;
    if (pack < cut.packs) op.template Finish<kCount>(cut.head + pack * kCount, inputs[p]);
  }
  if constexpr (kCount > 1) {
    // Fewer than two packs of single elements, which the first block takes.
    const int64_t packed = cut.packs * kCount;
    if (blockIdx.x == 0 && threadIdx.x < cut.count - packed) {
      const int64_t i = threadIdx.x < cut.head ? threadIdx.x : threadIdx.x + packed;
      auto input = op.template Load<1>(i);
      op.template Finish<1>(i, input);
    }
  }
}

// `phases`: of every array of the operation, PhaseOf<Op::kPack>(pointer).
template <class Op>
void LaunchFlat(const Stream& stream, int64_t count, std::initializer_list<int64_t> phases, const Op& op) {
  static_assert(2 * Op::kPack <= kFlatThreads);
  if (count <= 0) return;
  const int64_t phase = *phases.begin();
  const bool packed = std::all_of(phases.begin(), phases.end(), [&](int64_t p) { return p == phase; });
  FlatCut cut{.count = count};
  if (packed) {
    cut.head = std::min(count, (Op::kPack - phase) % Op::kPack);
    cut.packs = (count - cut.head) / Op::kPack;
  } else {
    cut.packs = count;
  }
  const int64_t blocks = std::max<int64_t>(1, CeilDiv(cut.packs, kFlatThreads * Op::kPacks));
  const auto kernel = packed ? FlatKernel<Op, Op::kPack> : FlatKernel<Op, 1>;
  LaunchChained(stream, kernel, static_cast<unsigned>(blocks), kFlatThreads, op, cut);
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_FLAT_CUH_
