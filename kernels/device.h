// Devices, their memory and their streams: what a caller needs beside the kernels themselves.
//
// Device 0..DeviceCount()-1 are GPUs that this build can use. A build without CUDA, or a machine without a
// driver, has none, and WhyNoDevice() says why. Every call of the CUDA runtime is checked; one that fails
// ends the process with the call, the place and the runtime's words, because device state is unknown after
// it.
#ifndef TANREN_KERNELS_DEVICE_H_
#define TANREN_KERNELS_DEVICE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "kernels/types.h"

namespace tanren::kernels {

int DeviceCount();
// Empty when DeviceCount() > 0; otherwise one sentence: not compiled in, no driver, no device, no machine
// code.
std::string WhyNoDevice();

struct DeviceProperties {
  std::string name;
  std::string bus;           // its PCI address: "0000:1B:00.0"
  std::string uuid;          // hexadecimal; of each part of a GPU that is divided (MIG) another
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;
  int64_t shared_memory_bytes = 0;  // largest block's
  int driver_version = 0;           // 1000 * major + 10 * minor
  int runtime_version = 0;
};
DeviceProperties PropertiesOf(int device);

// Makes `device` the calling thread's current one and returns a new non-blocking stream of it. The stream is
// destroyed by DestroyStream, which also frees its scratch memory.
Stream MakeCudaStream(int device);
void DestroyStream(const Stream& stream);

// Waits until everything ordered on the stream has run; a no-op on the CPU.
void Synchronize(const Stream& stream);

// Device memory, zeroed; null when the device has not that much left. Freed by FreeDevice.
void* AllocateDevice(int64_t bytes);
void FreeDevice(void* memory);

// Page-locked host memory, which copies overlap with kernels and which kernels of every device can read; null
// when the system refuses. Without CUDA it is ordinary memory.
void* AllocatePinned(int64_t bytes);
void FreePinned(void* memory);

// Ordered on the stream. ToDevice returns at once when `from` is pinned, and then `from` must stay as it is
// until the stream has passed; ToHost waits, so `to` is complete on return. On the CPU both are memcpy.
void CopyToDevice(const Stream& stream, void* to, const void* from, int64_t bytes);
void CopyToHost(const Stream& stream, void* to, const void* from, int64_t bytes);
// Between buffers of the stream's device; rows of `width_bytes`, `rows` of them, with strides in bytes.
void CopyRows(const Stream& stream, int64_t rows, int64_t width_bytes, void* to, int64_t to_stride,
              const void* from, int64_t from_stride);

// A recorded sequence of kernel calls, launched as one: what a step of many small kernels costs the host
// otherwise.
//
//   body();                                    // once, so that scratch memory and plans exist
//   Graph graph = Graph::Record(stream, body); // records; runs nothing
//   graph.Launch(stream);                      // the kernels of body, with the same pointers
//
// `body` calls kernels on the stream and nothing that waits for it. Pointers and sizes are those of the
// recording.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }

  // False on the CPU, and where TANREN_BLOCKING asks for a wait after each kernel.
  static bool CanRecord(const Stream& stream);
  template <class Body>
  static Graph Record(const Stream& stream, const Body& body) {
    BeginRecording(stream);
    body();
    return EndRecording(stream);
  }

  explicit operator bool() const { return executable_ != nullptr; }
  void Launch(const Stream& stream) const;

 private:
  static void BeginRecording(const Stream& stream);
  static Graph EndRecording(const Stream& stream);

  void* executable_ = nullptr;  // cudaGraphExec_t
};

// A stretch of the calling thread's time under a name, which a profiler (Nsight Systems, Nsight Compute)
// shows beside the kernels that the thread launches in it: NVTX ranges of the domain "tanren". They nest;
// each is ended by the thread that began it. Without a profiler a call is a test of a pointer; without CUDA
// nothing.
void BeginRange(const char* name);
void EndRange();

// TANREN_BLOCKING=1: every kernel is waited for, so that a device error is reported by the kernel that made
// it.
bool IsBlocking();

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_DEVICE_H_
