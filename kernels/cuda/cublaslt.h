// The products of one linear layer on cuBLASLt.
//
// The algorithm of a product is the first of the library's heuristic that runs; with TANREN_TUNE_MATMUL=1 it
// is the fastest of the heuristic's first sixteen on the operands at hand, and layers of equal shape share
// the choice. Algorithms that split k are admitted only where a separate step adds the parts in fp32, so
// equal inputs give equal bits; where tuning chose, that holds within one process. What the library declines
// goes to the plain kernel of product.h, with a line on the standard error, as does everything with
// TANREN_PLAIN_MATMUL=1. The variables are read once.
#ifndef TANREN_KERNELS_CUDA_CUBLASLT_H_
#define TANREN_KERNELS_CUDA_CUBLASLT_H_

#include <cstdint>
#include <vector>

#include "kernels/cuda/product.h"
#include "kernels/types.h"

namespace tanren::kernels::cuda {

class ProductCache {
 public:
  ProductCache();
  ~ProductCache();
  ProductCache(const ProductCache&) = delete;
  ProductCache& operator=(const ProductCache&) = delete;

  // Orders the product on the stream. The bias may have any floating-point dtype and address. All streams are
  // of one device. The first call for a shape, a set of strides or an alignment makes a plan, which takes
  // tens of microseconds, or when tuning waits for the stream; later ones only launch.
  void Run(const Stream& stream, Product product);

  struct Plan;
  struct Library;

 private:
  Plan& FindOrMakePlan(const Stream& stream, const Product& product, void* workspace);

  Library* library_ = nullptr;  // of the device of the first product
  std::vector<Plan> plans_;
  uint64_t clock_ = 0;
};

}  // namespace tanren::kernels::cuda

#endif  // TANREN_KERNELS_CUDA_CUBLASLT_H_
