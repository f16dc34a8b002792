// The devices of a build without CUDA: none. Memory and copies are the host's.
#include <cstdlib>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/device.h"

namespace tanren::kernels {

const Backend* CudaBackend() { return nullptr; }

int DeviceCount() { return 0; }
std::string WhyNoDevice() {
  return "this binary was built without CUDA; build it with the preset cuda where the CUDA toolkit is "
         "installed";
}
DeviceProperties PropertiesOf(int) { std::abort(); }
Stream MakeCudaStream(int) { std::abort(); }
void DestroyStream(const Stream&) {}
void Synchronize(const Stream&) {}
void* AllocateDevice(int64_t) { std::abort(); }
void FreeDevice(void*) {}
void* AllocatePinned(int64_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
void FreePinned(void* memory) { std::free(memory); }
void CopyToDevice(const Stream&, void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void CopyToHost(const Stream&, void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void CopyRows(const Stream&, int64_t rows, int64_t width_bytes, void* to, int64_t to_stride, const void* from,
              int64_t from_stride) {
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<char*>(to) + row * to_stride, static_cast<const char*>(from) + row * from_stride,
                width_bytes);
  }
}

void BeginRange(const char*) {}
void EndRange() {}

Graph::~Graph() = default;
bool Graph::CanRecord(const Stream&) { return false; }
void Graph::Launch(const Stream&) const { std::abort(); }
void Graph::BeginRecording(const Stream&) { std::abort(); }
Graph Graph::EndRecording(const Stream&) { std::abort(); }

}  // namespace tanren::kernels
