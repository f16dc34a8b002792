#include <cstdio>
#include <cstdlib>

#include "gtest/gtest.h"
#include "tests/parallel/engine_mpi/support.h"
#include "tests/test_device.h"

namespace tanren {
namespace {
std::unique_ptr<Runtime> runtime;
}  // namespace

Runtime& TestRuntime() { return *runtime; }

}  // namespace tanren

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  auto started = tanren::Runtime::Start();
  if (!started.ok()) {
    std::fprintf(stderr, "%s\n", started.status().ToString().c_str());
    return 2;
  }
  tanren::runtime = *std::move(started);
  if (tanren::TestDevice() == tanren::Device::kCuda && tanren::kernels::DeviceCount() == 0) {
    std::printf("skipped: TANREN_TEST_DEVICE=cuda: %s\n", tanren::kernels::WhyNoDevice().c_str());
    tanren::runtime.reset();
    return 77;  // SKIP_RETURN_CODE of the test
  }
  tanren::MeshShape shape;
  shape.data = 0;
  const char* tensor = std::getenv("TANREN_TEST_TENSOR");
  shape.tensor = tensor ? std::atoi(tensor) : 1;
  const absl::Status built = tanren::runtime->BuildMesh(shape, tanren::TestDevice());
  if (!built.ok()) {
    std::fprintf(stderr, "%s\n", built.ToString().c_str());
    return 2;
  }
  // A rank that fails must not leave the others waiting in a collective of the next test.
  testing::FLAGS_gtest_break_on_failure = false;
  const int result = RUN_ALL_TESTS();
  if (result != 0) tanren::Runtime::Abort(result);
  tanren::runtime.reset();
  return 0;
}
