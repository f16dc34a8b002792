// Copies between buffers of a stream's device.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"
#include "tests/kernels/test_stream.h"

namespace tanren::kernels::testing {
namespace {

// Memory of the stream's device.
using DeviceBytes = std::unique_ptr<void, void (*)(void*)>;
DeviceBytes Allocate(int64_t bytes) {
  if (OnCuda()) return {AllocateDevice(bytes), FreeDevice};
  return {std::malloc(bytes), std::free};
}

// What CopyRows makes of a target full of 255, from bytes 0, 1, 2 ..
std::vector<uint8_t> Copied(int64_t rows, int64_t width, int64_t to_stride, int64_t from_stride) {
  constexpr int64_t kBytes = 64;
  std::vector<uint8_t> from(kBytes), to(kBytes, 255);
  for (int64_t i = 0; i < kBytes; ++i) from[i] = static_cast<uint8_t>(i);
  const DeviceBytes source = Allocate(kBytes), target = Allocate(kBytes);
  CopyToDevice(TestStream(), source.get(), from.data(), kBytes);
  CopyToDevice(TestStream(), target.get(), to.data(), kBytes);
  CopyRows(TestStream(), rows, width, target.get(), to_stride, source.get(), from_stride);
  CopyToHost(TestStream(), to.data(), target.get(), kBytes);
  return to;
}

TEST(CopyRowsTest, CopiesTheRowsAndNothingElse) {
  struct Shape {
    int64_t rows, width, to_stride, from_stride;
  };
  // One row, packed rows, and rows with a gap on either side and on both; nothing.
  for (const Shape& s : {Shape{1, 37, 37, 37}, Shape{1, 5, 1, 1}, Shape{4, 8, 8, 8}, Shape{4, 8, 12, 8},
                         Shape{4, 8, 8, 12}, Shape{5, 3, 10, 9}, Shape{0, 8, 8, 8}, Shape{4, 0, 8, 8}}) {
    std::vector<uint8_t> expected(64, 255);
    for (int64_t row = 0; row < s.rows; ++row) {
      for (int64_t i = 0; i < s.width; ++i)
        expected[row * s.to_stride + i] = static_cast<uint8_t>(row * s.from_stride + i);
    }
    EXPECT_EQ(Copied(s.rows, s.width, s.to_stride, s.from_stride), expected)
        << s.rows << " rows of " << s.width << ", strides " << s.to_stride << " and " << s.from_stride;
  }
}

}  // namespace
}  // namespace tanren::kernels::testing
