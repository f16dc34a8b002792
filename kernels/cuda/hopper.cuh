// Building blocks of kernels for Hopper (sm_90a): barriers in shared memory (mbarrier), tensor copies by the
// bulk copy engine (TMA), matrix products by a warpgroup (wgmma) and the handing over of registers between
// warpgroups (setmaxnreg). Each function is one instruction or a short idiom; facts are of the PTX ISA.
//
// Operand tiles in shared memory. All tiles here are bf16 in panels: a tile [rows, columns] is columns / 64
// panels after one another, each [rows, 64] with rows of 128 bytes, 1024-byte aligned, its bytes permuted by
// the 128-byte swizzle (Swizzle128). TensorMap + TmaLoad4D write a tile in this form with one instruction.
// The same tile serves as an operand in two ways:
//  - K-major: its columns are the product's inner dimension (Q and K in Q K^T). KMajorDescriptor; the next 16
//    of the inner dimension are 32 bytes further in a panel (KMajorStep).
//  - MN-major ("transposed"): its rows are the inner dimension (V in P V, whose rows are keys).
//  MnMajorDescriptor;
//    the next 16 of the inner dimension are 16 rows = 2048 bytes further (kMnMajorStepBytes).
//
// Use from code guarded by TANREN_HOPPER_DEVICE only; the same source is compiled for other architectures.
#ifndef TANREN_KERNELS_CUDA_HOPPER_CUH_
#define TANREN_KERNELS_CUDA_HOPPER_CUH_

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/check.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TANREN_HOPPER_DEVICE 1
#else
#define TANREN_HOPPER_DEVICE 0
#endif

namespace tanren::kernels::cuda::hopper {

inline constexpr int kWarpgroup = 128;       // threads: 4 warps, the first a multiple of 4
inline constexpr int kPanelColumns = 64;     // bf16 columns of a panel
inline constexpr int kPanelRowBytes = 128;   // kPanelColumns bf16 numbers
inline constexpr int kTileAlignment = 1024;  // 8 panel rows, after which the swizzle repeats
inline constexpr int kSwizzleGroupBytes = 1024;
inline constexpr int kWgmmaInner = 16;  // inner dimension of one bf16 wgmma
inline constexpr int kWgmmaRows = 64;   // rows of its accumulator
inline constexpr int kKMajorStepBytes = kWgmmaInner * 2;
inline constexpr int kMnMajorStepBytes = kWgmmaInner * kPanelRowBytes;

// ---------------------------------------------------------------------------------------------------------
// Index maps (host and device, so that a host program can check them).

// Where the byte at `offset` of a 1024-byte aligned panel lies: the 16-byte chunk index within a row (bits
// 4-6) is xored with the row's index modulo 8 (bits 7-9).
__host__ __device__ constexpr uint32_t Swizzle128(uint32_t offset) {
  return offset ^ ((offset >> 3) & 0x70u);
}

// Byte offset of element (row, column) of a tile with `rows` rows, swizzle included.
__host__ __device__ constexpr uint32_t TileOffset(uint32_t row, uint32_t column, uint32_t rows) {
  return column / kPanelColumns * rows * kPanelRowBytes +
         Swizzle128(row * kPanelRowBytes + column % kPanelColumns * 2);
}

// Accumulator element i (0 <= i < N / 2) of thread `thread` of the warpgroup, of a product m64nN: its row and
// column. After packing pairs to bf16, elements 8 k .. 8 k + 7 are the A fragment of the k-th 16 of the inner
// dimension of a following product (PackFragment).
__host__ __device__ constexpr int AccumulatorRow(int thread, int i) {
  return thread / 32 * 16 + thread % 32 / 4 + (i / 2 % 2) * 8;
}
__host__ __device__ constexpr int AccumulatorColumn(int thread, int i) {
  return i / 4 * 8 + thread % 4 * 2 + i % 2;
}

// The fields of a matrix descriptor other than its start address (bits 0-13, in 16-byte units): leading
// dimension byte offset (bits 16-29), stride dimension byte offset (bits 32-45), both in 16-byte units, base
// offset 0 (bits 49-51: patterns begin at 1024-byte boundaries) and swizzle mode 1 = 128 bytes (bits 62-63).
__host__ __device__ constexpr uint64_t DescriptorFields(uint32_t leading_bytes, uint32_t stride_bytes) {
  return uint64_t{1} << 62 | uint64_t{(stride_bytes >> 4) & 0x3fffu} << 32 |
         uint64_t{(leading_bytes >> 4) & 0x3fffu} << 16;
}
__host__ __device__ constexpr uint64_t DescriptorAt(uint64_t fields, uint32_t address) {
  return fields | ((address & 0x3ffffu) >> 4);
}

// `address`: shared-memory address of the first row of a panel, 1024-byte aligned, plus a multiple of
// kKMajorStepBytes below 128. Rows are reached in groups of 8, 1024 bytes apart; the leading offset is not
// used under this swizzle. Panel p of the tile is p * rows * 128 bytes further.
__host__ __device__ constexpr uint64_t KMajorDescriptor(uint32_t address) {
  return DescriptorAt(DescriptorFields(16, kSwizzleGroupBytes), address);
}
// `address`: of the first row, 1024-byte aligned, plus a multiple of kMnMajorStepBytes. The 16 rows of the
// inner dimension are two groups of 8, 1024 bytes apart; the leading offset leads from a panel to the next,
// which matters when the product has more than 64 columns (rows, for A).
__host__ __device__ constexpr uint64_t MnMajorDescriptor(uint32_t address, uint32_t panel_bytes) {
  return DescriptorAt(DescriptorFields(panel_bytes, kSwizzleGroupBytes), address);
}
// Moves a descriptor by bytes (a multiple of 16) without a carry out of its address field.
__host__ __device__ constexpr uint64_t Advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor >> 32 << 32 | (static_cast<uint32_t>(descriptor) + (bytes >> 4));
}

// ---------------------------------------------------------------------------------------------------------
// Host: tensor maps.

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                                 CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                                 CUtensorMapFloatOOBfill);

// The driver's function, found at run time so that the program starts where there is no driver. Asked for
// once.
inline EncodeTiled FindEncodeTiled() {
  static const EncodeTiled function = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    constexpr unsigned kSinceVersion = 12000;
    TANREN_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kSinceVersion,
                                                 cudaEnableDefault, &found));
#else
    TANREN_CUDA(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found));
#endif
    TANREN_CUDA_REQUIRE(found == cudaDriverEntryPointSuccess && entry != nullptr);
    return reinterpret_cast<EncodeTiled>(entry);
  }();
  return function;
}

// What TMA asks of a tensor of heads: head h of token t at data + t * stride + h * head_dim.
inline bool TensorMapSupports(const void* data, int64_t stride, int64_t head_dim) {
  constexpr int64_t kAlignmentBytes = 16, kMaxStrideBytes = int64_t{1} << 40;
  return reinterpret_cast<uintptr_t>(data) % kAlignmentBytes == 0 && stride > 0 &&
         stride * 2 % kAlignmentBytes == 0 && stride * 2 < kMaxStrideBytes && head_dim % kPanelColumns == 0;
}

// Map of bf16 heads as a tensor [heads, head_dim / 64, tokens, 64] (coordinates in reverse: 0, token, panel,
// head) whose box is `rows` (<= 256) tokens of all panels of one head: one TmaLoad4D(map, ..., 0, token, 0,
// head) loads a tile of rows * head_dim * 2 bytes in panels. Rows at or past `tokens` are read as zeros (and
// not written by a store). Encoding runs on the host in well under a microsecond, so nothing is cached but
// the entry point. Pass it to the kernel by value as `const __grid_constant__ CUtensorMap`.
inline CUtensorMap HeadsTensorMap(const void* data, int64_t stride, int64_t tokens, int64_t heads,
                                  int64_t head_dim, int rows) {
  constexpr cuuint32_t kRank = 4;
  const cuuint64_t panels = static_cast<cuuint64_t>(head_dim / kPanelColumns);
  const cuuint64_t dims[kRank] = {kPanelColumns, static_cast<cuuint64_t>(tokens), panels,
                                  static_cast<cuuint64_t>(heads)};
  const cuuint64_t strides[kRank - 1] = {static_cast<cuuint64_t>(stride) * 2, kPanelRowBytes,
                                         static_cast<cuuint64_t>(head_dim) * 2};
  const cuuint32_t box[kRank] = {kPanelColumns, static_cast<cuuint32_t>(rows),
                                 static_cast<cuuint32_t>(panels), 1};
  const cuuint32_t element_strides[kRank] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      FindEncodeTiled()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank, const_cast<void*>(data), dims, strides,
                        box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  TANREN_CUDA_REQUIRE(result == CUDA_SUCCESS);
  return map;
}

#if defined(__CUDACC__)

// ---------------------------------------------------------------------------------------------------------
// Barriers and fences.

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// An mbarrier completes a phase when `arrivals` arrivals and all expected bytes have come; phases alternate
// in parity, the first is 0. Initialise by one thread, then FenceBarrierInit by it, then __syncthreads.
__device__ __forceinline__ void BarrierInit(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals)
               : "memory");
}
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
// One arrival that also announces `bytes` of copies to come.
__device__ __forceinline__ void ArriveExpect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}
// Waits for the completion of the phase of this parity. A fresh barrier counts the phase before its first
// (parity 1) as complete, so that a producer's first wait for an empty slot returns at once.
__device__ __forceinline__ void Wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\n"
      "bra WAIT;\n"
      "DONE:\n"
      "}" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// Position in a ring of `kSlots` slots: the slot, and the parity of its current phase. A consumer waits on
// full[slot] with `parity`, a producer on empty[slot] with `parity ^ 1`.
template <int kSlots>
struct RingPosition {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void Next() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// Orders this thread's ordinary writes of shared memory before later reads by wgmma and the copy engine; a
// barrier among the threads follows it.
__device__ __forceinline__ void FenceAsyncProxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Named barriers 1..15 (0 is __syncthreads); `threads` counts those that sync and those that arrive.
__device__ __forceinline__ void NamedSync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void NamedArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Executed by all warps of a warpgroup. The kernel needs __launch_bounds__(threads, 1).
template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---------------------------------------------------------------------------------------------------------
// The copy engine. One thread issues.

__device__ __forceinline__ void PrefetchTensorMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Global to shared; completes on `barrier`, which must have been told the bytes of the whole box (also where
// parts of it lie outside the tensor and are filled with zeros). `to` is kTileAlignment-aligned.
__device__ __forceinline__ void TmaLoad3D(void* to, const CUtensorMap* map, uint64_t* barrier, int c0, int c1,
                                          int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(SharedAddress(to)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
__device__ __forceinline__ void TmaLoad4D(void* to, const CUtensorMap* map, uint64_t* barrier, int c0, int c1,
                                          int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%3, %4, %5, %6}], [%2];" ::"r"(SharedAddress(to)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
// Contiguous bytes (a multiple of 16, both addresses 16-byte aligned).
__device__ __forceinline__ void BulkLoad(void* to, const void* from, int bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          SharedAddress(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}
// Shared to global. FenceAsyncProxy and a barrier come before; BulkCommit closes a group, BulkWaitRead<n>
// waits until at most n groups of this thread still read shared memory, BulkWait<n> until at most n are
// incomplete.
__device__ __forceinline__ void TmaStore4D(const CUtensorMap* map, const void* from, int c0, int c1, int c2,
                                           int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(SharedAddress(from)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
__device__ __forceinline__ void BulkCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kGroups>
__device__ __forceinline__ void BulkWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}
template <int kGroups>
__device__ __forceinline__ void BulkWait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kGroups) : "memory");
}

// ---------------------------------------------------------------------------------------------------------
// wgmma. A product is: WgmmaFence (after registers it uses were written by other instructions), any number of
// WgmmaSS / WgmmaRS, WgmmaCommit, and WgmmaWait<groups that may still run> before its registers are read or
// written; FenceRegisters after the wait keeps the compiler from moving such uses before it.

__device__ __forceinline__ void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kGroups>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
template <int kCount>
__device__ __forceinline__ void FenceRegisters(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void FenceRegisters(uint32_t (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

// Keeps arithmetic beside a product: the assembler moves WgmmaWait up past arithmetic that does not depend on
// the product, so that it would run after the product instead of beside it. It does not move it past a store
// to shared memory. Call it before WgmmaWait with a number that depends on all of the arithmetic and is never
// negative (a sum of weights): nothing is ever stored. (A branch or a trap here would serialise all
// products.)
__device__ __forceinline__ void KeepBeforeWait(float not_negative, float* shared) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.lt.f32 p, %0, 0f00000000;\n@p st.shared.f32 [%1], %0;\n}" ::"f"(not_negative),
      "r"(SharedAddress(shared))
      : "memory");
}

// d[64, N] (+)= A[64, 16] B[16, N], N = 2 * (length of d): 64, 80, 96, 128, 160, 176, 192 or 256. Operands
// are descriptors; kTransposeA / kTransposeB: MN-major instead of K-major. accumulate = 0: d is overwritten.
//   template <bool kTransposeA, bool kTransposeB>
//   void WgmmaSS(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate);
// A from registers (PackFragment of an accumulator), 4 words:
//   template <bool kTransposeB>
//   void WgmmaRS(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, int
//   accumulate);
#define TANREN_ACC8(i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define TANREN_ACC32 TANREN_ACC8(0), TANREN_ACC8(8), TANREN_ACC8(16), TANREN_ACC8(24)
#define TANREN_ACC40 TANREN_ACC32, TANREN_ACC8(32)
#define TANREN_ACC48 TANREN_ACC40, TANREN_ACC8(40)
#define TANREN_ACC64 TANREN_ACC48, TANREN_ACC8(48), TANREN_ACC8(56)
#define TANREN_ACC80 TANREN_ACC64, TANREN_ACC8(64), TANREN_ACC8(72)
#define TANREN_ACC88 TANREN_ACC80, TANREN_ACC8(80)
#define TANREN_ACC96 TANREN_ACC88, TANREN_ACC8(88)
#define TANREN_ACC128 TANREN_ACC96, TANREN_ACC8(96), TANREN_ACC8(104), TANREN_ACC8(112), TANREN_ACC8(120)
#define TANREN_REG32                                                                                \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TANREN_REG40 TANREN_REG32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define TANREN_REG48 TANREN_REG40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define TANREN_REG64 \
  TANREN_REG48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define TANREN_REG80 \
  TANREN_REG64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define TANREN_REG88 TANREN_REG80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define TANREN_REG96 TANREN_REG88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define TANREN_REG128                                                                                    \
  TANREN_REG96                                                                                           \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, " \
  "%113, "                                                                                               \
  "%114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
// p0..p6: the numbers of the operands after the accumulators, which are COUNT onwards.
#define TANREN_WGMMA(N, COUNT, p0, p1, p2, p3, p4, p5, p6)                                              \
  template <bool kTransposeA, bool kTransposeB>                                                         \
  __device__ __forceinline__ void WgmmaSS(float(&d)[COUNT], uint64_t a, uint64_t b, int accumulate) {   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2                                               \
                 ", 0;\n"                                                                               \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" TANREN_REG##COUNT         \
                 "}, %" #p0 ", %" #p1 ", p, 1, 1, %" #p3 ", %" #p4 ";\n}"                               \
                 : TANREN_ACC##COUNT                                                                    \
                 : "l"(a), "l"(b), "r"(accumulate), "n"(int(kTransposeA)), "n"(int(kTransposeB)));      \
  }                                                                                                     \
  template <bool kTransposeB>                                                                           \
  __device__ __forceinline__ void WgmmaRS(float(&d)[COUNT], uint32_t a0, uint32_t a1, uint32_t a2,      \
                                          uint32_t a3, uint64_t b, int accumulate) {                    \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p5                                               \
                 ", 0;\n"                                                                               \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" TANREN_REG##COUNT         \
                 "}, {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}, %" #p4 ", p, 1, 1, %" #p6 ";\n}"         \
                 : TANREN_ACC##COUNT                                                                    \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(accumulate), "n"(int(kTransposeB))); \
  }
TANREN_WGMMA(64, 32, 32, 33, 34, 35, 36, 37, 38)
TANREN_WGMMA(80, 40, 40, 41, 42, 43, 44, 45, 46)
TANREN_WGMMA(96, 48, 48, 49, 50, 51, 52, 53, 54)
TANREN_WGMMA(128, 64, 64, 65, 66, 67, 68, 69, 70)
TANREN_WGMMA(160, 80, 80, 81, 82, 83, 84, 85, 86)
TANREN_WGMMA(176, 88, 88, 89, 90, 91, 92, 93, 94)
TANREN_WGMMA(192, 96, 96, 97, 98, 99, 100, 101, 102)
TANREN_WGMMA(256, 128, 128, 129, 130, 131, 132, 133, 134)
#undef TANREN_WGMMA
#undef TANREN_REG128
#undef TANREN_REG96
#undef TANREN_REG88
#undef TANREN_REG80
#undef TANREN_REG64
#undef TANREN_REG48
#undef TANREN_REG40
#undef TANREN_REG32
#undef TANREN_ACC128
#undef TANREN_ACC96
#undef TANREN_ACC88
#undef TANREN_ACC80
#undef TANREN_ACC64
#undef TANREN_ACC48
#undef TANREN_ACC40
#undef TANREN_ACC32
#undef TANREN_ACC8

// ---------------------------------------------------------------------------------------------------------
// Arithmetic.

// 2^x, error at most 2 ulp; results below the normal range are 0.
__device__ __forceinline__ float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// 1 / x, error 1 ulp; 1 / inf = 0.
__device__ __forceinline__ float Reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// Two bf16 numbers in a word, `low` (of the lower column) in its lower half.
__device__ __forceinline__ uint32_t PackBF16(float low, float high) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}
// An accumulator as A fragments: words 4 k .. 4 k + 3 are the k-th 16 columns.
template <int kCount>
__device__ __forceinline__ void PackFragment(const float (&from)[kCount], uint32_t (&to)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) to[i] = PackBF16(from[2 * i], from[2 * i + 1]);
}

#endif  // __CUDACC__

// Whether this build holds a kernel of this vocabulary for this device: compiled for anything but sm_90a its
// body is empty, which shows in its registers.
template <class... Parameters>
bool HasBody(void (*kernel)(Parameters...)) {
  constexpr int kFewRegisters = 64;
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.numRegs > kFewRegisters;
}

}  // namespace tanren::kernels::cuda::hopper

#endif  // TANREN_KERNELS_CUDA_HOPPER_CUH_
