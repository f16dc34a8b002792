#include "parallel/comm/reduce.h"

#include <algorithm>
#include <type_traits>

#include "core/base/status.h"

#define TANREN_INLINE inline __attribute__((always_inline))

namespace tanren {
namespace {

template <class T>
struct AccumulatorOf {
  using type = T;
};
template <>
struct AccumulatorOf<BFloat16> {
  using type = float;
};
// Unsigned: overflow wraps instead of being undefined.
template <>
struct AccumulatorOf<int32_t> {
  using type = uint32_t;
};
template <>
struct AccumulatorOf<int64_t> {
  using type = uint64_t;
};

// BFloat16's own conversion, spelled without a branch so that it vectorises.
TANREN_INLINE BFloat16 RoundToBFloat16(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const uint32_t quiet = (word >> 16) | 0x40u;
  BFloat16 result;
  result.bits = static_cast<uint16_t>((word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  return result;
}

template <class T, class A>
TANREN_INLINE A Load(T value) {
  return static_cast<A>(value);
}

template <class T, class A>
TANREN_INLINE T Store(A value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return RoundToBFloat16(value);
  } else {
    return static_cast<T>(value);
  }
}

template <ReduceOp kOp, class T, class A>
TANREN_INLINE A Combine(A a, A b) {
  if constexpr (kOp == ReduceOp::kSum) {
    return a + b;
  } else if constexpr (std::is_integral_v<A>) {
    const T x = static_cast<T>(a), y = static_cast<T>(b);
    return static_cast<A>(kOp == ReduceOp::kMax ? (x < y ? y : x) : (y < x ? y : x));
  } else {
    const bool take = (kOp == ReduceOp::kMax ? a < b : b < a) || b != b;
    return take ? b : a;
  }
}

template <ReduceOp kOp, class T>
TANREN_INLINE void Reduce(const void* const* sources, int source_count, T* out, int64_t count) {
  using A = typename AccumulatorOf<T>::type;
  const T* first = static_cast<const T*>(sources[0]);
  const T* second = static_cast<const T*>(sources[1]);
  if (source_count == 2) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      out[i] = Store<T>(Combine<kOp, T>(Load<T, A>(first[i]), Load<T, A>(second[i])));
    }
    return;
  }
  // A block stays in the first-level cache; it is complete before `out`, perhaps a source, is written.
  constexpr int64_t kBlock = 1024;
  A sum[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      sum[i] = Combine<kOp, T>(Load<T, A>(first[begin + i]), Load<T, A>(second[begin + i]));
    }
    for (int s = 2; s < source_count; ++s) {
      const T* source = static_cast<const T*>(sources[s]) + begin;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) sum[i] = Combine<kOp, T>(sum[i], Load<T, A>(source[i]));
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[begin + i] = Store<T>(sum[i]);
  }
}

template <class T>
TANREN_INLINE void ReduceAnyOp(ReduceOp op, const void* const* sources, int source_count, void* out,
                               int64_t count) {
  T* typed = static_cast<T*>(out);
  switch (op) {
    case ReduceOp::kSum:
      return Reduce<ReduceOp::kSum, T>(sources, source_count, typed, count);
    case ReduceOp::kMax:
      return Reduce<ReduceOp::kMax, T>(sources, source_count, typed, count);
    case ReduceOp::kMin:
      return Reduce<ReduceOp::kMin, T>(sources, source_count, typed, count);
  }
}

// One body, compiled for the vector widths that matter. They agree bit for bit: each lane does what the
// scalar does.
using Reduction = void (*)(ReduceOp, const void* const*, int, void*, int64_t);

template <class T>
void ReducePlain(ReduceOp op, const void* const* sources, int source_count, void* out, int64_t count) {
  ReduceAnyOp<T>(op, sources, source_count, out, count);
}

#if defined(__x86_64__)
template <class T>
__attribute__((target("avx2"))) void ReduceAvx2(ReduceOp op, const void* const* sources, int source_count,
                                                void* out, int64_t count) {
  ReduceAnyOp<T>(op, sources, source_count, out, count);
}

template <class T>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void ReduceAvx512(ReduceOp op,
                                                                                const void* const* sources,
                                                                                int source_count, void* out,
                                                                                int64_t count) {
  ReduceAnyOp<T>(op, sources, source_count, out, count);
}
#endif

template <class T>
Reduction BestReduction() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return ReduceAvx512<T>;
  }
  if (__builtin_cpu_supports("avx2")) return ReduceAvx2<T>;
#endif
  return ReducePlain<T>;
}

template <class T>
void ReduceBest(ReduceOp op, const void* const* sources, int source_count, void* out, int64_t count) {
  static const Reduction reduction = BestReduction<T>();
  reduction(op, sources, source_count, out, count);
}

}  // namespace

void ReduceInOrder(DType dtype, ReduceOp op, const void* const* sources, int source_count, void* out,
                   int64_t count) {
  TANREN_CHECK(source_count >= 2);
  switch (dtype) {
    case DType::kF32:
      return ReduceBest<float>(op, sources, source_count, out, count);
    case DType::kF64:
      return ReduceBest<double>(op, sources, source_count, out, count);
    case DType::kBF16:
      return ReduceBest<BFloat16>(op, sources, source_count, out, count);
    case DType::kI32:
      return ReduceBest<int32_t>(op, sources, source_count, out, count);
    case DType::kI64:
      return ReduceBest<int64_t>(op, sources, source_count, out, count);
    case DType::kU8:
      return ReduceBest<uint8_t>(op, sources, source_count, out, count);
    case DType::kF16:
      break;
  }
  TANREN_CHECK_MSG(false, "no reduction for ", NameOf(dtype));
}

}  // namespace tanren
