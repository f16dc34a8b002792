// Devices, streams, memory and copies through the CUDA runtime.
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/stream.h"
#include "kernels/device.h"

namespace tanren::kernels {
namespace {

struct ScratchMemory {
  void* data = nullptr;
  int64_t bytes = 0;
  std::vector<void*> outgrown;  // recorded graphs may still point into them
};

// Scratch memory by stream handle. Streams are made and destroyed rarely; a kernel call looks its own up
// once.
class ScratchTable {
 public:
  static ScratchTable& Instance() {
    static ScratchTable table;
    return table;
  }

  void* Get(cudaStream_t stream, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    ScratchMemory& memory = table_[stream];
    if (bytes > memory.bytes) {
      if (memory.data != nullptr) memory.outgrown.push_back(memory.data);
      memory.bytes = cuda::CeilDiv(bytes, kGrain) * kGrain;
      TANREN_CUDA(cudaMalloc(&memory.data, memory.bytes));
    }
    return memory.data;
  }

  void Drop(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    const auto found = table_.find(stream);
    if (found == table_.end()) return;
    for (void* outgrown : found->second.outgrown) TANREN_CUDA(cudaFree(outgrown));
    if (found->second.data != nullptr) TANREN_CUDA(cudaFree(found->second.data));
    table_.erase(found);
  }

 private:
  static constexpr int64_t kGrain = int64_t{8} << 20;
  std::mutex mutex_;
  std::map<cudaStream_t, ScratchMemory> table_;
};

// This build's kernels, asked of one device: cudaErrorNoKernelImageForDevice when none of its machine code
// fits.
__global__ void ProbeKernel() {}

std::string FindWhyNoDevice() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return "no NVIDIA driver is loaded (libcuda.so.1 was not found); install the driver or run with "
           "parallel.device: "
           "cpu";
  }
  int runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return std::string("the driver (CUDA ") + std::to_string(driver / 1000) + "." +
           std::to_string(driver % 1000 / 10) + ") answers this build (CUDA " +
           std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10) +
           "): " + cudaGetErrorString(error);
  }
  if (count == 0) return "the driver sees no device; check CUDA_VISIBLE_DEVICES and nvidia-smi";
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, ProbeKernel) != cudaSuccess) {
    cudaGetLastError();
    cudaDeviceProp properties;
    TANREN_CUDA(cudaGetDeviceProperties(&properties, 0));
    return std::string("this build has no machine code for ") + properties.name + " (compute capability " +
           std::to_string(properties.major) + "." + std::to_string(properties.minor) +
           "); build with -DCMAKE_CUDA_ARCHITECTURES=90a-real for Hopper, native for others";
  }
  return "";
}

const std::string& CachedWhyNoDevice() {
  static const std::string why = FindWhyNoDevice();
  return why;
}

}  // namespace

int DeviceCount() {
  if (!CachedWhyNoDevice().empty()) return 0;
  int count = 0;
  TANREN_CUDA(cudaGetDeviceCount(&count));
  return count;
}

std::string WhyNoDevice() { return CachedWhyNoDevice(); }

DeviceProperties PropertiesOf(int device) {
  cudaDeviceProp from;
  TANREN_CUDA(cudaGetDeviceProperties(&from, device));
  DeviceProperties to;
  to.name = from.name;
  char bus[32] = {};
  TANREN_CUDA(cudaDeviceGetPCIBusId(bus, sizeof(bus), device));
  to.bus = bus;
  for (const char byte : from.uuid.bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    const auto value = static_cast<unsigned char>(byte);
    to.uuid += {kDigits[value >> 4], kDigits[value & 15]};
  }
  to.major = from.major;
  to.minor = from.minor;
  to.multiprocessors = from.multiProcessorCount;
  to.shared_memory_bytes = static_cast<int64_t>(from.sharedMemPerBlockOptin);
  int before = 0;
  TANREN_CUDA(cudaGetDevice(&before));
  TANREN_CUDA(cudaSetDevice(device));
  size_t free_bytes = 0, total_bytes = 0;
  TANREN_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  TANREN_CUDA(cudaSetDevice(before));
  to.free_bytes = static_cast<int64_t>(free_bytes);
  to.memory_bytes = static_cast<int64_t>(total_bytes);
  TANREN_CUDA(cudaDriverGetVersion(&to.driver_version));
  TANREN_CUDA(cudaRuntimeGetVersion(&to.runtime_version));
  return to;
}

Stream MakeCudaStream(int device) {
  TANREN_CUDA(cudaSetDevice(device));
  cudaStream_t handle = nullptr;
  TANREN_CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking));
  return Stream{Device::kCuda, handle};
}

void DestroyStream(const Stream& stream) {
  if (stream.device != Device::kCuda || stream.handle == nullptr) return;
  Synchronize(stream);
  ScratchTable::Instance().Drop(cuda::Handle(stream));
  TANREN_CUDA(cudaStreamDestroy(cuda::Handle(stream)));
}

void Synchronize(const Stream& stream) {
  if (stream.device == Device::kCuda) TANREN_CUDA(cudaStreamSynchronize(cuda::Handle(stream)));
}

void* AllocateDevice(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  TANREN_CUDA(error);
  TANREN_CUDA(cudaMemset(memory, 0, bytes));
  // The zeros are written on the default stream, which the non-blocking streams of kernels do not wait for.
  TANREN_CUDA(cudaDeviceSynchronize());
  return memory;
}

void FreeDevice(void* memory) {
  if (memory != nullptr) TANREN_CUDA(cudaFree(memory));
}

void* AllocatePinned(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  TANREN_CUDA(error);
  return memory;
}

void FreePinned(void* memory) {
  if (memory != nullptr) TANREN_CUDA(cudaFreeHost(memory));
}

void CopyToDevice(const Stream& stream, void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  if (stream.device == Device::kCpu) {
    std::memcpy(to, from, bytes);
    return;
  }
  TANREN_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda::Handle(stream)));
}

void CopyToHost(const Stream& stream, void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  if (stream.device == Device::kCpu) {
    std::memcpy(to, from, bytes);
    return;
  }
  TANREN_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cuda::Handle(stream)));
  TANREN_CUDA(cudaStreamSynchronize(cuda::Handle(stream)));
}

void CopyRows(const Stream& stream, int64_t rows, int64_t width_bytes, void* to, int64_t to_stride,
              const void* from, int64_t from_stride) {
  if (rows == 0 || width_bytes == 0) return;
  if (stream.device == Device::kCpu) {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(static_cast<char*>(to) + row * to_stride,
                  static_cast<const char*>(from) + row * from_stride, width_bytes);
    }
    return;
  }
  if (rows == 1 || (to_stride == width_bytes && from_stride == width_bytes)) {
    // In one piece, which may be longer than the longest row of a pitched copy (2^31 - 1 bytes).
    TANREN_CUDA(
        cudaMemcpyAsync(to, from, rows * width_bytes, cudaMemcpyDeviceToDevice, cuda::Handle(stream)));
    return;
  }
  TANREN_CUDA(cudaMemcpy2DAsync(to, to_stride, from, from_stride, width_bytes, rows, cudaMemcpyDeviceToDevice,
                                cuda::Handle(stream)));
}

Graph::~Graph() {
  if (executable_ != nullptr) TANREN_CUDA(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_)));
}

bool Graph::CanRecord(const Stream& stream) { return stream.device == Device::kCuda && !IsBlocking(); }

void Graph::BeginRecording(const Stream& stream) {
  TANREN_CUDA(cudaStreamBeginCapture(cuda::Handle(stream), cudaStreamCaptureModeThreadLocal));
}

Graph Graph::EndRecording(const Stream& stream) {
  cudaGraph_t recorded = nullptr;
  TANREN_CUDA(cudaStreamEndCapture(cuda::Handle(stream), &recorded));
  cudaGraphExec_t executable = nullptr;
  TANREN_CUDA(cudaGraphInstantiate(&executable, recorded, 0));
  TANREN_CUDA(cudaGraphDestroy(recorded));
  Graph graph;
  graph.executable_ = executable;
  return graph;
}

void Graph::Launch(const Stream& stream) const {
  TANREN_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), cuda::Handle(stream)));
}

namespace cuda {

void* Scratch(const Stream& stream, int64_t bytes) {
  return ScratchTable::Instance().Get(Handle(stream), bytes);
}

const Architecture& CurrentArchitecture() {
  static const Architecture architecture = [] {
    int device = 0;
    TANREN_CUDA(cudaGetDevice(&device));
    Architecture result;
    TANREN_CUDA(cudaDeviceGetAttribute(&result.multiprocessors, cudaDevAttrMultiProcessorCount, device));
    TANREN_CUDA(cudaDeviceGetAttribute(&result.major, cudaDevAttrComputeCapabilityMajor, device));
    TANREN_CUDA(
        cudaDeviceGetAttribute(&result.shared_memory_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    return result;
  }();
  return architecture;
}

bool KernelsOverlap() {
  static const bool overlap = [] {
    const char* value = std::getenv("TANREN_CHAIN");
    // The code must wait too, which that compiled for an older architecture does not.
    cudaFuncAttributes attributes;
    TANREN_CUDA(cudaFuncGetAttributes(&attributes, ProbeKernel));
    return CurrentArchitecture().major >= 9 && attributes.ptxVersion >= 90 &&
           (value == nullptr || value[0] != '0');
  }();
  return overlap;
}

}  // namespace cuda
}  // namespace tanren::kernels
