// Linear layers on oneDNN.
//
// The forward and the input-gradient product read the weight in the blocked layout that oneDNN prefers (16
// inputs x 64 outputs a block on AVX-512). oneDNN chooses it from the feature counts alone, so it is asked
// once, for kLayoutRows rows, and then imposed on every number of rows: training and decoding share the
// packed copy. These products treat all rows alike: equal rows give equal bits at any place.
//
// On AVX2 oneDNN 2.6 packs nothing and multiplies by a classical sgemm, whose bits depend on a row's place
// within its tiles of six rows and within its split between threads. There the threads share out columns,
// each calls the sgemm alone, and rows go in blocks of one size that is whole tiles, the last one padded.
//
// Without bf16 instructions a bf16 layer widens its weight (when packing) and its activations (block by
// block) to fp32: the same products and sums, rounded to bf16 once at the end.
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
constexpr int64_t kBlockRows = 240;  // of the paths that go block by block
// Row counts that oneDNN's AVX2 sgemm cuts into whole tiles only: multiples of 6 up to 48, then multiples
// of 48.
constexpr int64_t kTileRows = 6;
constexpr int64_t kTileGroupRows = 48;
constexpr int64_t kPackedAlignment = 64;

enum Direction : int { kForward, kBackwardInput, kBackwardWeight };

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

bool IsBlocked(const dnnl::memory::desc& desc) { return desc.data.format_desc.blocking.inner_nblks > 0; }

const char* RowAddress(ConstMatrix matrix, int64_t row) {
  return matrix.data.as<char>() + row * matrix.stride * SizeOf(matrix.data.dtype);
}

Buffer RowOf(Matrix matrix, int64_t row) {
  return {matrix.data.as<char>() + row * matrix.stride * SizeOf(matrix.data.dtype), matrix.data.dtype};
}

template <class Body>
void ForRows(int64_t rows, int64_t width, const Body& body) {
  cpu::ParallelRange(rows, std::max<int64_t>(1, 16384 / width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

void CopyRows(int64_t rows, int64_t width, ConstMatrix from, Matrix to) {
  ForRows(rows, width, [&](int64_t row) {
    Cast({}, width, {RowAddress(from, row), from.data.dtype}, RowOf(to, row));
  });
}

void AddRows(int64_t rows, int64_t width, ConstMatrix from, Matrix to) {
  ForRows(rows, width, [&](int64_t row) {
    AddScaled({}, width, 1, {RowAddress(from, row), from.data.dtype}, RowOf(to, row));
  });
}

ConstMatrix FromRow(ConstMatrix matrix, int64_t row) {
  return {{RowAddress(matrix, row), matrix.data.dtype}, matrix.stride};
}
Matrix FromRow(Matrix matrix, int64_t row) { return {RowOf(matrix, row), matrix.stride}; }

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
  // Fp32 blocks of the paths that go block by block; they grow at first use.
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
  void Multiply(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out,
                bool accumulate) {
    const Operand& operand = direction == kForward ? forward : backward;
    const int64_t k = direction == kForward ? in_features : out_features;
    const int64_t n = direction == kForward ? out_features : in_features;
    const cpu::ProductCache::Key key{direction,  rows,           left.stride, 0,
                                     out.stride, out.data.dtype, bool{bias},  accumulate};
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

  void MultiplyPlain(Direction direction, int64_t rows, const float* left, int64_t left_stride,
                     ConstBuffer bias, float* out, int64_t out_stride, bool accumulate) const;
  void MultiplyBlocks(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out,
                      bool accumulate);
  void MultiplyRows(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out,
                    bool accumulate);
  void AddOuterProduct(int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw);
};

// All fp32, the weight as it is. Inside a parallel region oneDNN uses the calling thread only, so there is
// always one when there are threads.
void Linear::Impl::MultiplyPlain(Direction direction, int64_t rows, const float* left, int64_t left_stride,
                                 ConstBuffer bias, float* out, int64_t out_stride, bool accumulate) const {
  const int64_t k = direction == kForward ? in_features : out_features;
  const int64_t n = direction == kForward ? out_features : in_features;
  const float* w = static_cast<const float*>((direction == kForward ? forward : backward).data);
  cpu::SplitInTeam(n, 16, [&](int64_t begin, int64_t end) {
    const float* part = direction == kForward ? w + begin * in_features : w + begin;
    const char transpose = direction == kForward ? 'T' : 'N';
    const dnnl_status_t status =
        dnnl_sgemm('N', transpose, rows, end - begin, k, 1.0f, left, left_stride, part, in_features,
                   accumulate ? 1.0f : 0.0f, out + begin, out_stride);
    TANREN_KERNEL_CHECK(status == dnnl_success);
    if (!bias) return;
    for (int64_t row = 0; row < rows; ++row) {
      AddScaled({}, end - begin, 1, bias.as<float>() + begin, out + row * out_stride + begin);
    }
  });
}

// Blocks of one size: a row's bits do not depend on its block.
void Linear::Impl::MultiplyBlocks(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias,
                                  Matrix out, bool accumulate) {
  const int64_t k = direction == kForward ? in_features : out_features;
  const int64_t n = direction == kForward ? out_features : in_features;
  const bool plain = (direction == kForward ? forward : backward).bytes == 0;
  if (bias && bias.dtype != DType::kF32) {
    float* wide = Scratch(bias_scratch, n);
    Cast({}, n, bias, wide);
    bias = ConstBuffer(wide);
  }
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  const int64_t even = (rows + blocks - 1) / blocks;
  const int64_t block = RoundUp(even, even <= kTileGroupRows ? kTileRows : kTileGroupRows);
  for (int64_t row = 0; row < rows; row += block) {
    const int64_t count = std::min(block, rows - row);
    ConstMatrix block_left = FromRow(left, row);
    if (left.data.dtype != DType::kF32 || count < block) {
      float* scratch = Scratch(left_scratch, block * k);
      CopyRows(count, k, block_left, {scratch, k});
      std::fill(scratch + count * k, scratch + block * k, 0.0f);
      block_left = {scratch, k};
    }
    const bool direct = out.data.dtype == DType::kF32 && count == block;
    const Matrix target = FromRow(out, row);
    const Matrix block_out = direct ? target : Matrix{Scratch(out_scratch, block * n), n};
    const bool add = direct && accumulate;
    if (plain) {
      MultiplyPlain(direction, block, block_left.data.as<float>(), block_left.stride, bias,
                    block_out.data.as<float>(), block_out.stride, add);
    } else {
      Multiply(direction, block, block_left, bias, block_out, add);
    }
    if (direct) continue;
    const ConstMatrix result{block_out.data, n};
    accumulate ? AddRows(count, n, result, target) : CopyRows(count, n, result, target);
  }
}

void Linear::Impl::MultiplyRows(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias,
                                Matrix out, bool accumulate) {
  const bool plain = (direction == kForward ? forward : backward).bytes == 0;
  if (plain || widened) {
    MultiplyBlocks(direction, rows, left, bias, out, accumulate);
  } else {
    Multiply(direction, rows, left, bias, out, accumulate);
  }
}

// dw += dy^T x, the transposition being a matter of strides. Both operands change with every call, so there
// is nothing to pack ahead: oneDNN's classical gemm, which packs as it goes, measures 5-10 % ahead of its
// blocked product here.
void Linear::Impl::AddOuterProduct(int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw) {
  if (compute == DType::kF32) {
    const dnnl_status_t status =
        dnnl_sgemm('T', 'N', out_features, in_features, rows, 1.0f, dy.data.as<float>(), dy.stride,
                   x.data.as<float>(), x.stride, 1.0f, dw, in_features);
    TANREN_KERNEL_CHECK(status == dnnl_success);
    return;
  }
  const cpu::ProductCache::Key key{kBackwardWeight, rows,        dy.stride, x.stride,
                                   in_features,     DType::kF32, false,     true};
  products.Run(key, {dy.data.data, x.data.data, nullptr, dw}, [&] {
    cpu::ProductSpec spec;
    spec.left = cpu::MatrixDesc(out_features, rows, compute, 1, dy.stride);
    spec.right = cpu::MatrixDesc(rows, in_features, compute, x.stride, 1);
    spec.out = cpu::MatrixDesc(out_features, in_features, DType::kF32, in_features, 1);
    spec.accumulate = true;
    spec.open_k = true;
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
  impl.MultiplyRows(kForward, rows, x, bias, y, false);
}

void Linear::BackwardInput(const Stream&, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(impl.weight && impl.has_backward && dy.data.dtype == impl.dtype);
  TANREN_KERNEL_CHECK(dx.data.dtype == impl.dtype || dx.data.dtype == DType::kF32);
  if (rows == 0) return;
  impl.MultiplyRows(kBackwardInput, rows, dy, {}, dx, accumulate);
}

void Linear::BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                            float* dbias) {
  Impl& impl = *impl_;
  TANREN_KERNEL_CHECK(dy.data.dtype == impl.dtype && x.data.dtype == impl.dtype);
  if (rows == 0) return;
  if (dbias != nullptr) ColumnSum(stream, rows, impl.out_features, dy.data, dy.stride, dbias);
  if (!impl.widened) return impl.AddOuterProduct(rows, dy, x, dw);
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    const int64_t count = std::min(kBlockRows, rows - row);
    float* wide_dy = impl.Scratch(impl.left_scratch, kBlockRows * impl.out_features);
    float* wide_x = impl.Scratch(impl.right_scratch, kBlockRows * impl.in_features);
    CopyRows(count, impl.out_features, FromRow(dy, row), {wide_dy, impl.out_features});
    CopyRows(count, impl.in_features, FromRow(x, row), {wide_x, impl.in_features});
    impl.AddOuterProduct(count, {wide_dy, impl.out_features}, {wide_x, impl.in_features}, dw);
  }
}

int64_t Linear::out_features() const { return impl_->out_features; }
int64_t Linear::in_features() const { return impl_->in_features; }

}  // namespace tanren::kernels
