// A thin layer over oneDNN's matmul primitive: descriptors of strided matrices and a cache of compiled
// products.
#ifndef TANREN_KERNELS_CPU_ONEDNN_H_
#define TANREN_KERNELS_CPU_ONEDNN_H_

#include <cstdint>
#include <vector>

#include "dnnl.hpp"
#include "kernels/types.h"

namespace tanren::kernels::cpu {

// True where the processor multiplies bf16 pairs (AVX-512 BF16 or AMX). Elsewhere oneDNN 2.6 has either no
// bf16 product at all or an emulation slower than fp32.
bool HasNativeBf16Products();

const dnnl::engine& OneDnnEngine();
dnnl::stream& OneDnnStream();  // one per thread

dnnl::memory::data_type OneDnnType(DType dtype);

// A matrix [rows, columns] whose element (i, j) is at i * row_stride + j * column_stride.
dnnl::memory::desc MatrixDesc(int64_t rows, int64_t columns, DType dtype, int64_t row_stride,
                              int64_t column_stride);

// Copies between layouts and dtypes.
void Reorder(const dnnl::memory& from, const dnnl::memory& to);

// out [m, n] = left [m, k] right [k, n] + bias [n], or out += with `accumulate`.
struct ProductSpec {
  dnnl::memory::desc left, right, out;
  bool bias = false;
  DType bias_dtype = DType::kF32;
  bool accumulate = false;
  // Leaves k and the strides of `left` and `right` open until the product runs: oneDNN then uses its
  // classical gemm, which is faster than its blocked product where neither operand is packed and both are
  // long in k.
  bool open_k = false;
};

// What oneDNN would use for `right` when it may choose (spec.right has format `any`).
dnnl::memory::desc ChooseRightLayout(const ProductSpec& spec);

// Compiled products of one linear layer, by key. Scratch memory of the primitives is oneDNN's own: one block
// a thread that all primitives share and that grows to the largest need, so a repeated call allocates
// nothing.
class ProductCache {
 public:
  struct Key {
    int direction = 0;
    int64_t rows = 0;
    int64_t left_stride = 0, right_stride = 0, out_stride = 0;
    DType out = DType::kF32;
    bool bias = false;
    bool accumulate = false;
    bool operator==(const Key&) const = default;
  };
  struct Operands {
    const void* left = nullptr;
    const void* right = nullptr;
    const void* bias = nullptr;
    void* out = nullptr;
  };

  // Runs the product named by `key`; `make_spec()` describes it when it is not compiled yet.
  template <class MakeSpec>
  void Run(const Key& key, const Operands& operands, const MakeSpec& make_spec) {
    Product* product = Find(key);
    if (product == nullptr) product = Insert(key, make_spec());
    Execute(*product, operands);
  }

 private:
  struct Product {
    Key key;
    dnnl::matmul primitive;
    dnnl::memory left, right, bias, out;
    uint64_t last_use = 0;
  };
  // Enough for the row counts of training, evaluation and decoding; a sweep over more of them recompiles the
  // least recently used, which takes 0.1-0.4 ms.
  static constexpr size_t kMaxProducts = 48;

  Product* Find(const Key& key);
  Product* Insert(const Key& key, const ProductSpec& spec);
  static void Execute(Product& product, const Operands& operands);

  std::vector<Product> products_;
  uint64_t clock_ = 0;
};

}  // namespace tanren::kernels::cpu

#endif  // TANREN_KERNELS_CPU_ONEDNN_H_
