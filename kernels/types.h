// Element types, untyped buffers and streams: all that a kernel's signature needs.
//
// Kernels know pointers, sizes and a stream; tensors, models and ranks are floors above.
#ifndef TANREN_KERNELS_TYPES_H_
#define TANREN_KERNELS_TYPES_H_

#include <bit>
#include <cstdint>

#if defined(__CUDACC__)
#define TANREN_HOST_DEVICE __host__ __device__
#else
#define TANREN_HOST_DEVICE
#endif

namespace tanren {

enum class DType : uint8_t { kF32, kBF16, kF16, kF64, kI32, kI64, kU8 };

constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr const char* NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "float64";
    case DType::kI64:
      return "int64";
    case DType::kF32:
      return "float32";
    case DType::kI32:
      return "int32";
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    case DType::kU8:
      return "uint8";
  }
  return "?";
}

// The upper half of a float32. Conversion to it rounds to nearest, ties to even; NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  TANREN_HOST_DEVICE explicit BFloat16(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((word >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
    }
  }
  TANREN_HOST_DEVICE explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};
static_assert(sizeof(BFloat16) == 2);

template <class T>
struct DTypeOfT;
template <>
struct DTypeOfT<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOfT<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOfT<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOfT<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOfT<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOfT<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <class T>
inline constexpr DType kDTypeOf = DTypeOfT<T>::value;

// A non-owning, untyped view of contiguous device or host memory. A default-made buffer is "absent".
struct ConstBuffer {
  const void* data = nullptr;
  DType dtype = DType::kF32;

  ConstBuffer() = default;
  ConstBuffer(const void* pointer, DType type) : data(pointer), dtype(type) {}
  template <class T>
  ConstBuffer(const T* pointer) : data(pointer), dtype(kDTypeOf<T>) {}  // NOLINT: meant to convert

  explicit operator bool() const { return data != nullptr; }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct Buffer {
  void* data = nullptr;
  DType dtype = DType::kF32;

  Buffer() = default;
  Buffer(void* pointer, DType type) : data(pointer), dtype(type) {}
  template <class T>
  Buffer(T* pointer) : data(pointer), dtype(kDTypeOf<T>) {}  // NOLINT: meant to convert

  explicit operator bool() const { return data != nullptr; }
  // What begins at that element; null of null.
  Buffer At(int64_t element) const {
    return Buffer(data == nullptr ? nullptr : static_cast<char*>(data) + element * SizeOf(dtype), dtype);
  }
  operator ConstBuffer() const { return ConstBuffer(data, dtype); }  // NOLINT: meant to convert
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

enum class Device : uint8_t { kCpu, kCuda };

// Where a kernel runs and in which order. On the CPU every call is complete on return; on a GPU it is
// ordered on the stream that `handle` names (a cudaStream_t), which the caller owns.
struct Stream {
  Device device = Device::kCpu;
  void* handle = nullptr;
};

}  // namespace tanren

#endif  // TANREN_KERNELS_TYPES_H_
