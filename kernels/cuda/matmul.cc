// Linear layers as matrix products of cuBLASLt, and of our own where there are few rows. Nothing is packed:
// the products read the weight as it is.
#include "kernels/matmul.h"

#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/skinny_product.h"

namespace tanren::kernels {
namespace cuda {
namespace {

class CudaLinear final : public LinearImpl {
 public:
  CudaLinear(int64_t out_features, int64_t in_features, DType dtype);

  int64_t PackedBytes(bool) const override { return 0; }
  void Bind(ConstBuffer weight, void* packed, bool backward) override;
  void Pack(const Stream&) override { TANREN_CUDA_REQUIRE(weight_); }
  void Forward(const Stream& stream, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) override;
  void BackwardInput(const Stream& stream, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate) override;
  void BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                      float* dbias) override;

 private:
  ConstBuffer weight_;
  bool has_backward_ = false;
  ProductCache products_;
};

CudaLinear::CudaLinear(int64_t out_features, int64_t in_features, DType dtype)
    : LinearImpl(out_features, in_features, dtype) {
  TANREN_CUDA_REQUIRE(out_features > 0 && in_features > 0);
  TANREN_CUDA_REQUIRE(dtype == DType::kF32 || dtype == DType::kBF16);
}

void CudaLinear::Bind(ConstBuffer weight, void*, bool backward) {
  TANREN_CUDA_REQUIRE(weight && weight.dtype == dtype());
  weight_ = weight;
  has_backward_ = backward;
}

void CudaLinear::Forward(const Stream& stream, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) {
  TANREN_CUDA_REQUIRE(weight_ && x.data.dtype == dtype() && (!bias || bias.dtype == dtype()));
  TANREN_CUDA_REQUIRE(y.data.dtype == dtype() || y.data.dtype == DType::kF32);
  if (rows == 0) return;
  if (SkinnyProductSupports(rows, in_features(), x, weight_)) {
    return SkinnyProduct(stream, rows, out_features(), in_features(), x, weight_, bias, y);
  }
  products_.Run(stream, {.name = "forward",
                         .m = rows,
                         .n = out_features(),
                         .k = in_features(),
                         .dtype = dtype(),
                         .left = {x.data.data, x.stride, false},
                         .right = {weight_.data, in_features(), true},
                         .bias = bias,
                         .out = y});
}

void CudaLinear::BackwardInput(const Stream& stream, int64_t rows, ConstMatrix dy, Matrix dx,
                               bool accumulate) {
  TANREN_CUDA_REQUIRE(weight_ && has_backward_ && dy.data.dtype == dtype());
  TANREN_CUDA_REQUIRE(dx.data.dtype == dtype() || dx.data.dtype == DType::kF32);
  if (rows == 0) return;
  products_.Run(stream, {.name = "input gradient",
                         .m = rows,
                         .n = in_features(),
                         .k = out_features(),
                         .dtype = dtype(),
                         .left = {dy.data.data, dy.stride, false},
                         .right = {weight_.data, in_features(), false},
                         .out = dx,
                         .accumulate = accumulate});
}

void CudaLinear::BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                                float* dbias) {
  TANREN_CUDA_REQUIRE(dy.data.dtype == dtype() && x.data.dtype == dtype());
  if (rows == 0) return;
  if (dbias != nullptr) cuda::ColumnSum(stream, rows, out_features(), dy.data, dy.stride, dbias);
  products_.Run(stream, {.name = "weight gradient",
                         .m = out_features(),
                         .n = in_features(),
                         .k = rows,
                         .dtype = dtype(),
                         .left = {dy.data.data, dy.stride, true},
                         .right = {x.data.data, x.stride, false},
                         .out = {dw, in_features()},
                         .accumulate = true});
}

}  // namespace
}  // namespace cuda

std::unique_ptr<LinearImpl> cuda::MakeLinear(int64_t out_features, int64_t in_features, DType dtype) {
  return std::make_unique<CudaLinear>(out_features, in_features, dtype);
}

}  // namespace tanren::kernels
