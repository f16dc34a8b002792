// A small array that the host fills or reads and kernels use: on the CPU one memory, on a GPU a pair.
//
// The host side of a pair is ordinary memory, from which a copy to the device is taken before ToDevice()
// returns: it may be written again at once. ToHost() waits for the stream.
#ifndef TANREN_CORE_TENSOR_STAGED_H_
#define TANREN_CORE_TENSOR_STAGED_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/tensor/arena.h"
#include "kernels/device.h"

namespace tanren {

template <class T>
class Staged {
 public:
  Staged() = default;
  Staged(const Staged&) = delete;  // the host side is its own
  Staged& operator=(const Staged&) = delete;

  // Takes the device side from the arena, while planning and after its commit.
  void Layout(Arena& arena, std::string_view label, int64_t count) {
    count_ = count;
    device_ = static_cast<T*>(arena.Take(label, DType::kU8, count * static_cast<int64_t>(sizeof(T))).data);
    host_ = device_;
    if (arena.device() == Device::kCpu) return;
    if (!arena.planning()) memory_.resize(count);
    host_ = memory_.data();
  }

  int64_t count() const { return count_; }
  T* host() const { return host_; }
  T* device() const { return device_; }

  // Elements [begin, begin + count).
  void ToDevice(const Stream& stream, int64_t count, int64_t begin = 0) const {
    if (host_ == device_) return;
    kernels::CopyToDevice(stream, device_ + begin, host_ + begin, count * static_cast<int64_t>(sizeof(T)));
  }
  void ToHost(const Stream& stream, int64_t count, int64_t begin = 0) const {
    if (host_ == device_) return;
    kernels::CopyToHost(stream, host_ + begin, device_ + begin, count * static_cast<int64_t>(sizeof(T)));
  }

 private:
  int64_t count_ = 0;
  T* device_ = nullptr;
  T* host_ = nullptr;
  std::vector<T> memory_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TENSOR_STAGED_H_
