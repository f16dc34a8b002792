// Named arenas: the owners of all large memory. Everything else holds non-owning views.
//
// An arena is laid out twice by the same code: first while planning, when Take() only counts and returns
// views without data, then after Commit(), when it hands out the same pieces of one allocation. So the plan
// is exact by construction and nothing is allocated afterwards.
//
//   Arena arena("activations");
//   buffers.Layout(arena);   // planning
//   arena.Commit();          // one allocation of high_water_bytes()
//   buffers.Layout(arena);   // views into it
#ifndef TANREN_CORE_TENSOR_ARENA_H_
#define TANREN_CORE_TENSOR_ARENA_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/types.h"

namespace tanren {

class Arena {
 public:
  static constexpr int64_t kAlignmentBytes = 256;  // a cache line on the CPU, a memory transaction on a GPU

  // `pinned`: page-locked host memory, from which copies to a GPU are fast; only with Device::kCpu.
  explicit Arena(std::string name, Device device = Device::kCpu, bool pinned = false)
      : name_(std::move(name)), device_(device), pinned_(pinned) {}
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&&) = delete;

  const std::string& name() const { return name_; }
  Device device() const { return device_; }
  bool planning() const { return !committed_; }

  // A piece of `count` elements, aligned to 256 bytes; data is null while planning. `label` names the piece
  // in reports. Contents are zero after Commit() and otherwise what the last user left.
  Buffer Take(std::string_view label, DType dtype, int64_t count);
  template <class T>
  T* Take(std::string_view label, int64_t count) {
    return Take(label, kDTypeOf<T>, count).template as<T>();
  }

  // Stack discipline: pieces taken after Mark() are given back by Release(mark) and may be taken again.
  int64_t Mark() const { return used_bytes_; }
  void Release(int64_t mark) { used_bytes_ = mark; }

  // Allocates the high-water mark on the device and starts over from the beginning. Aborts when there is no
  // memory: the plan is checked against the machine before this point.
  void Commit();

  int64_t used_bytes() const { return used_bytes_; }
  int64_t high_water_bytes() const { return high_water_bytes_; }

  struct Item {
    std::string label;
    int64_t bytes = 0;
  };
  // Pieces taken while planning, summed by label, largest first.
  std::vector<Item> Items() const;

 private:
  std::string name_;
  Device device_ = Device::kCpu;
  bool pinned_ = false;
  bool committed_ = false;
  char* base_ = nullptr;
  int64_t allocated_bytes_ = 0;
  int64_t used_bytes_ = 0;
  int64_t high_water_bytes_ = 0;
  std::vector<Item> items_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TENSOR_ARENA_H_
