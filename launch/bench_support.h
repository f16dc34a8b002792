// What the benchmarks share: memory on the device at hand, random numbers in it, and medians of repeated
// runs.
#ifndef TANREN_LAUNCH_BENCH_SUPPORT_H_
#define TANREN_LAUNCH_BENCH_SUPPORT_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "core/base/status.h"
#include "core/tensor/arena.h"
#include "kernels/device.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "launch/bench_verb.h"

namespace tanren {

// What the options name, or why it can't be used.
inline absl::StatusOr<DType> DTypeOf(const BenchOptions& options) {
  if (options.precision == "bf16") return DType::kBF16;
  if (options.precision == "fp32") return DType::kF32;
  return InvalidInput("--precision: %s; use bf16 or fp32", options.precision);
}
inline absl::StatusOr<Device> DeviceOf(const BenchOptions& options) {
  if (options.device == "cpu") return Device::kCpu;
  if (options.device != "cuda") return InvalidInput("--device: %s; use cpu or cuda", options.device);
  if (kernels::DeviceCount() == 0) return InvalidInput("--device cuda: %s", kernels::WhyNoDevice());
  return Device::kCuda;
}

// Memory that lives as long as the block.
class BenchMemory {
 public:
  BenchMemory(const Stream& stream, DType dtype, int64_t count)
      : arena_("benchmark", stream.device), dtype_(dtype), count_(count) {
    arena_.Take("block", dtype, count);
    arena_.Commit();
    buffer_ = arena_.Take("block", dtype, count);
  }
  Buffer buffer() const { return buffer_; }
  operator Buffer() const { return buffer_; }       // NOLINT: meant to convert
  operator ConstBuffer() const { return buffer_; }  // NOLINT: meant to convert
  template <class T>
  T* as() const {
    return buffer_.as<T>();
  }

  // Normal numbers: products of zeros run faster than those of real data.
  void FillNormal(const Stream& stream, float deviation, uint64_t seed) {
    constexpr int64_t kPiece = int64_t{1} << 24;
    BenchMemory piece(stream, DType::kF32, std::min(count_, kPiece));
    for (int64_t begin = 0; begin < count_; begin += kPiece) {
      const int64_t count = std::min(kPiece, count_ - begin);
      kernels::FillNormal(stream, seed, 0, begin, count, deviation, piece.as<float>());
      kernels::Cast(stream, count, piece, Buffer(buffer_.as<char>() + begin * SizeOf(dtype_), dtype_));
    }
    kernels::Synchronize(stream);
  }

 private:
  Arena arena_;
  DType dtype_;
  int64_t count_;
  Buffer buffer_;
};

// Seconds of one call: the median over samples, each of as many calls as take about 20 ms, after a warm-up.
template <class Body>
double MedianSeconds(const Stream& stream, const Body& body, int samples = 11) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_of = [&](int calls) {
    kernels::Synchronize(stream);
    const auto begin = Clock::now();
    for (int i = 0; i < calls; ++i) body();
    kernels::Synchronize(stream);
    return std::chrono::duration<double>(Clock::now() - begin).count() / calls;
  };
  seconds_of(1);
  const double once = seconds_of(2);
  const int calls = static_cast<int>(std::clamp(0.02 / once, 1.0, 200.0));
  std::vector<double> all;
  for (int i = 0; i < samples; ++i) all.push_back(seconds_of(calls));
  std::nth_element(all.begin(), all.begin() + samples / 2, all.end());
  return all[samples / 2];
}

}  // namespace tanren

#endif  // TANREN_LAUNCH_BENCH_SUPPORT_H_
