// The device that tests of the upper floors run on: the CPU, or a GPU with TANREN_TEST_DEVICE=cuda.
#ifndef TANREN_TESTS_TEST_DEVICE_H_
#define TANREN_TESTS_TEST_DEVICE_H_

#include <cstdlib>
#include <string_view>

#include "kernels/device.h"

namespace tanren {

inline Device TestDevice() {
  const char* device = std::getenv("TANREN_TEST_DEVICE");
  return device != nullptr && std::string_view(device) == "cuda" ? Device::kCuda : Device::kCpu;
}

// One stream for the whole process.
inline const Stream& TestDeviceStream() {
  static const Stream stream = TestDevice() == Device::kCuda ? kernels::MakeCudaStream(0) : Stream();
  return stream;
}

}  // namespace tanren

#endif  // TANREN_TESTS_TEST_DEVICE_H_
