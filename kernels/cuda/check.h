// Checked calls of the CUDA runtime and cuBLASLt. A failure ends the process with the call and its place: the
// state of the device is unknown after it, and no step can be completed.
#ifndef TANREN_KERNELS_CUDA_CHECK_H_
#define TANREN_KERNELS_CUDA_CHECK_H_

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

namespace tanren::kernels::cuda {

[[noreturn]] inline void CallFailed(const char* file, int line, const char* call, const char* name,
                                    const char* text) {
  std::fprintf(stderr, "%s:%d: %s failed: %s (%s)\n", file, line, call, name, text);
  std::fflush(stderr);
  std::abort();
}

[[noreturn]] inline void InvariantFailed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expression);
  std::fflush(stderr);
  std::abort();
}

}  // namespace tanren::kernels::cuda

#define TANREN_CUDA(call)                                                                            \
  do {                                                                                               \
    const cudaError_t tanren_error = (call);                                                         \
    if (tanren_error != cudaSuccess) {                                                               \
      ::tanren::kernels::cuda::CallFailed(__FILE__, __LINE__, #call, cudaGetErrorName(tanren_error), \
                                          cudaGetErrorString(tanren_error));                         \
    }                                                                                                \
  } while (false)

// A caller's mistake, never a user's.
#define TANREN_CUDA_REQUIRE(expression) \
  ((expression) ? void(0) : ::tanren::kernels::cuda::InvariantFailed(__FILE__, __LINE__, #expression))

#endif  // TANREN_KERNELS_CUDA_CHECK_H_
