// The limits that kernel benchmarks are compared with, measured in the same run.
#ifndef TANREN_TESTS_KERNELS_MACHINE_PEAK_H_
#define TANREN_TESTS_KERNELS_MACHINE_PEAK_H_

#include "kernels/types.h"

namespace tanren::kernels::benchmarks {

// With one thread (OMP_NUM_THREADS=1) everything here and in the benchmarks is measured in the thread's
// processor time, so that shares of the peak mean something on a busy machine; with more, in wall-clock time.
bool MeasuresProcessorTime();

// Operations per second (a multiply-add counts two) of chains of multiply-adds in registers, on all threads:
// the best of several tries. For bf16 on a processor without bf16 instructions, the fp32 figure.
double PeakFlops(DType dtype);

// Bytes per second of a[i] = b[i] + s * c[i] over arrays far larger than the caches, counting 3 x 4 bytes an
// element, best of several tries; stores go through the cache.
double TriadBytesPerSecond();

}  // namespace tanren::kernels::benchmarks

#endif  // TANREN_TESTS_KERNELS_MACHINE_PEAK_H_
