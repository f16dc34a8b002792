// What the project's kernels use of the CUDA toolkit's cuda_runtime.h, for the emulated GPU (see emulator.h):
// names, types and meanings are those of the CUDA documentation.
#ifndef TANREN_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_H_
#define TANREN_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>

#include "tests/emulation/emulator.h"

// ---------------------------------------------------------------------------------------------------------
// The language.

#define __CUDACC__ 1
#define __CUDA_ARCH_FEAT_SM90_ALL 1
#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#define TANREN_DYNAMIC_SHARED(alignment, name) \
  unsigned char* const name = ::tanren::emulation::DynamicShared(alignment)

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

struct dim3 {
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

using std::isinf;
using std::isnan;

template <class A, class B>
constexpr auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
constexpr auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(b) : T(a);
}

// ---------------------------------------------------------------------------------------------------------
// Threads that meet.

inline void __syncthreads() { ::tanren::emulation::SyncThreads(0, 0); }
inline int __syncthreads_or(int predicate) {
  return ::tanren::emulation::SyncThreadsOr(predicate != 0) ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ::tanren::emulation::ExchangeOf(mask, "__syncwarp", 0);
}
inline void __nanosleep(unsigned) { ::tanren::emulation::Poll(); }

namespace tanren::emulation {
// What the lane `source` brings, or the thread's own where that lane is outside [first, end).
template <class T>
T Shuffle(unsigned mask, const char* kind, const T& value, int source, int first, int end) {
  const Exchange& exchange = ExchangeOf(mask, kind, value);
  if (source < first || source >= end) return value;
  if ((exchange.lanes >> source & 1) == 0) {
    Fail("%s: lane %d asks lane %d, which has not come (%08x)", kind, Lane(), source, exchange.lanes);
  }
  return exchange.template Of<T>(source);
}
// The first lane of the thread's segment of `width` lanes.
inline int FirstOf(int width) { return Lane() / width * width; }
}  // namespace tanren::emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = ::tanren::emulation::FirstOf(width);
  return ::tanren::emulation::Shuffle(mask, "__shfl_sync", value, first + (source & (width - 1)), first,
                                      first + width);
}
// Lanes of earlier segments may be asked, those of later ones not.
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  return ::tanren::emulation::Shuffle(mask, "__shfl_xor_sync", value, ::tanren::emulation::Lane() ^ with, 0,
                                      ::tanren::emulation::FirstOf(width) + width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int first = ::tanren::emulation::FirstOf(width);
  return ::tanren::emulation::Shuffle(mask, "__shfl_up_sync", value,
                                      ::tanren::emulation::Lane() - static_cast<int>(by), first,
                                      first + width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int first = ::tanren::emulation::FirstOf(width);
  return ::tanren::emulation::Shuffle(mask, "__shfl_down_sync", value,
                                      ::tanren::emulation::Lane() + static_cast<int>(by), first,
                                      first + width);
}

namespace tanren::emulation {
// Calls visit(lane, what it brought) for the lanes that have come.
template <class T, class Visit>
void ForEachLane(unsigned mask, const char* kind, const T& value, const Visit& visit) {
  const Exchange& exchange = ExchangeOf(mask, kind, value);
  for (unsigned left = exchange.lanes; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    visit(lane, exchange.template Of<T>(lane));
  }
}
// The lanes whose value `counts`.
template <class T, class Counts>
unsigned LanesWhere(unsigned mask, const char* kind, const T& value, const Counts& counts) {
  unsigned lanes = 0;
  ForEachLane(mask, kind, value,
              [&](int lane, const T& of_lane) { lanes |= counts(of_lane) ? 1u << lane : 0; });
  return lanes;
}
}  // namespace tanren::emulation

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ::tanren::emulation::LanesWhere(mask, "__ballot_sync", predicate,
                                         [](int other) { return other != 0; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  return ::tanren::emulation::LanesWhere(mask, "__match_any_sync", value,
                                         [&](T other) { return other == value; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  unsigned result = 0;
  ::tanren::emulation::ForEachLane(mask, "__reduce_or_sync", value,
                                   [&](int, unsigned other) { result |= other; });
  return result;
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
  T result = value;
  ::tanren::emulation::ForEachLane(mask, "__reduce_max_sync", value,
                                   [&](int, T other) { result = std::max(result, other); });
  return result;
}

// ---------------------------------------------------------------------------------------------------------
// Memory.

template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T, class V>
T atomicAdd(T* to, V value) {
  return std::atomic_ref<T>(*to).fetch_add(static_cast<T>(value));
}
template <class T, class V>
T atomicOr(T* to, V value) {
  return std::atomic_ref<T>(*to).fetch_or(static_cast<T>(value));
}
template <class T, class V>
T atomicMax(T* to, V value) {
  std::atomic_ref<T> at(*to);
  T before = at.load();
  while (before < static_cast<T>(value) && !at.compare_exchange_weak(before, static_cast<T>(value))) {
  }
  return before;
}

// ---------------------------------------------------------------------------------------------------------
// Arithmetic. Operations named after a rounding are not fused.

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline float __double2float_rz(double a) {
  const float nearest = static_cast<float>(a);
  return std::fabs(static_cast<double>(nearest)) > std::fabs(a) ? std::nextafter(nearest, 0.0f) : nearest;
}
// Out of range: the nearest number of the type; NaN: 0x8000000000000000.
inline long long __double2ll_rn(double a) {
  if (std::isnan(a) || a < -9223372036854775808.0) return INT64_MIN;
  if (a >= 9223372036854775808.0) return INT64_MAX;
  return static_cast<long long>(std::nearbyint(a));
}
inline unsigned long long __float2ull_rn(float a) {
  if (std::isnan(a)) return 0x8000000000000000ull;
  if (a < 0) return 0;
  if (a >= 18446744073709551616.0f) return UINT64_MAX;
  return static_cast<unsigned long long>(std::nearbyint(a));
}
inline float __uint_as_float(unsigned a) { return std::bit_cast<float>(a); }
inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
inline unsigned __float_as_uint(float a) { return std::bit_cast<unsigned>(a); }
inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
inline double __longlong_as_double(long long a) { return std::bit_cast<double>(a); }
inline long long __double_as_longlong(double a) { return std::bit_cast<long long>(a); }
inline int __popc(unsigned a) { return std::popcount(a); }
inline int __ffs(int a) { return a == 0 ? 0 : std::countr_zero(static_cast<unsigned>(a)) + 1; }
inline int __clzll(long long a) { return std::countl_zero(static_cast<unsigned long long>(a)); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

// ---------------------------------------------------------------------------------------------------------
// The runtime.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
};
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

#define CUDART_VERSION 13000

struct CUstream_st;
using cudaStream_t = CUstream_st*;
struct CUevent_st;
using cudaEvent_t = CUevent_st*;
struct CUgraph_st;
using cudaGraph_t = CUgraph_st*;
struct CUgraphExec_st;
using cudaGraphExec_t = CUgraphExec_st*;

struct cudaUUID_t {
  char bytes[16];
};
struct cudaDeviceProp {
  char name[256];
  cudaUUID_t uuid;
  int major, minor;
  int multiProcessorCount;
  size_t sharedMemPerBlockOptin;
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
};
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);

inline constexpr unsigned cudaHostAllocPortable = 1;
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
cudaError_t cudaMemset(void* to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream);

inline constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound };
inline constexpr unsigned cudaEnableDefault = 0;
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned flags, cudaDriverEntryPointQueryResult* found);

// Kernels: a kernel is known by its address.
struct cudaFuncAttributes {
  int numRegs;
  int ptxVersion;
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributePreferredSharedMemoryCarveout
};
inline constexpr int cudaSharedmemCarveoutMaxShared = 100;

enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
union cudaLaunchAttributeValue {
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace tanren::emulation {
// Other work of a stream.
void Order(cudaStream_t stream, std::function<void()> work);
cudaError_t AttributesOf(cudaFuncAttributes* attributes);
cudaError_t SetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t LaunchKernel(const cudaLaunchConfig_t& launch, const void* kernel, std::function<void()> thread);
}  // namespace tanren::emulation

template <class... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)(Parameters...)) {
  return ::tanren::emulation::AttributesOf(attributes);
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return ::tanren::emulation::SetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* launch, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  // The arguments are taken when the kernel is ordered, converted to its parameters; threads share them.
  auto taken =
      std::make_shared<std::tuple<std::remove_cvref_t<Parameters>...>>(std::forward<Arguments>(arguments)...);
  return ::tanren::emulation::LaunchKernel(*launch, reinterpret_cast<const void*>(kernel),
                                           [kernel, taken] { std::apply(kernel, *taken); });
}

#endif  // TANREN_TESTS_EMULATION_INCLUDE_CUDA_RUNTIME_H_
