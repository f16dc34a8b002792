// The stream that kernel tests run on: the CPU, or the first GPU when TANREN_TEST_DEVICE=cuda.
//
// On a GPU the test binary's heap is page-locked memory that the device reads and writes in place (see
// test_main.cc), and TANREN_BLOCKING makes every kernel complete on return. So the same test, with ordinary
// vectors, checks both backends. What a kernel writes must live on the heap, not on the stack.
#ifndef TANREN_TESTS_KERNELS_TEST_STREAM_H_
#define TANREN_TESTS_KERNELS_TEST_STREAM_H_

#include "kernels/types.h"

namespace tanren::kernels::testing {

const Stream& TestStream();
inline bool OnCuda() { return TestStream().device == Device::kCuda; }

}  // namespace tanren::kernels::testing

#endif  // TANREN_TESTS_KERNELS_TEST_STREAM_H_
