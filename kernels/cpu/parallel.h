// The thread team of the CPU kernels: OpenMP, the same runtime that oneDNN uses.
#ifndef TANREN_KERNELS_CPU_PARALLEL_H_
#define TANREN_KERNELS_CPU_PARALLEL_H_

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace tanren::kernels::cpu {

inline int MaxThreads() { return omp_get_max_threads(); }

// Calls body(begin, end) on contiguous parts of [0, count), one part a thread; no part is smaller than
// `grain` unless there is only one. Which thread takes which element must not matter to the result.
template <class Body>
void ParallelRange(int64_t count, int64_t grain, const Body& body) {
  const int64_t parts = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, MaxThreads());
  if (parts == 1 || omp_in_parallel()) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) body(count * part / parts, count * (part + 1) / parts);
}

// As ParallelRange over the elements of an array, cut at multiples of 64 elements: whole cache lines and
// whole vectors a thread.
template <class Body>
void ParallelElements(int64_t count, int64_t grain, const Body& body) {
  constexpr int64_t kUnit = 64;
  ParallelRange((count + kUnit - 1) / kUnit, (grain + kUnit - 1) / kUnit,
                [&](int64_t begin, int64_t end) { body(begin * kUnit, std::min(count, end * kUnit)); });
}

// As ParallelRange in whole units, and always inside a parallel region when there are threads: libraries
// called from `body` then work on the calling thread only.
template <class Body>
void SplitInTeam(int64_t count, int64_t unit, const Body& body) {
  const int64_t parts = MaxThreads();
  const int64_t units = (count + unit - 1) / unit;
  if (parts == 1 || omp_in_parallel()) return body(int64_t{0}, count);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = units * part / parts * unit;
    const int64_t end = std::min(count, units * (part + 1) / parts * unit);
    if (begin < end) body(begin, end);
  }
}

// Calls body(item) for every item of [0, count), handed out one by one: for work of uneven size.
template <class Body>
void ParallelItems(int64_t count, const Body& body) {
  if (count <= 1 || omp_in_parallel() || MaxThreads() == 1) {
    for (int64_t item = 0; item < count; ++item) body(item);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t item = 0; item < count; ++item) body(item);
}

}  // namespace tanren::kernels::cpu

#endif  // TANREN_KERNELS_CPU_PARALLEL_H_
