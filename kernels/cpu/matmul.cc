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

#include "kernels/backend.h"
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

class CpuLinear final : public LinearImpl {
 public:
  CpuLinear(int64_t out, int64_t in, DType type);

  int64_t PackedBytes(bool with_backward) const override {
    return forward_.bytes + (with_backward ? backward_.bytes : 0) + WideBytes(with_backward);
  }
  void Bind(ConstBuffer weight, void* packed, bool backward) override;
  void Pack(const Stream& stream) override;
  void Forward(const Stream& stream, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) override;
  void BackwardInput(const Stream& stream, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate) override;
  void BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                      float* dbias) override;

 private:
  // The weight_ as one of the two products_ reads it.
  struct Operand {
    dnnl::memory::desc layout;
    int64_t bytes = 0;  // of packed_ storage; 0: the bound weight_ (or its fp32 copy) itself
    const void* data = nullptr;
  };

  DType compute_;  // kF32 where bf16 is widened_
  bool widened_;
  Operand forward_, backward_;
  ConstBuffer weight_;
  void* packed_ = nullptr;
  bool has_backward_ = false;
  cpu::ProductCache products_;
  // Fp32 blocks of the paths that go block by block; they grow at first use.
  std::vector<float> left_scratch_, right_scratch_, out_scratch_, bias_scratch_;

  // The row-major weight_ as the right operand [k, n] of a product.
  dnnl::memory::desc WeightDesc(Direction direction) const {
    return direction == kForward ? cpu::MatrixDesc(in_features(), out_features(), compute_, 1, in_features())
                                 : cpu::MatrixDesc(out_features(), in_features(), compute_, in_features(), 1);
  }

  Operand ChooseOperand(int64_t k, int64_t n, const dnnl::memory::desc& plain) const {
    cpu::ProductSpec spec;
    spec.left = cpu::MatrixDesc(kLayoutRows, k, compute_, k, 1);
    spec.right = dnnl::memory::desc({k, n}, cpu::OneDnnType(compute_), dnnl::memory::format_tag::any);
    spec.out = cpu::MatrixDesc(kLayoutRows, n, compute_, n, 1);
    const dnnl::memory::desc chosen = cpu::ChooseRightLayout(spec);
    if (!IsBlocked(chosen)) return {plain, 0, nullptr};
    return {chosen, RoundUp(static_cast<int64_t>(chosen.get_size()), kPackedAlignment), nullptr};
  }

  // The fp32 copy of a bf16 weight_ is kept only where a product reads it as it is.
  bool KeepsWideCopy(bool with_backward) const {
    return widened_ && (forward_.bytes == 0 || (with_backward && backward_.bytes == 0));
  }
  int64_t WideBytes(bool with_backward) const {
    return KeepsWideCopy(with_backward) ? RoundUp(out_features() * in_features() * 4, kPackedAlignment) : 0;
  }

  void PackOperand(const Operand& operand, Direction direction, const void* source) {
    if (operand.bytes == 0) return;
    dnnl::memory::desc from = WeightDesc(direction);
    if (source == weight_.data && widened_) {
      from = direction == kForward
                 ? cpu::MatrixDesc(in_features(), out_features(), dtype(), 1, in_features())
                 : cpu::MatrixDesc(out_features(), in_features(), dtype(), in_features(), 1);
    }
    cpu::Reorder(dnnl::memory(from, cpu::OneDnnEngine(), const_cast<void*>(source)),
                 dnnl::memory(operand.layout, cpu::OneDnnEngine(), const_cast<void*>(operand.data)));
  }

  float* Scratch(std::vector<float>& scratch, int64_t count) {
    if (static_cast<int64_t>(scratch.size()) < count) scratch.resize(count);
    return scratch.data();
  }

  // out [rows, n] = left [rows, k] operand + bias, all in the compute_ dtype() except `out`.
  void Multiply(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias, Matrix out,
                bool accumulate) {
    const Operand& operand = direction == kForward ? forward_ : backward_;
    const int64_t k = direction == kForward ? in_features() : out_features();
    const int64_t n = direction == kForward ? out_features() : in_features();
    const cpu::ProductCache::Key key{direction,  rows,           left.stride, 0,
                                     out.stride, out.data.dtype, bool{bias},  accumulate};
    products_.Run(key, {left.data.data, operand.data, bias.data, out.data.data}, [&] {
      cpu::ProductSpec spec;
      spec.left = cpu::MatrixDesc(rows, k, compute_, left.stride, 1);
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

// All fp32, the weight_ as it is. Inside a parallel region oneDNN uses the calling thread only, so there is
// always one when there are threads.
void CpuLinear::MultiplyPlain(Direction direction, int64_t rows, const float* left, int64_t left_stride,
                              ConstBuffer bias, float* out, int64_t out_stride, bool accumulate) const {
  const int64_t k = direction == kForward ? in_features() : out_features();
  const int64_t n = direction == kForward ? out_features() : in_features();
  const float* w = static_cast<const float*>((direction == kForward ? forward_ : backward_).data);
  cpu::SplitInTeam(n, 16, [&](int64_t begin, int64_t end) {
    const float* part = direction == kForward ? w + begin * in_features() : w + begin;
    const char transpose = direction == kForward ? 'T' : 'N';
    const dnnl_status_t status =
        dnnl_sgemm('N', transpose, rows, end - begin, k, 1.0f, left, left_stride, part, in_features(),
                   accumulate ? 1.0f : 0.0f, out + begin, out_stride);
    TANREN_KERNEL_CHECK(status == dnnl_success);
    if (!bias) return;
    for (int64_t row = 0; row < rows; ++row) {
      AddScaled({}, end - begin, 1, bias.as<float>() + begin, out + row * out_stride + begin);
    }
  });
}

// Blocks of one size: a row's bits do not depend on its block.
void CpuLinear::MultiplyBlocks(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias,
                               Matrix out, bool accumulate) {
  const int64_t k = direction == kForward ? in_features() : out_features();
  const int64_t n = direction == kForward ? out_features() : in_features();
  const bool plain = (direction == kForward ? forward_ : backward_).bytes == 0;
  if (bias && bias.dtype != DType::kF32) {
    float* wide = Scratch(bias_scratch_, n);
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
      float* scratch = Scratch(left_scratch_, block * k);
      CopyRows(count, k, block_left, {scratch, k});
      std::fill(scratch + count * k, scratch + block * k, 0.0f);
      block_left = {scratch, k};
    }
    const bool direct = out.data.dtype == DType::kF32 && count == block;
    const Matrix target = FromRow(out, row);
    const Matrix block_out = direct ? target : Matrix{Scratch(out_scratch_, block * n), n};
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

void CpuLinear::MultiplyRows(Direction direction, int64_t rows, ConstMatrix left, ConstBuffer bias,
                             Matrix out, bool accumulate) {
  const bool plain = (direction == kForward ? forward_ : backward_).bytes == 0;
  if (plain || widened_) {
    MultiplyBlocks(direction, rows, left, bias, out, accumulate);
  } else {
    Multiply(direction, rows, left, bias, out, accumulate);
  }
}

// dw += dy^T x, the transposition being a matter of strides. Both operands change with every call, so there
// is nothing to pack ahead: oneDNN's classical gemm, which packs as it goes, measures 5-10 % ahead of its
// blocked product here.
void CpuLinear::AddOuterProduct(int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw) {
  if (compute_ == DType::kF32) {
    const dnnl_status_t status =
        dnnl_sgemm('T', 'N', out_features(), in_features(), rows, 1.0f, dy.data.as<float>(), dy.stride,
                   x.data.as<float>(), x.stride, 1.0f, dw, in_features());
    TANREN_KERNEL_CHECK(status == dnnl_success);
    return;
  }
  const cpu::ProductCache::Key key{kBackwardWeight, rows,        dy.stride, x.stride,
                                   in_features(),   DType::kF32, false,     true};
  products_.Run(key, {dy.data.data, x.data.data, nullptr, dw}, [&] {
    cpu::ProductSpec spec;
    spec.left = cpu::MatrixDesc(out_features(), rows, compute_, 1, dy.stride);
    spec.right = cpu::MatrixDesc(rows, in_features(), compute_, x.stride, 1);
    spec.out = cpu::MatrixDesc(out_features(), in_features(), DType::kF32, in_features(), 1);
    spec.accumulate = true;
    spec.open_k = true;
    return spec;
  });
}

CpuLinear::CpuLinear(int64_t out, int64_t in, DType type) : LinearImpl(out, in, type) {
  TANREN_KERNEL_CHECK(out > 0 && in > 0);
  TANREN_KERNEL_CHECK(type == DType::kF32 || type == DType::kBF16);
  widened_ = type == DType::kBF16 && !cpu::HasNativeBf16Products();
  compute_ = widened_ ? DType::kF32 : type;
  forward_ = ChooseOperand(in, out, WeightDesc(kForward));
  backward_ = ChooseOperand(out, in, WeightDesc(kBackwardInput));
}

void CpuLinear::Bind(ConstBuffer weight, void* packed, bool backward) {
  TANREN_KERNEL_CHECK(weight && weight.dtype == dtype());
  TANREN_KERNEL_CHECK(PackedBytes(backward) == 0 || packed != nullptr);
  TANREN_KERNEL_CHECK(reinterpret_cast<uintptr_t>(packed) % kPackedAlignment == 0);
  weight_ = weight;
  packed_ = packed;
  has_backward_ = backward;
  char* next = static_cast<char*>(packed);
  const void* plain = weight.data;
  if (KeepsWideCopy(backward)) {
    plain = next;
    next += WideBytes(backward);
  }
  forward_.data = forward_.bytes > 0 ? next : plain;
  next += forward_.bytes;
  if (backward) backward_.data = backward_.bytes > 0 ? next : plain;
}

void CpuLinear::Pack(const Stream& stream) {
  TANREN_KERNEL_CHECK(weight_);
  if (KeepsWideCopy(has_backward_)) {
    Cast(stream, out_features() * in_features(), weight_, static_cast<float*>(packed_));
  }
  PackOperand(forward_, kForward, weight_.data);
  if (has_backward_) PackOperand(backward_, kBackwardInput, weight_.data);
}

void CpuLinear::Forward(const Stream&, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) {
  TANREN_KERNEL_CHECK(weight_ && x.data.dtype == dtype() && (!bias || bias.dtype == dtype()));
  TANREN_KERNEL_CHECK(y.data.dtype == dtype() || y.data.dtype == DType::kF32);
  if (rows == 0) return;
  MultiplyRows(kForward, rows, x, bias, y, false);
}

void CpuLinear::BackwardInput(const Stream&, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate) {
  TANREN_KERNEL_CHECK(weight_ && has_backward_ && dy.data.dtype == dtype());
  TANREN_KERNEL_CHECK(dx.data.dtype == dtype() || dx.data.dtype == DType::kF32);
  if (rows == 0) return;
  MultiplyRows(kBackwardInput, rows, dy, {}, dx, accumulate);
}

void CpuLinear::BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                               float* dbias) {
  TANREN_KERNEL_CHECK(dy.data.dtype == dtype() && x.data.dtype == dtype());
  if (rows == 0) return;
  if (dbias != nullptr) ColumnSum(stream, rows, out_features(), dy.data, dy.stride, dbias);
  if (!widened_) return AddOuterProduct(rows, dy, x, dw);
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    const int64_t count = std::min(kBlockRows, rows - row);
    float* wide_dy = Scratch(left_scratch_, kBlockRows * out_features());
    float* wide_x = Scratch(right_scratch_, kBlockRows * in_features());
    CopyRows(count, out_features(), FromRow(dy, row), {wide_dy, out_features()});
    CopyRows(count, in_features(), FromRow(x, row), {wide_x, in_features()});
    AddOuterProduct(count, {wide_dy, out_features()}, {wide_x, in_features()}, dw);
  }
}

}  // namespace

std::unique_ptr<LinearImpl> cpu::MakeLinear(int64_t out_features, int64_t in_features, DType dtype) {
  return std::make_unique<CpuLinear>(out_features, in_features, dtype);
}

}  // namespace tanren::kernels
