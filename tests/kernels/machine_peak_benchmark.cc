#include <immintrin.h>
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/machine_peak.h"

namespace tanren::kernels::benchmarks {
namespace {

double Now() {
  timespec time;
  clock_gettime(MeasuresProcessorTime() ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

constexpr int kChains = 12;  // enough to hide the latency of a multiply-add on two pipes
constexpr int64_t kSteps = 4'000'000;

// Twelve named chains: an array would be kept in memory. The empty assembly keeps the compiler from folding
// steps.
#define TANREN_EACH_CHAIN(apply)                                                                      \
  apply(0) apply(1) apply(2) apply(3) apply(4) apply(5) apply(6) apply(7) apply(8) apply(9) apply(10) \
      apply(11)

__attribute__((target("avx512f"))) double Avx512() {
  const __m512 x = _mm512_set1_ps(0.999f);
#define TANREN_START(j) __m512 chain##j = x;
#define TANREN_STEP(j)                        \
  chain##j = _mm512_fmadd_ps(chain##j, x, x); \
  __asm__ volatile("" : "+v"(chain##j));
  TANREN_EACH_CHAIN(TANREN_START)
  for (int64_t i = 0; i < kSteps; ++i) {
    TANREN_EACH_CHAIN(TANREN_STEP)
  }
#undef TANREN_START
#undef TANREN_STEP
  return 32;
}

__attribute__((target("avx512f,avx512bf16"))) double Avx512Bf16() {
  const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f80);
#define TANREN_START(j) __m512 chain##j = _mm512_setzero_ps();
#define TANREN_STEP(j)                         \
  chain##j = _mm512_dpbf16_ps(chain##j, x, x); \
  __asm__ volatile("" : "+v"(chain##j));
  TANREN_EACH_CHAIN(TANREN_START)
  for (int64_t i = 0; i < kSteps; ++i) {
    TANREN_EACH_CHAIN(TANREN_STEP)
  }
#undef TANREN_START
#undef TANREN_STEP
  return 64;
}

__attribute__((target("avx2,fma"))) double Avx2() {
  const __m256 x = _mm256_set1_ps(0.999f);
#define TANREN_START(j) __m256 chain##j = x;
#define TANREN_STEP(j)                        \
  chain##j = _mm256_fmadd_ps(chain##j, x, x); \
  __asm__ volatile("" : "+v"(chain##j));
  TANREN_EACH_CHAIN(TANREN_START)
  for (int64_t i = 0; i < kSteps; ++i) {
    TANREN_EACH_CHAIN(TANREN_STEP)
  }
#undef TANREN_START
#undef TANREN_STEP
  return 16;
}
#undef TANREN_EACH_CHAIN

}  // namespace

bool MeasuresProcessorTime() { return omp_get_max_threads() == 1; }

double PeakFlops(DType dtype) {
  __builtin_cpu_init();
  auto* run = &Avx2;
  if (__builtin_cpu_supports("avx512f")) run = &Avx512;
  if (dtype == DType::kBF16 && __builtin_cpu_supports("avx512bf16")) run = &Avx512Bf16;
  double best = 0;
  for (int attempt = 0; attempt < 7; ++attempt) {
    double flops_per_step = 0;
    const double start = Now();
#pragma omp parallel reduction(+ : flops_per_step)
    flops_per_step += (*run)();
    best = std::max(best, flops_per_step * kChains * kSteps / (Now() - start));
  }
  return best;
}

double TriadBytesPerSecond() {
  constexpr int64_t kCount = 1 << 25;
  static std::vector<float> a(kCount, 1), b(kCount, 2), c(kCount, 3);
  double best = 0;
  for (int attempt = 0; attempt < 7; ++attempt) {
    const double start = Now();
    cpu::ParallelElements(kCount, 1, [&](int64_t begin, int64_t end) {
      float* to = a.data();
      const float *left = b.data(), *right = c.data();
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] = left[i] + 0.5f * right[i];
    });
    best = std::max(best, 12.0 * kCount / (Now() - start));
  }
  return best;
}

}  // namespace tanren::kernels::benchmarks
