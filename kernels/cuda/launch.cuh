// Launches of kernels, checked at their place.
#ifndef TANREN_KERNELS_CUDA_LAUNCH_CUH_
#define TANREN_KERNELS_CUDA_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {

// A kernel's shared memory, whose size its launch gives: `name` points to its first byte.
#if !defined(TANREN_DYNAMIC_SHARED)
#define TANREN_DYNAMIC_SHARED(alignment, name) \
  extern __shared__ __align__(alignment)       \
  unsigned char name[]
#endif

// Orders a kernel on the stream: it starts when all earlier work of the stream has ended, or with
// `may_overlap` by the rules of chain.cuh.
template <class... Parameters, class... Arguments>
void LaunchKernel(const Stream& stream, void (*kernel)(Parameters...), dim3 blocks, int threads,
                  int shared_bytes, bool may_overlap, Arguments&&... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch = {};
  launch.gridDim = blocks;
  launch.blockDim = dim3(static_cast<unsigned>(threads));
  launch.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  launch.stream = Handle(stream);
  launch.attrs = &attribute;
  launch.numAttrs = may_overlap ? 1 : 0;
  TANREN_CUDA(cudaLaunchKernelEx(&launch, kernel, std::forward<Arguments>(arguments)...));
}

// One after the other.
template <class... Parameters, class... Arguments>
void LaunchInTurnWithMemory(const Stream& stream, void (*kernel)(Parameters...), dim3 blocks, int threads,
                            int shared_bytes, Arguments&&... arguments) {
  LaunchKernel(stream, kernel, blocks, threads, shared_bytes, /*may_overlap=*/false,
               std::forward<Arguments>(arguments)...);
}
template <class... Parameters, class... Arguments>
void LaunchInTurn(const Stream& stream, void (*kernel)(Parameters...), dim3 blocks, int threads,
                  Arguments&&... arguments) {
  LaunchInTurnWithMemory(stream, kernel, blocks, threads, 0, std::forward<Arguments>(arguments)...);
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_LAUNCH_CUH_
