// What the project's kernels use of the CUDA driver's cuda.h, for the emulated GPU (see emulator.h): tensor
// maps.
#ifndef TANREN_TESTS_EMULATION_INCLUDE_CUDA_H_
#define TANREN_TESTS_EMULATION_INCLUDE_CUDA_H_

#include <cstdint>

using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;
enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_128B };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE };

// The real one is opaque. All elements are 2 bytes.
struct alignas(64) CUtensorMap {
  unsigned char* data;
  uint64_t dims[4];     // elements; the first changes fastest
  uint64_t strides[4];  // bytes; strides[0] is an element's
  uint32_t box[4];
  uint32_t rank;
  uint32_t is_swizzled;
  uint64_t mark;  // that of an encoded map
};
static_assert(sizeof(CUtensorMap) == 128);

#endif  // TANREN_TESTS_EMULATION_INCLUDE_CUDA_H_
