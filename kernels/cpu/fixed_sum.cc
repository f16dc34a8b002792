#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fixed_sum.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
#include "kernels/backend.h"
#include "kernels/cpu/vector-inl.h"
// clang-format on

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/cpu/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/fixed_sum.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {

// Returns the largest magnitude, as bits.
int32_t AddFixedRange(int64_t count, double inverse_unit, float* x, int64_t* sum) {
  const hn::CappedTag<double, 8> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<float, decltype(d)> df;
  const hn::RebindToSigned<decltype(df)> ds;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, inverse_unit);
  // Of numbers between 2^52 and 2^53 the last bit is worth 1, so the addition rounds to an integer, which is
  // in the lower bits.
  const auto magic = hn::Set(d, 0x1.8p52);
  const auto magic_bits = hn::BitCast(di, magic);
  const auto magnitude = hn::Set(ds, 0x7fffffff);
  auto largest = hn::Zero(ds);
  const auto add = [&](float* from, int64_t* to) HWY_ATTR {
    const auto value = hn::LoadU(df, from);
    largest = hn::Max(largest, hn::And(hn::BitCast(ds, value), magnitude));
    const auto shifted = hn::Add(hn::Mul(hn::PromoteTo(d, value), scale), magic);
    const auto term = hn::Sub(hn::BitCast(di, shifted), magic_bits);
    hn::StoreU(hn::Add(hn::LoadU(di, to), term), di, to);
    hn::StoreU(hn::Zero(df), df, from);
  };
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) add(x + i, sum + i);
  if (i < count) {
    float x_rest[8] = {};
    int64_t sum_rest[8] = {};
    std::memcpy(x_rest, x + i, (count - i) * sizeof(float));
    std::memcpy(sum_rest, sum + i, (count - i) * sizeof(int64_t));
    add(x_rest, sum_rest);
    std::memcpy(sum + i, sum_rest, (count - i) * sizeof(int64_t));
    std::memset(x + i, 0, (count - i) * sizeof(float));
  }
  alignas(64) int32_t all[8] = {};
  hn::StoreU(largest, ds, all);
  return *std::max_element(all, all + lanes);
}

}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tanren::kernels {
namespace {

constexpr int64_t kGrain = 8192;  // elements a thread

HWY_EXPORT(AddFixedRange);

}  // namespace

void cpu::AddFixed(const Stream&, int64_t count, double unit, float* x, int64_t* sum, int32_t* largest) {
  TANREN_KERNEL_CHECK(unit > 0);
  std::atomic<int32_t> all = *largest;
  cpu::ParallelElements(count, kGrain, [&](int64_t begin, int64_t end) {
    const int32_t mine = HWY_DYNAMIC_DISPATCH(AddFixedRange)(end - begin, 1 / unit, x + begin, sum + begin);
    int32_t seen = all.load(std::memory_order_relaxed);
    while (seen < mine && !all.compare_exchange_weak(seen, mine, std::memory_order_relaxed)) {
    }
  });
  *largest = all.load();
}

void cpu::FixedToFloat(const Stream&, int64_t count, const int64_t* sum, double unit, double bound, float* x,
                       int64_t* squares) {
  TANREN_KERNEL_CHECK(unit > 0 && bound > 0);
  std::atomic<int64_t> high = 0, low = 0;
  cpu::ParallelElements(count, kGrain, [&](int64_t begin, int64_t end) {
    SquareWords all;
    for (int64_t i = begin; i < end; ++i) {
      x[i] = static_cast<float>(static_cast<double>(sum[i]) * unit);
      const SquareWords one = SquareOf(x[i] * (1 / bound));
      all.high += one.high;
      all.low += one.low;
    }
    high.fetch_add(all.high, std::memory_order_relaxed);
    low.fetch_add(all.low, std::memory_order_relaxed);
  });
  squares[0] += high.load();
  squares[1] += low.load();
}

}  // namespace tanren::kernels
#endif  // HWY_ONCE
