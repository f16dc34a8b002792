// The main function of the kernel tests: chooses the device, and on a GPU moves the heap into page-locked
// memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "kernels/device.h"
#include "tests/kernels/test_stream.h"

namespace {

// A heap of power-of-two blocks in one page-locked allocation; blocks go back to a list of their size. New
// memory is NaN, and so are the bytes behind it, whose writing is noticed when the block is freed.
class PinnedHeap {
 public:
  void Enable(void* memory, size_t bytes) {
    next_ = static_cast<char*>(memory);
    begin_ = next_;
    end_ = next_ + bytes;
  }

  void* Allocate(size_t bytes) {
    if (begin_ == nullptr) return nullptr;
    const std::lock_guard lock(mutex_);
    const size_t size = SizeFor(bytes);
    void*& free_list = free_[std::countr_zero(size)];
    void* block = free_list;
    if (block != nullptr) {
      std::memcpy(&free_list, block, sizeof(void*));
    } else {
      if (next_ + size > end_) return nullptr;
      block = next_;
      next_ += size;
    }
    std::memset(block, kPoison, bytes + kGuardBytes);
    return block;
  }

  bool Owns(void* block) const { return block >= begin_ && block < end_; }

  // The block's size was rounded up the same way, so any size that it could have had names its list.
  void Free(void* block, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto* guard = static_cast<const unsigned char*>(block) + bytes;
    for (size_t i = 0; i < kGuardBytes; ++i) {
      if (guard[i] == kPoison) continue;
      std::fprintf(stderr, "byte %zu behind an allocation of %zu bytes was written\n", i, bytes);
      std::abort();
    }
    void*& free_list = free_[std::countr_zero(SizeFor(bytes))];
    std::memcpy(block, &free_list, sizeof(void*));
    free_list = block;
  }

 private:
  static constexpr size_t kSmallest = 64, kGuardBytes = 32;
  static constexpr int kPoison = 0xff;
  static size_t SizeFor(size_t bytes) { return std::bit_ceil(std::max(kSmallest, bytes + kGuardBytes)); }

  std::mutex mutex_;
  char* begin_ = nullptr;
  char* next_ = nullptr;
  char* end_ = nullptr;
  std::array<void*, 64> free_ = {};
};

PinnedHeap heap;

void* AllocateOrThrow(size_t bytes) {
  void* block = heap.Allocate(bytes);
  if (block == nullptr) block = std::malloc(bytes > 0 ? bytes : 1);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

tanren::Stream test_stream;

constexpr int kSkipped = 77;  // SKIP_RETURN_CODE of the test

}  // namespace

// Deletes without a size leave pinned blocks unused; the pool is larger than the tests need.
void* operator new(size_t bytes) { return AllocateOrThrow(bytes); }
void operator delete(void* block) noexcept {
  if (!heap.Owns(block)) std::free(block);
}
void operator delete(void* block, size_t bytes) noexcept {
  if (block == nullptr) return;
  if (heap.Owns(block)) {
    heap.Free(block, bytes);
  } else {
    std::free(block);
  }
}

namespace tanren::kernels::testing {
const Stream& TestStream() { return test_stream; }
}  // namespace tanren::kernels::testing

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* device = std::getenv("TANREN_TEST_DEVICE");
  if (device != nullptr && std::strcmp(device, "cuda") == 0) {
    if (tanren::kernels::DeviceCount() == 0) {
      std::printf("skipped: TANREN_TEST_DEVICE=cuda: %s\n", tanren::kernels::WhyNoDevice().c_str());
      return kSkipped;
    }
    setenv("TANREN_BLOCKING", "1", 1);
    test_stream = tanren::kernels::MakeCudaStream(0);
    constexpr int64_t kHeapBytes = int64_t{4} << 30;
    void* memory = tanren::kernels::AllocatePinned(kHeapBytes);
    if (memory == nullptr) {
      std::fprintf(stderr, "no page-locked memory for the tests' heap\n");
      return 1;
    }
    heap.Enable(memory, kHeapBytes);
  }
  return RUN_ALL_TESTS();
}
