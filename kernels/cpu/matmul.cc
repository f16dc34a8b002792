// Linear layers on oneDNN's matmul.
//
// The forward and the input-gradient product read the weight in the blocked layout that oneDNN prefers (16
// inputs x 64 outputs a block on AVX-512). oneDNN chooses it from the feature counts alone, so it is asked once,
// for kLayoutRows rows, and then imposed on every number of rows: training and decoding share the packed copy.
// Where oneDNN packs nothing (AVX2), the products read the weight itself, through strides.
//
// Without bf16 instructions a bf16 layer keeps an fp32 copy of the weight as its packed storage and converts
// activations to fp32, kWidenRows rows at a time: the same products and sums, rounded to bf16 once at the end.
#include "kernels/matmul.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cpu/check.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/parallel.h"
#include "kernels/reduce.h"

namespace tanren::kernels {
namespace {

constexpr int64_t kLayoutRows = 256;
constexpr int64_t kWidenRows = 256;
constexpr int64_t kPackedAlignment = 64;

enum Direction : int { kForward, kBackwardInput, kBackwardWeight };

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

bool IsBlocked(const dnnl::memory::desc& desc) { return desc.data.format_desc.blocking.inner_nblks > 0; }

// Contiguous y [rows, width] from or to a strided matrix, converting.
void CopyRows(int64_t rows, int64_t width, ConstMatrix from, Matrix to) {
  const int64_t from_step = from.stride * SizeOf(from.data.dtype);
  const int64_t to_step = to.stride * SizeOf(to.data.dtype);
  for (int64_t row = 0; row < rows; ++row) {
    Cast({}, width, {from.data.as<char>() + row * from_step, from.data.dtype},
         {to.data.as<char>() + row * to_step, to.data.dtype});
  }
}

void AddRows(int64_t rows, int64_t width, ConstMatrix from, Matrix to) {
  const int64_t from_step = from.stride * SizeOf(from.data.dtype);
  const int64_t to_step = to.stride * SizeOf(to.data.dtype);
  for (int64_t row = 0; row < rows; ++row) {
    AddScaled({}, width, 1, {from.data.as<char>() + row * from_step, from.data.dtype},
              {to.data.as<char>() + row * to_step, to.data.dtype});
  }
}

ConstMatrix FromRow(ConstMatrix matrix, int64_t row) {
  return {{matrix.data.as<char>() + row * matrix.stride * SizeOf(matrix.data.dtype), matrix.data.dtype},
          matrix.stride};
}
Matrix FromRow(Matrix matrix, int64_t row) {
  return {{matrix.data.as<char>() + row * matrix.stride * SizeOf(matrix.data.dtype), matrix.data.dtype},
          matrix.stride};
}

}  // namespace

struct Linear::Impl {
  // The weight as one of the two products reads it.
  struct Operand {
    dnnl::memory::desc layout;
    int64_t bytes = 0;  // of packed storage; 0: the bound weight (or its fp32 copy) itself
    const void* data = nullptr;
  };

  int64_t out_features;
  int64_t in_features;
  DType dtype;
  DType compute;  // kF32 where bf16 is widened
  bool widened;
  Operand forward, backward;
  ConstBuffer weight;
  void* packed = nullptr;
  bool has_backward = false;
  cpu::ProductCache products;
  // Fp32 blocks of the widened path; they grow at first use.
  std::vector<float> left_scratch, right_scratch, out_scratch, bias_scratch;

  Impl(int64_t out, int64_t in, DType type) : out_features(out), in_features(in), dtype(type) {
    TANREN_KERNEL_CHECK(out > 0 && in > 0);
    TANREN_KERNEL_CHECK(type == DType::kF32 || type == DType::kBF16);
    widened = type == DType::kBF16 && !cpu::HasNativeBf16Products();
    compute = widened ? DType::kF32 : type;
    forward = ChooseOperand(in, out, WeightDesc(kForward));
    backward = ChooseOperand(out, in, WeightDesc(kBackwardInput));
  }

  // The row-major weight as the right operand [k, n] of a product.
  dnnl::memory::desc WeightDesc(Direction direction) const {
    return direction == kForward ? cpu::MatrixDesc(in_features, out_features, compute, 1, in_features)
                                 : cpu::MatrixDesc(out_features, in_features, compute, in_features, 1);
  }

  Operand ChooseOperand(int64_t k, int64_t n, const dnnl::memory::desc& plain) const {
    cpu::ProductSpec spec;
    spec.left = cpu::MatrixDesc(kLayoutRows, k, compute, k, 1);
    spec.right = dnnl::memory::desc({k, n}, cpu::OneDnnType(compute), dnnl::memory::format_tag::any);
    spec.out = cpu::MatrixDesc(kLayoutRows, n, compute, n, 1);
    const dnnl::memory::desc chosen = cpu::ChooseRightLayout(spec);
    if (!IsBlocked(chosen)) return {plain, 0, nullptr};
    return {chosen, RoundUp(static_cast<int64_t>(chosen.get_size()), kPackedAlignment), nullptr};
  }

  // The fp32 copy of a bf16 weight is kept only where a product reads it as it is.
  bool KeepsWideCopy(bool with_backward) const {
    return widened && (forward.bytes == 0 || (with_backward && backward.bytes == 0));
  }
  int64_t WideBytes(bool with_backward) const {
    return KeepsWideCopy(with_backward) ? RoundUp(out_features * in_features * 4, kPackedAlignment) : 0;
  }

  void PackOperand(const Operand& operand, Direction direction, const void* source) {
    if (operand.bytes == 0) return;
    dnnl::memory::desc from = WeightDesc(direction);
    if (source == weight.data && widened) {
      from = direction == kForward ? cpu::MatrixDesc(in_features, out_features, dtype, 1, in_features)
                                   : cpu::MatrixDesc(out_features, in_features, dtype, in_features, 1);
    }
    cpu::Reorder(dnnl::memory(from, cpu::OneDnnEngine(), const_cast<void*>(source)),
                 dnnl::memory(operand.layout, cpu::OneDnnEngine(), const_cast<void*>(operand.data)));
  }

  float* Scratch(std::vector<float>& scratch, int64_t count) {
    if (static_cast<int64_t>(scratch.size()) < count) scratch.resize(count);
    return scratch.data();
  }

  // out [rows, n] = left [rows, k] operand + bias, all in the compute dtype except `out`.
  void Multiply(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out, bool accumulate) {
    const Operand& operand = direction == kForward ? forward : backward;
    const int64_t k = direction == kForward ? in_features : out_features;
    const int64_t n = direction == kForward ? out_features : in_features;
    const cpu::ProductCache::Key key{direction,      rows,           left.stride, 0, out.stride,
                                     out.data.dtype, bool{bias}, accumulate};
    products.Run(key, {left.data.data, operand.data, bias.data, out.data.data}, [&] {
      cpu::ProductSpec spec;
      spec.left = cpu::MatrixDesc(rows, k, compute, left.stride, 1);
      spec.right = operand.layout;
      spec.out = cpu::MatrixDesc(rows, n, out.data.dtype, out.stride, 1);
      spec.bias = bool{bias};
      spec.bias_dtype = bias.dtype;
      spec.accumulate = accumulate;
      return spec;
    });
  }

  void MultiplyWidened(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out,
                       bool accumulate);
  void AddOuterProduct(int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw);
};

void Linear::Impl::MultiplyWidened(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out,
                                   bool accumulate) {
  const int64_t k = direction == kForward ? in_features : out_features;
  const int64_t n = direction == kForward ? out_features : in_features;
  if (bias) {
    float* wide = Scratch(bias_scratch, n);
    Cast({}, n, bias, wide);
    bias = ConstBuffer(wide);
  }
  const bool direct = out.data.dtype == DType::kF32;
  for (int64_t row = 0; row < rows; row += kWidenRows) {
    const int64_t count = std::min(kWidenRows, rows - row);
    float* wide_left = Scratch(left_scratch, kWidenRows * k);
    CopyRows(count, k, FromRow(left, row), {wide_left, k});
    const Matrix part = FromRow(out, row);
    if (direct) {
      Multiply(direction, count, {wide_left, k}, bias, part, accumulate);
      continue;
    }
    float* wide_out = Scratch(out_scratch, kWidenRows * n);
    Multiply(direction, count, {wide_left, k}, bias, {wide_out, n}, false);
    if (accumulate) {
      AddRows(count, n, {wide_out, n}, part);
    } else {
      CopyRows(count, n, {wide_out, n}, part);
    }
  }
}

// dw += dy^T x, the transposition being a matter of strides. oneDNN splits dw between threads by its rows and
// columns, so a sum is never shared.
void Linear::Impl::AddOuterProduct(int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw) {
  const cpu::ProductCache::Key key{kBackwardWeight, rows, dy.stride, x.stride, in_features, DType::kF32, false, true};
  products.Run(key, {dy.data.data, x.data.data, nullptr, dw}, [&] {
    cpu::ProductSpec spec;
    spec.left = cpu::MatrixDesc(out_features, rows, compute, 1, dy.stride);
    spec.right = cpu::MatrixDesc(rows, in_features, compute, x.stride, 1);
    spec.out = cpu::MatrixDesc(out_features, in_features, DType::kF32, in_features, 1);
    spec.accumulate = true;
    return spec;
  });
}

Linear::Linear(int64_t out_features, int64_t in_features, DType dtype)
    : impl_(std::make_unique<Impl>(out_features, in_features, dtype)) {}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

int64_t Linear::PackedBytes(bool backward) const {
  return impl_->forward.bytes + (backward ? impl_->backward.bytes : 0) + impl_->WideBytes(backward);
}

void Linear::Bind(ConstBuffer weight, void* packed, bool backward) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(weight && weight.dtype == impl.dtype);
  TANREN_KERNEL_CHECK(PackedBytes(backward) == 0 || packed != nullptr);
  TANREN_KERNEL_CHECK(reinterpret_cast<uintptr_t>(packed) % kPackedAlignment == 0);
  impl.weight = weight;
  impl.packed = packed;
  impl.has_backward = backward;
  char* next = static_cast<char*>(packed);
  const void* plain = weight.data;
  if (impl.KeepsWideCopy(backward)) {
    plain = next;
    next += impl.WideBytes(backward);
  }
  impl.forward.data = impl.forward.bytes > 0 ? next : plain;
  next += impl.forward.bytes;
  if (backward) impl.backward.data = impl.backward.bytes > 0 ? next : plain;
}

void Linear::Pack(const Stream& stream) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(impl.weight);
  if (impl.KeepsWideCopy(impl.has_backward)) {
    Cast(stream, impl.out_features * impl.in_features, impl.weight, static_cast<float*>(impl.packed));
  }
  impl.PackOperand(impl.forward, kForward, impl.weight.data);
  if (impl.has_backward) impl.PackOperand(impl.backward, kBackwardInput, impl.weight.data);
}

void Linear::Forward(const Stream&, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(impl.weight && x.data.dtype == impl.dtype && (!bias || bias.dtype == impl.dtype));
  TANREN_KERNEL_CHECK(y.data.dtype == impl.dtype || y.data.dtype == DType::kF32);
  if (rows == 0) return;
  if (impl.widened) {
    impl.MultiplyWidened(kForward, rows, x, bias, y, false);
  } else {
    impl.Multiply(kForward, rows, x, bias, y, false);
  }
}

void Linear::BackwardInput(const Stream&, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(impl.weight && impl.has_backward && dy.data.dtype == impl.dtype);
  TANREN_KERNEL_CHECK(dx.data.dtype == impl.dtype || dx.data.dtype == DType::kF32);
  if (rows == 0) return;
  if (impl.widened) {
    impl.MultiplyWidened(kBackwardInput, rows, dy, {}, dx, accumulate);
  } else {
    impl.Multiply(kBackwardInput, rows, dy, {}, dx, accumulate);
  }
}

void Linear::BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                            float* dbias) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(dy.data.dtype == impl.dtype && x.data.dtype == impl.dtype);
  if (rows == 0) return;
  if (dbias != nullptr) ColumnSum(stream, rows, impl.out_features, dy.data, dy.stride, dbias);
  if (!impl.widened) return impl.AddOuterProduct(rows, dy, x, dw);
  for (int64_t row = 0; row < rows; row += kWidenRows) {
    const int64_t count = std::min(kWidenRows, rows - row);
    float* wide_dy = impl.Scratch(impl.left_scratch, kWidenRows * impl.out_features);
    float* wide_x = impl.Scratch(impl.right_scratch, kWidenRows * impl.in_features);
    CopyRows(count, impl.out_features, FromRow(dy, row), {wide_dy, impl.out_features});
    CopyRows(count, impl.in_features, FromRow(x, row), {wide_x, impl.in_features});
    impl.AddOuterProduct(count, {wide_dy, impl.out_features}, {wide_x, impl.in_features}, dw);
  }
}

int64_t Linear::out_features() const { return impl_->out_features; }
int64_t Linear::in_features() const { return impl_->in_features; }

}  // namespace tanren::kernels
