// Matrix products of linear layers, in the three directions of training.
//
// A linear layer has a weight w [out, in], row-major, and computes y = x w^T + bias. All matrices are
// row-major with the leading dimension (elements between rows) given; sums are carried in fp32.
// On the CPU the products are oneDNN's, with weights packed once per optimizer step; where the processor
// lacks bf16 instructions oneDNN's reference path or our conversion to fp32 computes the same product.
#ifndef TANREN_KERNELS_MATMUL_H_
#define TANREN_KERNELS_MATMUL_H_

#include <cstdint>
#include <memory>

#include "kernels/types.h"

namespace tanren::kernels {

// A matrix inside a larger row-major buffer: element (i, j) is data[i * stride + j].
struct ConstMatrix {
  ConstBuffer data;
  int64_t stride = 0;
};
struct Matrix {
  Buffer data;
  int64_t stride = 0;
};

// What a backend provides for one weight matrix; the methods are those of Linear.
class LinearImpl {
 public:
  LinearImpl(int64_t out_features, int64_t in_features, DType dtype)
      : out_features_(out_features), in_features_(in_features), dtype_(dtype) {}
  virtual ~LinearImpl() = default;

  virtual int64_t PackedBytes(bool backward) const = 0;
  virtual void Bind(ConstBuffer weight, void* packed, bool backward) = 0;
  virtual void Pack(const Stream& stream) = 0;
  virtual void Forward(const Stream& stream, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) = 0;
  virtual void BackwardInput(const Stream& stream, int64_t rows, ConstMatrix dy, Matrix dx,
                             bool accumulate) = 0;
  virtual void BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                              float* dbias) = 0;

  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  DType dtype() const { return dtype_; }

 private:
  int64_t out_features_;
  int64_t in_features_;
  DType dtype_;
};

// The products of one weight matrix. The object keeps packed copies of the weight in memory that the caller
// provides, and caches a compiled primitive per number of rows.
//
// Results for one row do not depend on the values of other rows. For a given (rows, threads, processor) the
// same inputs give the same bits.
class Linear {
 public:
  // `dtype` is that of the weight and of the inputs: kF32 or kBF16. `device` is that of the streams to come.
  Linear(int64_t out_features, int64_t in_features, DType dtype, Device device = Device::kCpu);
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  // Bytes of packed storage for the forward product and, if `backward`, the input-gradient product; 64-byte
  // aligned storage is required. Zero where the backend packs nothing.
  int64_t PackedBytes(bool backward) const;

  // Tells where the weight w [out, in] (contiguous) and the packed storage live. Both outlive this object.
  // `packed` may be null when PackedBytes is 0.
  void Bind(ConstBuffer weight, void* packed, bool backward);

  // To be called after the weight changed and before the next product.
  void Pack(const Stream& stream);

  // y [rows, out] = x [rows, in] w^T + bias [out] (bias of the weight's dtype, or absent). y is kF32 or the
  // weight's dtype.
  void Forward(const Stream& stream, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y);

  // dx [rows, in] = dy [rows, out] w, or += when `accumulate`. dy and dx have the weight's dtype
  // (dx may be kF32).
  void BackwardInput(const Stream& stream, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate);

  // dw [out, in] += dy^T x and dbias [out] += column sums of dy; dw and dbias are kF32 and contiguous, and
  // dbias may be absent.
  void BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                      float* dbias);

  int64_t out_features() const;
  int64_t in_features() const;

 private:
  std::unique_ptr<LinearImpl> impl_;
};

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_MATMUL_H_
