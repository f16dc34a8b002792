// Tests of the emulated GPU itself: that it computes what the machine does, and that it notices what breaks
// the machine's rules.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/attention_mma_instructions.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/hopper_instructions.cuh"
#include "tests/emulation/emulator.h"

namespace tanren::emulation {
namespace {

namespace hopper = ::tanren::kernels::cuda::hopper;
namespace mma = ::tanren::kernels::cuda::mma;

const Schedule kEarly = {};
const Schedule kLate = {.order = Schedule::Order::kDescending, .late = true};
const std::vector<Schedule> kSchedules = {
    kEarly, kLate, {.order = Schedule::Order::kRandom, .late = true, .seed = 3}};

template <class... Parameters, class... Arguments>
void RunKernel(void (*kernel)(Parameters...), dim3 blocks, unsigned threads, size_t shared_bytes,
               Arguments... arguments) {
  ASSERT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)),
            cudaSuccess);
  cudaLaunchConfig_t launch = {};
  launch.gridDim = blocks;
  launch.blockDim = dim3(threads);
  launch.dynamicSmemBytes = shared_bytes;
  ASSERT_EQ(cudaLaunchKernelEx(&launch, kernel, arguments...), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

template <class T>
struct DeviceArray {
  explicit DeviceArray(size_t count) : count(count) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T)), cudaSuccess);
  }
  ~DeviceArray() { EXPECT_EQ(cudaFree(data), cudaSuccess); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T& operator[](size_t i) { return data[i]; }
  size_t count;
  T* data = nullptr;
};

// Small whole numbers, whose products and sums are exact in bf16 and fp32.
float Number(int64_t i) { return static_cast<float>((i * 7 + i / 3) % 13 - 6); }

// --- Threads. ---

void CountKernel(int* counts) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  atomicAdd(&counts[block * blockDim.x + threadIdx.x], 1);
}

TEST(Grid, RunsEveryThreadOnce) {
  for (const Schedule& schedule : kSchedules) {
    const ScheduleScope scope(schedule);
    DeviceArray<int> counts(3 * 2 * 2 * 70);
    std::fill_n(counts.data, counts.count, 0);
    RunKernel(CountKernel, dim3(3, 2, 2), 70, 0, counts.data);
    for (size_t i = 0; i < counts.count; ++i) ASSERT_EQ(counts[i], 1) << i;
  }
}

// Each thread takes what the thread `from` its own has left.
template <bool kWaits>
void NeighbourKernel(int from, int* out) {
  __shared__ int left[64];
  const int thread = static_cast<int>(threadIdx.x);
  left[thread] = -1;
  __syncthreads();
  left[thread] = thread;
  if (kWaits) __syncthreads();
  out[thread] = left[(thread + from + 64) % 64];
}

int Wrong(const Schedule& schedule, void (*kernel)(int, int*), int from) {
  const ScheduleScope scope(schedule);
  DeviceArray<int> out(64);
  RunKernel(kernel, 1, 64, 0, from, out.data);
  int wrong = 0;
  for (int i = 0; i < 64; ++i) wrong += out[i] != (i + from + 64) % 64;
  return wrong;
}

TEST(Races, AMissingBarrierShowsInOneOfTheOrders) {
  for (const int from : {1, -1}) {
    EXPECT_EQ(Wrong(kEarly, NeighbourKernel<true>, from), 0);
    EXPECT_EQ(Wrong(kLate, NeighbourKernel<true>, from), 0);
  }
  EXPECT_GT(Wrong(kEarly, NeighbourKernel<false>, 1), 60);
  EXPECT_LE(Wrong(kLate, NeighbourKernel<false>, 1), 1);
  EXPECT_LE(Wrong(kEarly, NeighbourKernel<false>, -1), 1);
  EXPECT_GT(Wrong(kLate, NeighbourKernel<false>, -1), 60);
}

void ShuffleKernel(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, lane, 5) + 100 * __shfl_up_sync(0xffffffffu, lane, 3, 8) +
                     10000 * __shfl_sync(0xffffffffu, lane, 9, 16);
  // Halves of a warp that go different ways.
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  if (lane < 16) {
    out[threadIdx.x] += 1000000 * (__ballot_sync(half, lane % 2) & 3);
  } else {
    out[threadIdx.x] += 1000000 * __popc(__match_any_sync(half, lane / 8));
  }
}

TEST(Warp, Exchanges) {
  for (const Schedule& schedule : kSchedules) {
    const ScheduleScope scope(schedule);
    DeviceArray<unsigned> out(96);
    RunKernel(ShuffleKernel, 1, 96, 0, out.data);
    for (unsigned i = 0; i < 96; ++i) {
      const unsigned lane = i % 32, up = lane % 8 >= 3 ? lane - 3 : lane;
      const unsigned expected =
          (lane ^ 5) + 100 * up + 10000 * (lane / 16 * 16 + 9) + 1000000 * (lane < 16 ? 2 : 8);
      ASSERT_EQ(out[i], expected) << i;
    }
  }
}

// Lanes that have ended are not waited for.
void EndedLanesKernel(unsigned* out) {
  if (threadIdx.x % 4 == 1) return;
  out[threadIdx.x] = __popc(__ballot_sync(0xffffffffu, 1)) + __shfl_sync(0xffffffffu, threadIdx.x, 6);
}

TEST(Warp, EndedLanesAreNotWaitedFor) {
  for (const Schedule& schedule : kSchedules) {
    const ScheduleScope scope(schedule);
    DeviceArray<unsigned> out(32);
    RunKernel(EndedLanesKernel, 1, 32, 0, out.data);
    for (unsigned i = 0; i < 32; ++i) ASSERT_EQ(out[i], i % 4 == 1 ? 0xffffffffu : 24 + 6) << i;
  }
}

// --- What is refused. ---

constexpr int kRows = 64, kDim = 128, kTokens = 50;  // rows beyond the tokens are zeros
constexpr int kTileBytes = kRows * kDim * 2;

void LonelyBarrierKernel() {
  if (threadIdx.x < 32) hopper::NamedSync(3, 64);
}
void MissingLaneKernel() {
  if (threadIdx.x != 4) __shfl_sync(0xffffffffu, 1, 0);
  __syncthreads();
}
void MixedWarpKernel() {
  if (threadIdx.x == 0) {
    __syncwarp();
  } else {
    __shfl_sync(0xffffffffu, 1, 0);
  }
}
void PastTheEndKernel(float* data, int count) {
  if (threadIdx.x == 0) data[count] = 1;
}
void UnalignedKernel() { mma::StoreShared16(1024 + 8, {1, 2, 3, 4}); }
void OutsideKernel() { mma::StoreShared4(1024 + 64, 1); }
void UntoldCopyKernel(const float* from) {
  TANREN_DYNAMIC_SHARED(16, shared);
  auto* barrier = reinterpret_cast<uint64_t*>(shared);
  hopper::BarrierInit(barrier, 1);
  hopper::BulkLoad(shared + 64, from, 32, barrier);
  hopper::ArriveExpect(barrier, 16);
  hopper::Wait(barrier, 0);
}
void UnwaitedProductKernel() {
  TANREN_DYNAMIC_SHARED(1024, shared);
  float d[32];
  const uint64_t tile = hopper::KMajorDescriptor(hopper::SharedAddress(shared));
  hopper::WgmmaSS<false, false>(d, tile, tile, 0);
  hopper::WgmmaCommit();
}
void UnmadeBarrierKernel() {
  TANREN_DYNAMIC_SHARED(16, shared);
  hopper::Arrive(reinterpret_cast<uint64_t*>(shared));
}

TEST(RulesDeathTest, BrokenOnesEndTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunKernel(LonelyBarrierKernel, 1, 64, 0),
               "no thread can go on(.|\n)*barrier 3, where 32 of 64 have come");
  EXPECT_DEATH(RunKernel(MissingLaneKernel, 1, 32, 0),
               "__shfl_sync of lanes ffffffff, where ffffffef have come");
  EXPECT_DEATH(RunKernel(MixedWarpKernel, 1, 32, 0), "a warp's lanes meet in __s.* and in __s");
  EXPECT_DEATH(
      {
        DeviceArray<float> data(10);
        RunKernel(PastTheEndKernel, 1, 32, 0, data.data, 10);
      },
      "byte 0 beyond an allocation of 40 bytes was written");
  EXPECT_DEATH(RunKernel(UnalignedKernel, 1, 1, 64), "shared address 1032 is no multiple of 16");
  EXPECT_DEATH(RunKernel(OutsideKernel, 1, 1, 64), "shared addresses 1088..1092, of 1024..1088");
  DeviceArray<float> from(8);
  EXPECT_DEATH(RunKernel(UntoldCopyKernel, 1, 1, 128, from.data),
               "mbarrier gets 16 bytes more than it was told of");
  EXPECT_DEATH(
      {
        const ScheduleScope scope(kLate);
        RunKernel(UnwaitedProductKernel, 1, 128, kTileBytes);
      },
      "a thread ends with products that it has not waited for");
  EXPECT_DEATH(RunKernel(UnmadeBarrierKernel, 1, 1, 64), "an mbarrier that nobody made");
}

void EmptyKernel() {}

TEST(Launch, RefusesWhatTheRuntimeRefuses) {
  cudaLaunchConfig_t launch = {};
  launch.gridDim = dim3(1);
  launch.blockDim = dim3(1025);
  EXPECT_EQ(cudaLaunchKernelEx(&launch, EmptyKernel), cudaErrorInvalidConfiguration);
  launch.blockDim = dim3(32);
  launch.dynamicSmemBytes = 50 * 1024;  // needs to be asked for
  EXPECT_EQ(cudaLaunchKernelEx(&launch, EmptyKernel), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(EmptyKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 50 * 1024),
            cudaSuccess);
  EXPECT_EQ(cudaLaunchKernelEx(&launch, EmptyKernel), cudaSuccess);
  EXPECT_EQ(cudaFuncSetAttribute(EmptyKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024),
            cudaErrorInvalidValue);
  cudaGetLastError();
}

// --- Matrices. ---

// c[16, 8] = a[16, 16] b[16, 8]; a by rows and b by columns in shared memory, read by ldmatrix; b once more
// as rows, transposed.
void FragmentKernel(const uint16_t* a, const uint16_t* b_columns, const uint16_t* b_rows, float* c) {
  TANREN_DYNAMIC_SHARED(16, shared);
  auto* as = reinterpret_cast<uint16_t*>(shared);
  auto* columns = as + 256;
  auto* rows = columns + 128;
  for (unsigned i = threadIdx.x; i < 256; i += 32) as[i] = a[i];
  for (unsigned i = threadIdx.x; i < 128; i += 32) columns[i] = b_columns[i], rows[i] = b_rows[i];
  __syncwarp();
  const unsigned lane = threadIdx.x;
  uint32_t left[4], right[4], transposed[4];
  // Matrices in the order of the fragment: rows 0-7 and 8-15 at k 0-7, then at k 8-15.
  mma::LoadMatrices(left, mma::SharedAddress(as + (lane % 16) * 16 + lane / 16 * 8));
  mma::LoadMatrices(right, mma::SharedAddress(columns + lane % 8 * 16 + lane / 8 % 2 * 8));
  mma::LoadMatricesTransposed(transposed, mma::SharedAddress(rows + lane % 16 * 8));
  float sums[4] = {}, same[4] = {};
  mma::Mma(sums, left, right[0], right[1]);
  mma::Mma(same, left, transposed[0], transposed[1]);
  for (int i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    c[row * 8 + column] = sums[i] == same[i] ? sums[i] : NAN;
  }
}

TEST(Matrices, FragmentsByTheirLayout) {
  for (const Schedule& schedule : kSchedules) {
    const ScheduleScope scope(schedule);
    DeviceArray<uint16_t> a(256), columns(128), rows(128);
    DeviceArray<float> c(128);
    const auto bits = [](float value) { return __float2bfloat16_rn(value).bits; };
    for (int i = 0; i < 256; ++i) a[i] = bits(Number(i));
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) columns[n * 16 + k] = rows[k * 8 + n] = bits(Number(1000 + k * 8 + n));
    }
    RunKernel(FragmentKernel, 1, 32, 2048, a.data, columns.data, rows.data, c.data);
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 8; ++n) {
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += Number(m * 16 + k) * Number(1000 + k * 8 + n);
        ASSERT_EQ(c[m * 8 + n], sum) << m << ", " << n;
      }
    }
  }
}

// scores = Q K^T and mix = W V for one head of `heads`, W as a fragment, tiles by the copy engine. What is
// read before it is waited for would be wrong in one of the schedules.
void ProductKernel(CUtensorMap q_map, CUtensorMap k_map, CUtensorMap v_map, int head, float* scores,
                   float* mix, CUtensorMap copy_map) {
  TANREN_DYNAMIC_SHARED(1024, shared);
  unsigned char *q = shared, *k = q + kTileBytes, *v = k + kTileBytes;
  auto* barrier = reinterpret_cast<uint64_t*>(v + kTileBytes);
  if (threadIdx.x == 0) {
    hopper::BarrierInit(barrier, 1);
    hopper::ArriveExpect(barrier, 3 * kTileBytes);
    hopper::TmaLoad4D(q, &q_map, barrier, 0, 0, 0, head);
    hopper::TmaLoad4D(k, &k_map, barrier, 0, 0, 0, head);
    hopper::TmaLoad4D(v, &v_map, barrier, 0, 0, 0, head);
  }
  __syncthreads();
  hopper::Wait(barrier, 0);
  float s[32];
  const uint64_t a = hopper::KMajorDescriptor(hopper::SharedAddress(q));
  const uint64_t b = hopper::KMajorDescriptor(hopper::SharedAddress(k));
  for (int step = 0; step < kDim / hopper::kWgmmaInner; ++step) {
    const uint32_t panel = step / 4 * (kRows * hopper::kPanelRowBytes),
                   within = step % 4 * hopper::kKMajorStepBytes;
    hopper::WgmmaSS<false, false>(s, hopper::Advance(a, panel + within), hopper::Advance(b, panel + within),
                                  step > 0);
  }
  hopper::WgmmaCommit();
  hopper::WgmmaWait<0>();
  uint32_t weights[16];
  float small[32];
  for (int i = 0; i < 32; ++i) {
    const int row = hopper::AccumulatorRow(static_cast<int>(threadIdx.x), i);
    const int column = hopper::AccumulatorColumn(static_cast<int>(threadIdx.x), i);
    scores[row * kRows + column] = s[i];
    small[i] = Number(row * kRows + column);
  }
  hopper::PackFragment(small, weights);
  float o[64];
  const uint64_t values = hopper::MnMajorDescriptor(hopper::SharedAddress(v), kRows * hopper::kPanelRowBytes);
  for (int step = 0; step < kRows / hopper::kWgmmaInner; ++step) {
    hopper::WgmmaRS<true>(o, weights[4 * step], weights[4 * step + 1], weights[4 * step + 2],
                          weights[4 * step + 3], hopper::Advance(values, step * hopper::kMnMajorStepBytes),
                          step > 0);
  }
  hopper::WgmmaCommit();
  hopper::WgmmaWait<0>();
  for (int i = 0; i < 64; ++i) {
    mix[hopper::AccumulatorRow(static_cast<int>(threadIdx.x), i) * kDim +
        hopper::AccumulatorColumn(static_cast<int>(threadIdx.x), i)] = o[i];
  }
  if (threadIdx.x == 0) {
    hopper::TmaStore4D(&copy_map, v, 0, 0, 0, head);
    hopper::BulkCommit();
    hopper::BulkWait<0>();
  }
}

TEST(Matrices, ProductsOfTilesAndTheCopyEngine) {
  constexpr int kHeads = 3, kHead = 1, kStride = kHeads * kDim + 8;
  for (const Schedule& schedule : kSchedules) {
    const ScheduleScope scope(schedule);
    DeviceArray<uint16_t> q(kTokens * kStride), k(kTokens * kStride), v(kTokens * kStride),
        copy(kTokens * kStride);
    DeviceArray<float> scores(kRows * kRows), mix(kRows * kDim);
    const auto at = [](int64_t matrix, int token, int d) {
      return token < kTokens ? Number(matrix * 100000 + token * kDim + d) : 0.0f;
    };
    for (int t = 0; t < kTokens; ++t) {
      for (int d = 0; d < kDim; ++d) {
        const int place = t * kStride + kHead * kDim + d;
        q[place] = __float2bfloat16_rn(at(1, t, d)).bits;
        k[place] = __float2bfloat16_rn(at(2, t, d)).bits;
        v[place] = __float2bfloat16_rn(at(3, t, d)).bits;
      }
    }
    const auto map = [&](const DeviceArray<uint16_t>& of) {
      return hopper::HeadsTensorMap(of.data, kStride, kTokens, kHeads, kDim, kRows);
    };
    RunKernel(ProductKernel, 1, 128, 3 * kTileBytes + 64, map(q), map(k), map(v), kHead, scores.data,
              mix.data, map(copy));
    for (int m = 0; m < kRows; ++m) {
      for (int n = 0; n < kRows; ++n) {
        float sum = 0;
        for (int d = 0; d < kDim; ++d) sum += at(1, m, d) * at(2, n, d);
        ASSERT_EQ(scores[m * kRows + n], sum) << m << ", " << n;
      }
      for (int d = 0; d < kDim; ++d) {
        float sum = 0;
        for (int n = 0; n < kRows; ++n) sum += Number(m * kRows + n) * at(3, n, d);
        ASSERT_EQ(mix[m * kDim + d], sum) << m << ", " << d;
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int d = 0; d < kStride; ++d) {
        const bool inside = d >= kHead * kDim && d < (kHead + 1) * kDim;
        ASSERT_EQ(copy[t * kStride + d], inside ? v[t * kStride + d] : 0xffff) << t << ", " << d;
      }
    }
  }
}

// A product, a copy and their results before and after they are waited for.
void UnwaitedKernel(const float* from, float* seen) {
  TANREN_DYNAMIC_SHARED(1024, shared);
  auto* tile = reinterpret_cast<uint16_t*>(shared);
  for (unsigned i = threadIdx.x; i < kTileBytes / 2; i += 128) tile[i] = __float2bfloat16_rn(1.0f).bits;
  float* copied = reinterpret_cast<float*>(shared + kTileBytes);
  if (threadIdx.x == 0) copied[0] = -1;
  __syncthreads();
  float d[32] = {};
  const uint64_t all_ones = hopper::KMajorDescriptor(hopper::SharedAddress(shared));
  hopper::WgmmaSS<false, false>(d, all_ones, all_ones, 0);
  hopper::WgmmaCommit();
  if (threadIdx.x == 0) {
    mma::CopyAsync4(mma::SharedAddress(copied), from, true);
    seen[0] = d[0], seen[1] = copied[0];
    mma::WaitForCopies();
    seen[3] = copied[0];
  }
  hopper::WgmmaWait<0>();
  if (threadIdx.x == 0) seen[2] = d[0];
}

TEST(Races, WhatIsNotWaitedForIsNotThereWhenThingsAreLate) {
  DeviceArray<float> from(1), seen(4);
  from[0] = 5;
  for (const Schedule& schedule : kSchedules) {
    const ScheduleScope scope(schedule);
    RunKernel(UnwaitedKernel, 1, 128, kTileBytes + 16, from.data, seen.data);
    EXPECT_EQ(seen[0], schedule.late ? 0 : 16);
    EXPECT_EQ(seen[1], schedule.late ? -1 : 5);
    EXPECT_EQ(seen[2], 16);
    EXPECT_EQ(seen[3], 5);
  }
}

// --- Numbers. ---

TEST(Numbers, HalfAsTheCompilersOwn) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = __half2float(__ushort_as_half(static_cast<uint16_t>(bits)));
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits)));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(expected)) << bits;
    // The number itself, what lies halfway to the next, and either side of that.
    const auto next = static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits + 1)));
    const float half = value + (next - value) / 2;
    for (const float x : {value, half, std::nextafter(half, value), std::nextafter(half, next)}) {
      if (!std::isfinite(x)) continue;
      ASSERT_EQ(__half_as_ushort(__float2half_rn(x)), std::bit_cast<uint16_t>(static_cast<_Float16>(x))) << x;
    }
  }
}

// --- Streams. ---

void AddOneKernel(float* to) { *to += 1; }

TEST(Streams, LateWorkIsDoneWhenItIsWaitedFor) {
  const ScheduleScope scope(kLate);
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  DeviceArray<float> number(1);
  number[0] = 0;
  cudaLaunchConfig_t launch = {};
  launch.gridDim = launch.blockDim = dim3(1);
  launch.stream = stream;
  ASSERT_EQ(cudaLaunchKernelEx(&launch, AddOneKernel, number.data), cudaSuccess);
  EXPECT_EQ(number[0], 0);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(number[0], 1);
  // A recorded launch runs when its graph is launched.
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(cudaLaunchKernelEx(&launch, AddOneKernel, number.data), cudaSuccess);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(number[0], 1);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(number[0], 4);
  ASSERT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

}  // namespace
}  // namespace tanren::emulation
