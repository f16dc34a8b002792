// What kernels know of their stream: its handle, its device and its scratch memory.
#ifndef TANREN_KERNELS_CUDA_STREAM_H_
#define TANREN_KERNELS_CUDA_STREAM_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels::cuda {

inline cudaStream_t Handle(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle); }

// Scratch memory of a stream for the length of one kernel call: 256-byte aligned, contents undefined. Later
// calls on the stream get the same memory, which is safe because they run later. It grows to the largest need
// and is then never allocated again, so a warm step allocates nothing; what it outgrew lives as long as the
// stream.
void* Scratch(const Stream& stream, int64_t bytes);

template <class T>
T* ScratchOf(const Stream& stream, int64_t count) {
  return static_cast<T*>(Scratch(stream, count * static_cast<int64_t>(sizeof(T))));
}

struct Architecture {
  int multiprocessors = 0;
  int major = 0;
  int shared_memory_bytes = 0;  // largest block's
};
// Of the current device; read once.
const Architecture& CurrentArchitecture();

constexpr int64_t CeilDiv(int64_t value, int64_t by) { return (value + by - 1) / by; }

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_STREAM_H_
