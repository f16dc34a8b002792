// cuBLASLt of the emulated GPU: column-major products with sums in fp32, one after the other.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/emulation/emulator.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque {
  cudaDataType_t type;
  int64_t rows, columns, stride;
};
struct cublasLtMatmulPreferenceOpaque {};

namespace {

float Read(const void* data, cudaDataType_t type, int64_t at) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
}
void Write(void* data, cudaDataType_t type, int64_t at, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[at] = value;
  } else {
    static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(value);
  }
}

// op(matrix) as rows of fp32, so that the inner loop walks memory.
std::vector<float> Gather(const void* data, const cublasLtMatrixLayoutOpaque& layout, bool rows_first) {
  std::vector<float> out(static_cast<size_t>(layout.rows * layout.columns));
  for (int64_t column = 0; column < layout.columns; ++column) {
    for (int64_t row = 0; row < layout.rows; ++row) {
      const float value = Read(data, layout.type, column * layout.stride + row);
      out[rows_first ? row * layout.columns + column : column * layout.rows + row] = value;
    }
  }
  return out;
}

// sums[i][j] = x's row i times y's row j. An element's sum does not depend on its place in the block.
constexpr int kBlock = 4;
void MultiplyBlock(const float* x, const float* y, int rows, int columns, int64_t inner,
                   float (&sums)[kBlock][kBlock]) {
  constexpr int kWide = 8;
  using Wide = float __attribute__((vector_size(kWide * sizeof(float)), aligned(sizeof(float))));
  const float *left[kBlock], *right[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    left[i] = x + std::min(i, rows - 1) * inner;
    right[i] = y + std::min(i, columns - 1) * inner;
  }
  Wide wide[kBlock][kBlock] = {};
  int64_t k = 0;
  for (; k + kWide <= inner; k += kWide) {
    for (int i = 0; i < kBlock; ++i) {
      const Wide a = *reinterpret_cast<const Wide*>(left[i] + k);
      for (int j = 0; j < kBlock; ++j) wide[i][j] += a * *reinterpret_cast<const Wide*>(right[j] + k);
    }
  }
  for (int i = 0; i < kBlock; ++i) {
    for (int j = 0; j < kBlock; ++j) {
      float sum = 0;
      for (int64_t rest = k; rest < inner; ++rest) sum += left[i][rest] * right[j][rest];
      for (int lane = 0; lane < kWide; ++lane) sum += wide[i][j][lane];
      sums[i][j] = sum;
    }
  }
}

}  // namespace

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_NOT_SUPPORTED";
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t,
                                        cudaDataType_t) {
  *operation = new cublasLtMatmulDescOpaque;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      std::memcpy(&operation->a, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      std::memcpy(&operation->b, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      std::memcpy(&operation->epilogue, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      std::memcpy(&operation->bias, value, bytes);
      break;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t stride) {
  if (stride < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout =
      new cublasLtMatrixLayoutOpaque{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t, const void*,
                                                    size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
// Two equal algorithms, so that tuning has a choice.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = most < 2 ? most : 2;
  for (int i = 0; i < *found; ++i) {
    results[i] = {};
    results[i].algo.data[0] = static_cast<uint64_t>(i) + 1;
    results[i].state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, size_t, cudaStream_t stream) {
  if (algorithm->data[0] == 0) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasLtMatmulDescOpaque desc = *operation;
  const cublasLtMatrixLayoutOpaque al = *a_layout, bl = *b_layout, dl = *d_layout;
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const int64_t inner = desc.a == CUBLAS_OP_N ? al.columns : al.rows;
  if ((desc.b == CUBLAS_OP_N ? bl.rows : bl.columns) != inner ||
      (desc.a == CUBLAS_OP_N ? al.rows : al.columns) != dl.rows ||
      (desc.b == CUBLAS_OP_N ? bl.columns : bl.rows) != dl.columns) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  tanren::emulation::Order(stream, [=] {
    const std::vector<float> left = Gather(a, al, desc.a == CUBLAS_OP_N),
                             right = Gather(b, bl, desc.b == CUBLAS_OP_T);
    for (int64_t column = 0; column < dl.columns; column += kBlock) {
      for (int64_t row = 0; row < dl.rows; row += kBlock) {
        const int rows = static_cast<int>(std::min<int64_t>(kBlock, dl.rows - row));
        const int columns = static_cast<int>(std::min<int64_t>(kBlock, dl.columns - column));
        float sums[kBlock][kBlock];
        MultiplyBlock(left.data() + row * inner, right.data() + column * inner, rows, columns, inner, sums);
        for (int j = 0; j < columns; ++j) {
          for (int i = 0; i < rows; ++i) {
            const int64_t at = (column + j) * dl.stride + row + i;
            float value = scale * sums[i][j];
            if (keep != 0) value += keep * Read(c, dl.type, at);
            if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS) value += Read(desc.bias, dl.type, row + i);
            Write(d, dl.type, at, value);
          }
        }
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
