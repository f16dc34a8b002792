#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/backend.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/check.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/parallel.h"
#include "kernels/digest.h"
#include "kernels/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

// Sixteen running sums, lane j taking elements j, j + 16, ...; the square of a float is exact in double, so
// every instruction set, with or without fused multiply-add, gives the same bits.
double SumOfSquaresBlock(const float* x, int64_t count) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> half;
  constexpr size_t kLanes = hn::MaxLanes(d);
  constexpr size_t kParts = 16 / kLanes;
  hn::Vec<decltype(d)> sums[kParts];
  for (auto& sum : sums) sum = hn::Zero(d);
  const auto add = [&](const float* from) HWY_ATTR {
    for (size_t part = 0; part < kParts; ++part) {
      const auto value = hn::PromoteTo(d, hn::LoadU(half, from + part * kLanes));
      sums[part] = hn::MulAdd(value, value, sums[part]);
    }
  };
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) add(x + i);
  if (i < count) {
    alignas(64) float rest[16] = {};
    std::memcpy(rest, x + i, (count - i) * sizeof(float));
    add(rest);
  }
  alignas(64) double lanes[16];
  for (size_t part = 0; part < kParts; ++part) hn::Store(sums[part], d, lanes + part * kLanes);
  for (int width = 8; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

template <class From, class To>
void ConvertRange(int64_t count, const From* x, To* y) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) StoreF32(d, LoadF32(d, x + i), y + i);
  if (i < count) StorePart(d, LoadPart(d, x + i, count - i), y + i, count - i);
}
void FloatToBFloat16(int64_t count, const float* x, BFloat16* y) { ConvertRange(count, x, y); }
void BFloat16ToFloat(int64_t count, const BFloat16* x, float* y) { ConvertRange(count, x, y); }

template <class X, class Y>
void AddScaledRange(int64_t count, float alpha, const X* x, Y* y) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const VF32 scale = hn::Set(d, alpha);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    StoreF32(d, hn::MulAdd(scale, LoadF32(d, x + i), LoadF32(d, y + i)), y + i);
  }
  if (i < count) {
    const int64_t left = count - i;
    StorePart(d, hn::MulAdd(scale, LoadPart(d, x + i, left), LoadPart(d, y + i, left)), y + i, left);
  }
}
void AddScaledAny(int64_t begin, int64_t end, float alpha, ConstBuffer x, Buffer y) {
  const int64_t count = end - begin;
  if (x.dtype == DType::kF32 && y.dtype == DType::kF32) {
    AddScaledRange(count, alpha, x.as<float>() + begin, y.as<float>() + begin);
  } else if (x.dtype == DType::kF32) {
    AddScaledRange(count, alpha, x.as<float>() + begin, y.as<BFloat16>() + begin);
  } else if (y.dtype == DType::kF32) {
    AddScaledRange(count, alpha, x.as<BFloat16>() + begin, y.as<float>() + begin);
  } else {
    AddScaledRange(count, alpha, x.as<BFloat16>() + begin, y.as<BFloat16>() + begin);
  }
}

// sums[column] += four rows of x, which lie `stride` apart, summed in pairs first.
template <class T>
HWY_INLINE void AddFourRows(int64_t width, const T* x, int64_t stride, float* sums) {
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const auto add = [&](int64_t column, auto load, auto load_sum, auto store) HWY_ATTR {
    const T* from = x + column;
    const VF32 upper = hn::Add(load(from), load(from + stride));
    const VF32 lower = hn::Add(load(from + 2 * stride), load(from + 3 * stride));
    store(hn::Add(load_sum(sums + column), hn::Add(upper, lower)), sums + column);
  };
  int64_t column = 0;
  for (; column + lanes <= width; column += lanes) {
    add(
        column, [&](const T* from) HWY_ATTR { return LoadF32(d, from); },
        [&](const float* from) HWY_ATTR { return hn::LoadU(d, from); },
        [&](VF32 v, float* to) HWY_ATTR { hn::StoreU(v, d, to); });
  }
  const int64_t left = width - column;
  if (left == 0) return;
  add(
      column, [&](const T* from) HWY_ATTR { return LoadPart(d, from, left); },
      [&](const float* from) HWY_ATTR { return LoadPart(d, from, left); },
      [&](VF32 v, float* to) HWY_ATTR { StorePart(d, v, to, left); });
}

template <class T>
HWY_INLINE void AddRow(int64_t width, const T* x, float* sums) {
  const F32 d;
  for (int64_t column = 0; column < width; column += hn::Lanes(d)) {
    const int64_t left = width - column;
    StoreUpTo(d, hn::Add(LoadUpTo(d, sums + column, left), LoadUpTo(d, x + column, left)), sums + column,
              left);
  }
}

// out[column] += sum of `rows` rows, for columns [begin, end), in strips whose sums stay in the first-level
// cache and which are long enough to be read ahead. A block of rows is summed before it joins the total.
template <class T>
void SumColumns(int64_t rows, int64_t begin, int64_t end, const T* x, int64_t stride, float* out) {
  constexpr int64_t kBlockRows = 64;
  constexpr int64_t kStrip = 1024;
  alignas(64) float sums[kStrip];
  for (int64_t first = 0; first < rows; first += kBlockRows) {
    const int64_t count = std::min(kBlockRows, rows - first);
    for (int64_t column = begin; column < end; column += kStrip) {
      const int64_t width = std::min(kStrip, end - column);
      const T* from = x + first * stride + column;
      std::fill(sums, sums + width, 0.0f);
      int64_t row = 0;
      for (; row + 4 <= count; row += 4) AddFourRows(width, from + row * stride, stride, sums);
      for (; row < count; ++row) AddRow(width, from + row * stride, sums);
      AddRow(width, sums, out + column);
    }
  }
}
void SumColumnsF32(int64_t rows, int64_t begin, int64_t end, const float* x, int64_t stride, float* out) {
  SumColumns(rows, begin, end, x, stride, out);
}
void SumColumnsBF16(int64_t rows, int64_t begin, int64_t end, const BFloat16* x, int64_t stride, float* out) {
  SumColumns(rows, begin, end, x, stride, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {

HWY_EXPORT(SumOfSquaresBlock);
HWY_EXPORT(FloatToBFloat16);
HWY_EXPORT(BFloat16ToFloat);
HWY_EXPORT(AddScaledAny);
HWY_EXPORT(SumColumnsF32);
HWY_EXPORT(SumColumnsBF16);

constexpr int64_t kGrain = 32768;  // elements a thread must have for a second thread to pay

bool IsF32OrBF16(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

// float holds every bf16 and binary16 value exactly and double every float, so one of the two is the pivot.
float ToFloat(float value) { return value; }
float ToFloat(BFloat16 value) { return static_cast<float>(value); }
using cpu::ToFloat;

template <class To>
To FromFloat(float value) {
  if constexpr (std::is_same_v<To, cpu::Float16>) {
    return cpu::ToFloat16(value);
  } else {
    return static_cast<To>(value);
  }
}

template <class From, class To>
void ConvertScalar(int64_t begin, int64_t end, const From* x, To* y) {
  for (int64_t i = begin; i < end; ++i) {
    if constexpr (!std::is_same_v<From, double>) {
      y[i] = FromFloat<To>(ToFloat(x[i]));
    } else if constexpr (std::is_same_v<To, float>) {
      y[i] = static_cast<float>(x[i]);
    } else {
      y[i] = FromFloat<To>(cpu::RoundToOdd(x[i]));
    }
  }
}

template <class From>
void ConvertFrom(int64_t begin, int64_t end, const From* x, Buffer y) {
  switch (y.dtype) {
    case DType::kF32:
      return ConvertScalar(begin, end, x, y.as<float>());
    case DType::kBF16:
      return ConvertScalar(begin, end, x, y.as<BFloat16>());
    case DType::kF16:
      return ConvertScalar(begin, end, x, y.as<cpu::Float16>());
    case DType::kF64:
      return ConvertScalar(begin, end, x, y.as<double>());
    default:
      TANREN_KERNEL_CHECK(!"Cast to a floating-point dtype");
  }
}

void ConvertAny(int64_t begin, int64_t end, ConstBuffer x, Buffer y) {
  if (x.dtype == y.dtype) {
    const int64_t size = SizeOf(x.dtype);
    std::memcpy(y.as<char>() + begin * size, x.as<char>() + begin * size, (end - begin) * size);
    return;
  }
  if (x.dtype == DType::kF32 && y.dtype == DType::kBF16) {
    return HWY_DYNAMIC_DISPATCH(FloatToBFloat16)(end - begin, x.as<float>() + begin,
                                                 y.as<BFloat16>() + begin);
  }
  if (x.dtype == DType::kBF16 && y.dtype == DType::kF32) {
    return HWY_DYNAMIC_DISPATCH(BFloat16ToFloat)(end - begin, x.as<BFloat16>() + begin,
                                                 y.as<float>() + begin);
  }
  switch (x.dtype) {
    case DType::kF32:
      return ConvertFrom(begin, end, x.as<float>(), y);
    case DType::kBF16:
      return ConvertFrom(begin, end, x.as<BFloat16>(), y);
    case DType::kF16:
      return ConvertFrom(begin, end, x.as<cpu::Float16>(), y);
    case DType::kF64:
      return ConvertFrom(begin, end, x.as<double>(), y);
    default:
      TANREN_KERNEL_CHECK(!"Cast from a floating-point dtype");
  }
}

}  // namespace

void cpu::SumOfSquares(const Stream&, const float* x, int64_t count, double* result) {
  constexpr int64_t kBlock = 4096;
  constexpr int64_t kBlocksPerPass = 2048;  // bounds the memory for block sums
  std::array<double, kBlocksPerPass> sums;
  double total = 0;
  for (int64_t start = 0; start < count; start += kBlock * kBlocksPerPass) {
    const int64_t blocks = std::min(kBlocksPerPass, (count - start + kBlock - 1) / kBlock);
    cpu::ParallelRange(blocks, kGrain / kBlock, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = start + block * kBlock;
        sums[block] = HWY_DYNAMIC_DISPATCH(SumOfSquaresBlock)(x + first, std::min(kBlock, count - first));
      }
    });
    for (int64_t block = 0; block < blocks; ++block) total += sums[block];
  }
  *result = total;
}

// Sums of unsigned integers do not depend on their order, so neither do the threads' shares.
void cpu::Digest(const Stream&, int64_t bytes, const void* x, uint64_t* result) {
  TANREN_KERNEL_CHECK(reinterpret_cast<uintptr_t>(x) % sizeof(uint64_t) == 0);
  const auto* words = static_cast<const uint64_t*>(x);
  const int64_t whole = bytes / static_cast<int64_t>(sizeof(uint64_t));
  std::atomic<uint64_t> total = 0;
  cpu::ParallelElements(whole, kGrain / 2, [&](int64_t begin, int64_t end) {
    uint64_t sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += DigestWord(words[i], static_cast<uint64_t>(i));
    total.fetch_add(sum, std::memory_order_relaxed);
  });
  uint64_t sum = total.load();
  if (const int64_t rest = bytes % static_cast<int64_t>(sizeof(uint64_t)); rest > 0) {
    uint64_t last = 0;
    std::memcpy(&last, words + whole, rest);
    sum += DigestWord(last, static_cast<uint64_t>(whole));
  }
  *result = sum;
}

void cpu::Cast(const Stream&, int64_t count, ConstBuffer x, Buffer y) {
  cpu::ParallelElements(count, kGrain, [&](int64_t begin, int64_t end) { ConvertAny(begin, end, x, y); });
}

void cpu::AddScaled(const Stream&, int64_t count, float alpha, ConstBuffer x, Buffer y) {
  TANREN_KERNEL_CHECK(IsF32OrBF16(x.dtype) && IsF32OrBF16(y.dtype));
  cpu::ParallelElements(count, kGrain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AddScaledAny)(begin, end, alpha, x, y);
  });
}

void cpu::ColumnSum(const Stream&, int64_t rows, int64_t width, ConstBuffer x, int64_t stride, float* out) {
  TANREN_KERNEL_CHECK(IsF32OrBF16(x.dtype));
  if (rows <= 0) return;
  cpu::ParallelElements(width, std::max<int64_t>(64, kGrain / rows), [&](int64_t begin, int64_t end) {
    if (x.dtype == DType::kF32) {
      HWY_DYNAMIC_DISPATCH(SumColumnsF32)(rows, begin, end, x.as<float>(), stride, out);
    } else {
      HWY_DYNAMIC_DISPATCH(SumColumnsBF16)(rows, begin, end, x.as<BFloat16>(), stride, out);
    }
  });
}

void cpu::Fill(const Stream&, int64_t bytes, uint8_t value, void* data) {
  cpu::ParallelElements(bytes, kGrain * 4, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<char*>(data) + begin, value, end - begin);
  });
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
