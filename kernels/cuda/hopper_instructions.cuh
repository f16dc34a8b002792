// The instructions of Hopper (sm_90a) that its attention kernels use: barriers in shared memory (mbarrier),
// copies by the bulk copy engine (TMA), matrix products by a warpgroup (wgmma), the handing over of registers
// between warpgroups (setmaxnreg), stores of accumulators (stmatrix) and a turn counter between blocks. Each
// function is one instruction or a short idiom; facts are of the PTX ISA. Tests replace this header by one of
// plain C++ (tests/emulation).
//
// Use from code guarded by TANREN_HOPPER_DEVICE only; the same source is compiled for other architectures.
#ifndef TANREN_KERNELS_CUDA_HOPPER_INSTRUCTIONS_CUH_
#define TANREN_KERNELS_CUDA_HOPPER_INSTRUCTIONS_CUH_

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/instructions.cuh"

namespace tanren::kernels::cuda::hopper {

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
// Matrices of 8 x 8, additions in global memory, and small copies that complete on an mbarrier.

// Four 8x8 matrices of bf16: lane l gives the address of row l % 8 of matrix l / 8, and holds columns 2 (l %
// 4) and 2 (l % 4) + 1 of row l / 4 of each matrix.
__device__ __forceinline__ void StoreMatrix4(uint32_t address, uint32_t w0, uint32_t w1, uint32_t w2,
                                             uint32_t w3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(w0),
               "r"(w1), "r"(w2), "r"(w3)
               : "memory");
}

// The inverse: loads A fragments of a tile's rows.
__device__ __forceinline__ void LoadMatrix4(uint32_t address, uint32_t& w0, uint32_t& w1, uint32_t& w2,
                                            uint32_t& w3) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(w0), "=r"(w1), "=r"(w2), "=r"(w3)
               : "r"(address)
               : "memory");
}

// Contiguous bytes from shared to global memory (a multiple of 16, both addresses 16-byte aligned), stored,
// or added as fp32 numbers. Grouped and waited for as TmaStore4D.
__device__ __forceinline__ void BulkStore(float* to, const void* from, int bytes) {
  asm volatile(
      "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(to)),
      "r"(SharedAddress(from)), "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void BulkAdd(float* to, const void* from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(SharedAddress(from)), "r"(bytes)
               : "memory");
}

// 4 bytes from global to shared memory, or zeros when `valid` is false (`from` is not read then, but must be
// an address of the same allocation).
__device__ __forceinline__ void CopyAsync4(float* to, const float* from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(SharedAddress(to)),
               "l"(__cvta_generic_to_global(from)), "r"(valid ? 4 : 0)
               : "memory");
}
// One arrival, counted among those the barrier was made for, when all earlier CopyAsync4 of this thread are
// done.
__device__ __forceinline__ void CopyAsyncArrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// A counter in global memory that passes a turn from block to block.
__device__ __forceinline__ int LoadAcquire(const int* counter) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(counter))
               : "memory");
  return value;
}
__device__ __forceinline__ void StoreRelease(int* counter, int value) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(__cvta_generic_to_global(counter)), "r"(value)
               : "memory");
}
// Orders global memory between the bulk copy engine and ordinary accesses of this thread, both ways.
__device__ __forceinline__ void FenceAsyncProxyGlobal() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

}  // namespace tanren::kernels::cuda::hopper

#endif  // TANREN_KERNELS_CUDA_HOPPER_INSTRUCTIONS_CUH_
