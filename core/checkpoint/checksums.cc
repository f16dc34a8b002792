#include "core/checkpoint/checksums.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <limits>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78u;  // Castagnoli, bit-reversed: bit 31 is the coefficient of x^0

// a * b modulo the polynomial, over GF(2).
uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    if (a & bit) product ^= b;
    b = (b & 1u) ? (b >> 1) ^ kPolynomial : b >> 1;
  }
  return product;
}

// x^(8 * bytes) modulo the polynomial, by squaring.
uint32_t PowerOfBytes(uint64_t bytes) {
  uint32_t result = 1u << 31;
  for (uint32_t power = 1u << 23; bytes != 0; bytes >>= 1) {
    if (bytes & 1u) result = Multiply(power, result);
    power = Multiply(power, power);
  }
  return result;
}

}  // namespace

uint32_t Crc32c(const void* data, int64_t bytes, uint32_t crc) {
  // ISA-L's signature takes a mutable pointer and an int length; it does not write.
  auto* next = static_cast<unsigned char*>(const_cast<void*>(data));
  uint32_t state = ~crc;
  while (bytes > 0) {
    const int step = static_cast<int>(std::min<int64_t>(bytes, int64_t{1} << 30));
    state = crc32_iscsi(next, step, state);
    next += step;
    bytes -= step;
  }
  return ~state;
}

uint32_t Crc32cCombine(uint32_t first, uint32_t second, int64_t second_bytes) {
  return Multiply(PowerOfBytes(static_cast<uint64_t>(second_bytes)), first) ^ second;
}

}  // namespace tanren
