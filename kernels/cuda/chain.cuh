// Kernels that overlap at their edges: programmatic dependent launch, from compute capability 9.0 on.
//
// A step of decoding is some two hundred kernels of a few microseconds each, and between two of them the
// machine would drain and fill again. A kernel launched by LaunchChained may start as soon as every block of
// the kernel before it on the stream has begun; AwaitEarlierKernels then holds it until that kernel has ended
// and its writes are seen.
//
// A chained kernel keeps three rules.
//
// Every thread of it calls AwaitEarlierKernels exactly once, before any return. A kernel thus ends after all
// that came before it, so that waiting for the last one is waiting for all.
//
// Before that call it touches no memory that the stream's work writes. PrefetchToL2 is allowed, of anything:
// it fills a cache that all processors share, so that what is read afterwards is what was written.
//
// What it reads after the call is not read through the read-only path (__ldg) unless no kernel of the step
// writes it.
//
// Graphs record such launches as they are.
#ifndef TANREN_KERNELS_CUDA_CHAIN_CUH_
#define TANREN_KERNELS_CUDA_CHAIN_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {

// Returns when all earlier work of the stream is complete and seen, and lets the kernel after this one start.
__device__ __forceinline__ void AwaitEarlierKernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Asks for memory to be brought to the second-level cache; nothing waits for it. Address and size are
// multiples of 16 bytes.
__device__ __forceinline__ void PrefetchToL2(const void* from, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
#endif
}

// Whether chained kernels overlap; TANREN_CHAIN=0: each starts when the one before has ended.
bool KernelsOverlap();

// Launches that overlap with the kernel before.
template <class... Parameters, class... Arguments>
void LaunchChainedWithMemory(const Stream& stream, void (*kernel)(Parameters...), dim3 blocks, int threads,
                             int shared_bytes, Arguments&&... arguments) {
  LaunchKernel(stream, kernel, blocks, threads, shared_bytes, KernelsOverlap(),
               std::forward<Arguments>(arguments)...);
}
template <class... Parameters, class... Arguments>
void LaunchChained(const Stream& stream, void (*kernel)(Parameters...), dim3 blocks, int threads,
                   Arguments&&... arguments) {
  LaunchChainedWithMemory(stream, kernel, blocks, threads, 0, std::forward<Arguments>(arguments)...);
}

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_CHAIN_CUH_
