#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/backend.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include <algorithm>
#include <cstring>

#include "kernels/cpu/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/embedding.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

// to = scale * from, or to += scale * from.
template <class From, class To>
void ScaleRow(int64_t width, const From* from, float scale, To* to, bool accumulate) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VF32 factor = hn::Set(d, scale);
  for (int64_t i = 0; i < width; i += lanes) {
    const VF32 value = LoadUpTo(d, from + i, width - i);
    const VF32 result =
        accumulate ? hn::MulAdd(factor, value, LoadUpTo(d, to + i, width - i)) : hn::Mul(factor, value);
    StoreUpTo(d, result, to + i, width - i);
  }
}

// Elements [from_offset, + width) of one buffer into those of another, whatever their dtypes.
void ScaleRowAny(int64_t width, ConstBuffer from, int64_t from_offset, float scale, Buffer to,
                 int64_t to_offset, bool accumulate) {
  if (from.dtype == DType::kF32) {
    const float* row = from.as<float>() + from_offset;
    if (to.dtype == DType::kF32) return ScaleRow(width, row, scale, to.as<float>() + to_offset, accumulate);
    return ScaleRow(width, row, scale, to.as<BFloat16>() + to_offset, accumulate);
  }
  const BFloat16* row = from.as<BFloat16>() + from_offset;
  if (to.dtype == DType::kF32) return ScaleRow(width, row, scale, to.as<float>() + to_offset, accumulate);
  return ScaleRow(width, row, scale, to.as<BFloat16>() + to_offset, accumulate);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {

HWY_EXPORT(ScaleRowAny);

constexpr int64_t kGrainElements = 16384;

bool IsF32OrBF16(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

void Prefetch(const float* row, int64_t count) {
  constexpr int64_t kLine = 16;  // floats
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(row + i, /*write=*/1);
}

template <class Body>
void ForRows(int64_t rows, int64_t width, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(width, 1));
  cpu::ParallelRange(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace

void cpu::EmbeddingForward(const Stream&, const EmbeddingArgs& args, ConstBuffer table, float scale, Buffer y,
                           bool accumulate) {
  TANREN_KERNEL_CHECK(IsF32OrBF16(table.dtype) && IsF32OrBF16(y.dtype));
  const int64_t width = args.width;
  ForRows(args.tokens, width, [&](int64_t token) {
    const int64_t row = args.ids[token] - args.first_id;
    if (row >= 0 && row < args.rows) {
      HWY_DYNAMIC_DISPATCH(ScaleRowAny)(width, table, row * width, scale, y, token * width, accumulate);
    } else if (!accumulate) {
      const int64_t row_bytes = width * SizeOf(y.dtype);
      std::memset(y.as<char>() + token * row_bytes, 0, row_bytes);
    }
  });
}

// The work is cut by columns and by residue of the id, never by token: each part of a table row belongs to
// one task, which walks all tokens in order. No sorting, no scratch, no atomics.
void cpu::EmbeddingBackward(const Stream&, const EmbeddingArgs& args, ConstBuffer dy, float scale,
                            float* dtable) {
  TANREN_KERNEL_CHECK(IsF32OrBF16(dy.dtype));
  constexpr int64_t kMinSlice = 256;  // columns
  constexpr int64_t kAhead = 2;       // tokens
  const int64_t width = args.width;
  const int64_t threads = args.tokens * width < kGrainElements ? 1 : cpu::MaxThreads();
  const int64_t slices = std::clamp<int64_t>(width / kMinSlice, 1, threads);
  const int64_t classes = (threads + slices - 1) / slices;
  cpu::ParallelItems(slices * classes, [&](int64_t item) {
    const int64_t slice = item % slices;
    const int64_t residue = item / slices;
    const int64_t begin = width * slice / slices;
    const int64_t end = width * (slice + 1) / slices;
    const auto mine = [&](int64_t row) { return row >= 0 && row < args.rows && row % classes == residue; };
    for (int64_t token = 0; token < args.tokens; ++token) {
      // Table rows are scattered over memory: fetch one while the tokens before it are added.
      if (token + kAhead < args.tokens) {
        const int64_t next = args.ids[token + kAhead] - args.first_id;
        if (mine(next)) Prefetch(dtable + next * width + begin, end - begin);
      }
      const int64_t row = args.ids[token] - args.first_id;
      if (!mine(row)) continue;
      HWY_DYNAMIC_DISPATCH(ScaleRowAny)
      (end - begin, dy, token * width + begin, scale, dtable, row * width + begin, true);
    }
  });
}

void cpu::GatherRows(const Stream&, int64_t count, int64_t width, const int32_t* indices, ConstBuffer in,
                     Buffer out) {
  TANREN_KERNEL_CHECK(IsF32OrBF16(in.dtype) && IsF32OrBF16(out.dtype));
  ForRows(count, width, [&](int64_t row) {
    const int64_t from = indices[row] * width;
    if (in.dtype == out.dtype) {
      const int64_t size = SizeOf(in.dtype);
      std::memcpy(out.as<char>() + row * width * size, in.as<char>() + from * size, width * size);
    } else {
      HWY_DYNAMIC_DISPATCH(ScaleRowAny)(width, in, from, 1, out, row * width, false);
    }
  });
}

void cpu::ScatterAddRows(const Stream&, int64_t count, int64_t width, const int32_t* indices, ConstBuffer in,
                         Buffer out) {
  TANREN_KERNEL_CHECK(IsF32OrBF16(in.dtype) && IsF32OrBF16(out.dtype));
  TANREN_KERNEL_CHECK(in.dtype == out.dtype || in.dtype == DType::kF32);
  ForRows(count, width, [&](int64_t row) {
    HWY_DYNAMIC_DISPATCH(ScaleRowAny)(width, in, row * width, 1, out, indices[row] * width, true);
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
