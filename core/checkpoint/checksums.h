// The two checksums of a checkpoint: CRC32C over data (detects damage), SHA-256 over the manifest (names it).
#ifndef TANREN_CORE_CHECKPOINT_CHECKSUMS_H_
#define TANREN_CORE_CHECKPOINT_CHECKSUMS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/sha256.h"

namespace tanren {

// CRC-32C (Castagnoli; RFC 3720 appendix B.4). `crc` continues an earlier sum: Crc32c(b, Crc32c(a)) is the
// sum of a followed by b.
uint32_t Crc32c(const void* data, int64_t bytes, uint32_t crc = 0);
inline uint32_t Crc32c(std::string_view text, uint32_t crc = 0) {
  return Crc32c(text.data(), static_cast<int64_t>(text.size()), crc);
}

// The sum of a followed by b from the two sums alone, where b holds `second_bytes` bytes.
uint32_t Crc32cCombine(uint32_t first, uint32_t second, int64_t second_bytes);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_CHECKSUMS_H_
