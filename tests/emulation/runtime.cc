// The CUDA runtime of the emulated GPU: one device of compute capability 9.0 whose memory is the host's.
#include <cuda.h>
#include <cuda_runtime.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tests/emulation/copies.h"
#include "tests/emulation/emulator.h"

using Work = std::vector<std::function<void()>>;

struct CUstream_st {
  Work ordered;  // late: not done yet
  bool is_capturing = false;
  Work captured;
};
struct CUevent_st {
  cudaStream_t stream = nullptr;
  std::chrono::steady_clock::time_point time;
};
struct CUgraph_st {
  Work work;
};
struct CUgraphExec_st {
  Work work;
};

namespace {

using tanren::emulation::Fail;
using tanren::emulation::TheSchedule;

constexpr size_t kMemoryBytes = size_t{8} << 30;
constexpr size_t kAlignment = 256;
constexpr int kVersion = 13000;
constexpr int kPoison = 0xff;
constexpr unsigned char kGuard = 0xa5;
constexpr size_t kGuardBytes = 256;  // before and after each allocation

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Answer(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// All that the process has of the device. Its mutex is held while work runs: one thing at a time.
class Card {
 public:
  static Card& Instance() {
    static Card* card = new Card;  // used by static objects that are destroyed late
    return *card;
  }

  std::recursive_mutex mutex;
  std::map<unsigned char*, size_t> allocations;
  std::map<unsigned char*, size_t> pinned;
  std::map<const void*, int> dynamic_bytes;  // that a kernel asked to be allowed
  std::set<cudaStream_t> streams;
  CUstream_st default_stream;
  size_t used = 0;

  CUstream_st& Of(cudaStream_t stream) {
    if (stream == nullptr) return default_stream;
    if (!streams.contains(stream)) Fail("a stream that does not exist");
    return *stream;
  }

  void Order(cudaStream_t handle, std::function<void()> work) {
    const std::lock_guard lock(mutex);
    CUstream_st& stream = Of(handle);
    if (stream.is_capturing) {
      stream.captured.push_back(std::move(work));
    } else if (TheSchedule().late) {
      stream.ordered.push_back(std::move(work));
    } else {
      work();
    }
  }

  void Finish(CUstream_st& stream) {
    const std::lock_guard lock(mutex);
    if (stream.is_capturing) Fail("a stream that records is waited for");
    const Work work = std::move(stream.ordered);
    stream.ordered.clear();
    for (const auto& one : work) one();
    CheckGuards();
  }
  void FinishAll() {
    const std::lock_guard lock(mutex);
    Finish(default_stream);
    for (const cudaStream_t stream : streams) {
      if (!stream->is_capturing) Finish(*stream);
    }
  }

  void CheckGuards() const {
    for (const auto& [begin, bytes] : allocations) {
      for (size_t i = 0; i < kGuardBytes; ++i) {
        if (begin[bytes + i] != kGuard) {
          Fail("byte %zu beyond an allocation of %zu bytes was written", i, bytes);
        }
        if (begin[-static_cast<int64_t>(kGuardBytes) + static_cast<int64_t>(i)] != kGuard) {
          Fail("byte %zu before an allocation of %zu bytes was written", kGuardBytes - i, bytes);
        }
      }
    }
  }

  bool IsPageable(const void* pointer) {
    const std::lock_guard lock(mutex);
    auto* at = static_cast<unsigned char*>(const_cast<void*>(pointer));
    const auto within = [&](const std::map<unsigned char*, size_t>& table) {
      auto found = table.upper_bound(at);
      if (found == table.begin()) return false;
      --found;
      return at < found->first + found->second;
    };
    return !within(allocations) && !within(pinned);
  }
};

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
  }
  return "?";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

// --- The device. ---

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return Answer(device == 0 ? cudaSuccess : cudaErrorInvalidValue); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return Answer(cudaErrorInvalidValue);
  *properties = {};
  std::strcpy(properties->name, "emulated GPU");
  for (int i = 0; i < 16; ++i) properties->uuid.bytes[i] = static_cast<char>(i);
  properties->major = 9;
  properties->multiProcessorCount = tanren::emulation::kMultiprocessors;
  properties->sharedMemPerBlockOptin = tanren::emulation::kMaxSharedBytes;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = tanren::emulation::kMultiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(tanren::emulation::kMaxSharedBytes);
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int) {
  std::snprintf(text, static_cast<size_t>(size), "0000:00:00.0");
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  Card::Instance().FinishAll();
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  *total_bytes = kMemoryBytes;
  *free_bytes = kMemoryBytes - card.used;
  return cudaSuccess;
}

// --- Memory. ---

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  if (bytes > kMemoryBytes - card.used) return Answer(cudaErrorMemoryAllocation);
  const size_t whole = kGuardBytes + bytes + kGuardBytes;
  auto* begin = static_cast<unsigned char*>(
      std::aligned_alloc(kAlignment, (whole + kAlignment - 1) / kAlignment * kAlignment));
  if (begin == nullptr) return Answer(cudaErrorMemoryAllocation);
  std::memset(begin, kGuard, kGuardBytes);
  std::memset(begin + kGuardBytes, kPoison, bytes);
  std::memset(begin + kGuardBytes + bytes, kGuard, kGuardBytes);
  card.allocations[begin + kGuardBytes] = bytes;
  card.used += bytes;
  *memory = begin + kGuardBytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  card.FinishAll();
  const auto found = card.allocations.find(static_cast<unsigned char*>(memory));
  if (found == card.allocations.end()) return Answer(cudaErrorInvalidValue);
  card.CheckGuards();
  card.used -= found->second;
  std::memset(memory, kPoison, found->second);
  std::free(found->first - kGuardBytes);
  card.allocations.erase(found);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  auto* begin = static_cast<unsigned char*>(
      std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment));
  if (begin == nullptr) return Answer(cudaErrorMemoryAllocation);
  card.pinned[begin] = bytes;
  *memory = begin;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  card.FinishAll();
  if (card.pinned.erase(static_cast<unsigned char*>(memory)) == 0) return Answer(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  Card::Instance().Order(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  if (card.IsPageable(from)) {
    // Taken before the call returns.
    const auto* begin = static_cast<const unsigned char*>(from);
    auto taken = std::make_shared<std::vector<unsigned char>>(begin, begin + bytes);
    card.Order(stream, [=] { std::memcpy(to, taken->data(), bytes); });
  } else {
    card.Order(stream, [=] { std::memmove(to, from, bytes); });
  }
  // A copy to memory that is not page-locked returns when it is done.
  if (card.IsPageable(to) && !card.Of(stream).is_capturing) card.Finish(card.Of(stream));
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch || to_pitch >= size_t{1} << 31 ||
      from_pitch >= size_t{1} << 31) {
    return Answer(cudaErrorInvalidValue);
  }
  Card::Instance().Order(stream, [=] {
    for (size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch,
                   width);
    }
  });
  return cudaSuccess;
}

// --- Streams, events and graphs. ---

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  *stream = new CUstream_st;
  card.streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  card.Finish(card.Of(stream));
  card.streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  card.Finish(card.Of(stream));
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Card::Instance().FinishAll();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  Card::Instance().Order(stream, [event] { event->time = std::chrono::steady_clock::now(); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaStreamSynchronize(event->stream); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  if (card.Of(stream).is_capturing || stream == nullptr) return Answer(cudaErrorInvalidValue);
  stream->is_capturing = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  if (!card.Of(stream).is_capturing) return Answer(cudaErrorInvalidValue);
  stream->is_capturing = false;
  *graph = new CUgraph_st{std::exchange(stream->captured, {})};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  *status = card.Of(stream).is_capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Card::Instance().FinishAll();
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  for (const auto& work : executable->work) card.Order(stream, work);
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(&tanren::emulation::EncodeTiled) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// --- Kernels. ---

namespace tanren::emulation {

void Order(cudaStream_t stream, std::function<void()> work) {
  Card::Instance().Order(stream, std::move(work));
}

cudaError_t AttributesOf(cudaFuncAttributes* attributes) {
  *attributes = {.numRegs = 255, .ptxVersion = 90};
  return cudaSuccess;
}

cudaError_t SetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > kMaxSharedBytes) return Answer(cudaErrorInvalidValue);
  Card& card = Card::Instance();
  const std::lock_guard lock(card.mutex);
  card.dynamic_bytes[kernel] = value;
  return cudaSuccess;
}

cudaError_t LaunchKernel(const cudaLaunchConfig_t& launch, const void* kernel, std::function<void()> thread) {
  Card& card = Card::Instance();
  const Index blocks = {launch.gridDim.x, launch.gridDim.y, launch.gridDim.z};
  const Index threads = {launch.blockDim.x, launch.blockDim.y, launch.blockDim.z};
  constexpr unsigned kMostBlocks = 0x7fffffff, kMostBlocksAcross = 0xffff;
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.x > kMostBlocks ||
      blocks.y > kMostBlocksAcross || blocks.z > kMostBlocksAcross || threads.x == 0 ||
      uint64_t{threads.x} * threads.y * threads.z > kMaxThreads) {
    return Answer(cudaErrorInvalidConfiguration);
  }
  const size_t shared_bytes = launch.dynamicSmemBytes;
  {
    const std::lock_guard lock(card.mutex);
    const auto asked = card.dynamic_bytes.find(kernel);
    const size_t allowed = asked == card.dynamic_bytes.end()
                               ? kSharedWithoutAsking
                               : std::max(kSharedWithoutAsking, size_t(asked->second));
    if (shared_bytes > allowed) return Answer(cudaErrorInvalidValue);
  }
  card.Order(launch.stream, [blocks, threads, shared_bytes, thread = std::move(thread)] {
    RunGrid(blocks, threads, shared_bytes, thread);
  });
  return cudaSuccess;
}

}  // namespace tanren::emulation
