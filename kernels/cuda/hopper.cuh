// Building blocks of kernels for Hopper (sm_90a): operand tiles, descriptors and tensor maps; the
// instructions that work on them are in hopper_instructions.cuh. Facts are of the PTX ISA.
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
#if defined(__CUDACC__)
#include "kernels/cuda/instructions.cuh"
#endif

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

// An accumulator as A fragments: words 4 k .. 4 k + 3 are the k-th 16 columns.
template <int kCount>
__device__ __forceinline__ void PackFragment(const float (&from)[kCount], uint32_t (&to)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) to[i] = PackBf16(from[2 * i], from[2 * i + 1]);
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
