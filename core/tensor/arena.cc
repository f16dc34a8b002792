#include "core/tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/status.h"
#include "kernels/device.h"

namespace tanren {

Arena::Arena(Arena&& other) noexcept
    : name_(std::move(other.name_)),
      device_(other.device_),
      pinned_(other.pinned_),
      committed_(other.committed_),
      base_(std::exchange(other.base_, nullptr)),
      allocated_bytes_(std::exchange(other.allocated_bytes_, 0)),
      used_bytes_(other.used_bytes_),
      high_water_bytes_(other.high_water_bytes_),
      items_(std::move(other.items_)) {}

Arena::~Arena() {
  if (base_ == nullptr) return;
  if (device_ == Device::kCuda) {
    kernels::FreeDevice(base_);
  } else if (pinned_) {
    kernels::FreePinned(base_);
  } else {
    munmap(base_, allocated_bytes_);
  }
}

Buffer Arena::Take(std::string_view label, DType dtype, int64_t count) {
  TANREN_CHECK_MSG(count >= 0, "arena ", name_, ", piece ", View(label), ": ", count, " elements");
  const int64_t bytes = count * SizeOf(dtype);
  const int64_t begin = used_bytes_;
  used_bytes_ += (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  if (planning()) {
    high_water_bytes_ = std::max(high_water_bytes_, used_bytes_);
    auto same =
        std::find_if(items_.begin(), items_.end(), [&](const Item& item) { return item.label == label; });
    if (same == items_.end()) {
      items_.push_back({std::string(label), bytes});
    } else {
      same->bytes += bytes;
    }
    return Buffer(nullptr, dtype);
  }
  TANREN_CHECK_MSG(used_bytes_ <= high_water_bytes_, "arena ", name_, ", piece ", View(label), ": ",
                   used_bytes_, " bytes used, ", high_water_bytes_, " planned");
  return Buffer(base_ + begin, dtype);
}

void Arena::Commit() {
  TANREN_CHECK(planning());
  committed_ = true;
  used_bytes_ = 0;
  if (high_water_bytes_ == 0) return;
  allocated_bytes_ = high_water_bytes_;
  if (device_ == Device::kCuda) {
    base_ = static_cast<char*>(kernels::AllocateDevice(allocated_bytes_));
    TANREN_CHECK_MSG(base_ != nullptr, "arena ", name_, ": the device has not ", allocated_bytes_,
                     " bytes left");
    return;
  }
  if (pinned_) {
    base_ = static_cast<char*>(kernels::AllocatePinned(allocated_bytes_));
    TANREN_CHECK_MSG(base_ != nullptr, "arena ", name_, ": the system refuses ", allocated_bytes_,
                     " bytes of page-locked memory");
    std::memset(base_, 0, allocated_bytes_);
    return;
  }
  void* memory = mmap(nullptr, allocated_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  TANREN_CHECK_MSG(memory != MAP_FAILED, "arena ", name_, ": the system refuses ", allocated_bytes_,
                   " bytes");
  // Huge pages cut the address-translation misses of streams over large tensors; a refusal costs only speed.
  madvise(memory, allocated_bytes_, MADV_HUGEPAGE);
  base_ = static_cast<char*>(memory);
}

std::vector<Arena::Item> Arena::Items() const {
  std::vector<Item> sorted = items_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Item& a, const Item& b) { return a.bytes > b.bytes; });
  return sorted;
}

}  // namespace tanren
