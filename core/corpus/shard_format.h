// One file of a token corpus; the grammar is docs/token_shards.md.
#ifndef TANREN_CORE_CORPUS_SHARD_FORMAT_H_
#define TANREN_CORE_CORPUS_SHARD_FORMAT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

inline constexpr int64_t kShardTokensOffset = 4096;  // a page: the tokens are mapped aligned
inline constexpr uint32_t kShardVersion = 1;

// What stands, little endian and in this order, behind the magic in the first 128 bytes.
struct ShardHeader {
  uint32_t version = kShardVersion;
  uint32_t token_bytes = 0;  // 2 or 4
  int64_t vocab_size = 0;
  int64_t first_token = 0;       // of the corpus
  int64_t tokens = 0;            // in this shard
  int64_t first_document = 0;    // the first that begins in this shard
  int64_t documents = 0;         // that begin in this shard
  int64_t documents_offset = 0;  // in the file: their first tokens, as int64, ascending
  int64_t file_bytes = 0;
  uint32_t tokens_crc32c = 0;
  uint32_t documents_crc32c = 0;
};

inline constexpr int64_t kShardHeaderBytes = 128;

// Two bytes where the ids allow it.
inline int TokenBytes(int64_t vocab_size) { return vocab_size <= 65536 ? 2 : 4; }

// The offsets that follow from the counts.
void SetShardLayout(ShardHeader* header);

void EncodeShardHeader(const ShardHeader& header, unsigned char (&bytes)[kShardHeaderBytes]);

// Checks the magic, the header's checksum, the version, and that all numbers agree with each other and with
// the file's real size, without overflow for any bytes.
absl::StatusOr<ShardHeader> DecodeShardHeader(const unsigned char (&bytes)[kShardHeaderBytes],
                                              int64_t file_bytes);

// CRC-32C (Castagnoli), continued from `crc`; start with 0.
uint32_t Crc32c(uint32_t crc, const void* data, int64_t bytes);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SHARD_FORMAT_H_
