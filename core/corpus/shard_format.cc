#include "core/corpus/shard_format.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/status.h"

namespace tanren {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are mapped as they are: little endian");

constexpr char kMagic[8] = {'T', 'A', 'N', 'R', 'E', 'N', 'T', 'S'};
constexpr int64_t kCrcOffset = kShardHeaderBytes - 4;

// One list of the fields, for both directions.
template <class Header, class Visit>
void ForEachField(Header& h, Visit visit) {
  visit(h.version);
  visit(h.token_bytes);
  visit(h.vocab_size);
  visit(h.first_token);
  visit(h.tokens);
  visit(h.first_document);
  visit(h.documents);
  visit(h.documents_offset);
  visit(h.file_bytes);
  visit(h.tokens_crc32c);
  visit(h.documents_crc32c);
}

absl::Status CheckNumbers(const ShardHeader& header, int64_t file_bytes) {
  if (header.token_bytes != 2 && header.token_bytes != 4) {
    return InvalidInput("tokens of %d bytes; 2 and 4 are possible", header.token_bytes);
  }
  if (header.vocab_size < 1 || header.vocab_size > int64_t{1} << 31 ||
      header.token_bytes != TokenBytes(header.vocab_size)) {
    return InvalidInput("a vocabulary of %d with tokens of %d bytes", header.vocab_size, header.token_bytes);
  }
  constexpr int64_t kLimit = int64_t{1} << 58;  // times 8 still fits
  for (const int64_t number : {header.first_token, header.tokens, header.first_document, header.documents}) {
    if (number < 0 || number > kLimit) return InvalidInput("a count or offset of %d", number);
  }
  if (header.tokens == 0) return InvalidInput("a shard without tokens");
  ShardHeader expected = header;
  SetShardLayout(&expected);
  if (expected.documents_offset != header.documents_offset || expected.file_bytes != header.file_bytes) {
    return InvalidInput("the header's offsets do not agree with its %d tokens and %d documents",
                        header.tokens, header.documents);
  }
  if (header.file_bytes != file_bytes) {
    return InvalidInput("the file has %d bytes, but its header says %d: truncated or overwritten", file_bytes,
                        header.file_bytes);
  }
  return absl::OkStatus();
}

}  // namespace

void SetShardLayout(ShardHeader* header) {
  const int64_t tokens_end = kShardTokensOffset + header->tokens * header->token_bytes;
  header->documents_offset = (tokens_end + 7) / 8 * 8;
  header->file_bytes = header->documents_offset + header->documents * 8;
}

void EncodeShardHeader(const ShardHeader& header, unsigned char (&bytes)[kShardHeaderBytes]) {
  std::fill(std::begin(bytes), std::end(bytes), 0);
  std::memcpy(bytes, kMagic, sizeof(kMagic));
  unsigned char* at = bytes + sizeof(kMagic);
  ForEachField(header, [&](const auto& field) {
    std::memcpy(at, &field, sizeof(field));
    at += sizeof(field);
  });
  TANREN_CHECK(at <= bytes + kCrcOffset);
  const uint32_t crc = Crc32c(0, bytes, kCrcOffset);
  std::memcpy(bytes + kCrcOffset, &crc, sizeof(crc));
}

absl::StatusOr<ShardHeader> DecodeShardHeader(const unsigned char (&bytes)[kShardHeaderBytes],
                                              int64_t file_bytes) {
  if (std::memcmp(bytes, kMagic, sizeof(kMagic)) != 0)
    return InvalidInput("not a token shard: its magic is missing");
  ShardHeader header;
  const unsigned char* at = bytes + sizeof(kMagic);
  ForEachField(header, [&](auto& field) {
    std::memcpy(&field, at, sizeof(field));
    at += sizeof(field);
  });
  // Another version may lay out all that follows in another way, its checksum too.
  if (header.version != kShardVersion) {
    return InvalidInput("format version %d; this program reads version %d", header.version, kShardVersion);
  }
  uint32_t crc = 0;
  std::memcpy(&crc, bytes + kCrcOffset, sizeof(crc));
  if (crc != Crc32c(0, bytes, kCrcOffset))
    return InvalidInput("the header is damaged: its checksum does not match");
  TANREN_RETURN_IF_ERROR(CheckNumbers(header, file_bytes));
  return header;
}

uint32_t Crc32c(uint32_t crc, const void* data, int64_t bytes) {
  // The library takes lengths of int and keeps the register inverted.
  crc = ~crc;
  auto* at = static_cast<unsigned char*>(const_cast<void*>(data));  // its signature lacks const
  while (bytes > 0) {
    const int64_t part = std::min<int64_t>(bytes, 1 << 30);
    crc = crc32_iscsi(at, static_cast<int>(part), crc);
    at += part;
    bytes -= part;
  }
  return ~crc;
}

}  // namespace tanren
