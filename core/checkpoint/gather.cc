#include "core/checkpoint/gather.h"

#include <string.h>
#include <sys/uio.h>

#include <algorithm>
#include <optional>

#include "absl/types/span.h"
#include "core/base/status.h"
#include "core/checkpoint/checksums.h"

namespace tanren {
namespace {

// The first byte of the chunk that any target still needs; `bytes` of the chunk when none does.
int64_t NextByte(const std::vector<GatherTarget>& targets, int64_t element_bytes, int64_t chunk_bytes) {
  int64_t next = chunk_bytes;
  for (const GatherTarget& target : targets) {
    for (const SharedRuns::Cursor& cursor : target.cursors) {
      if (!cursor.done()) next = std::min(next, cursor.run().source * element_bytes);
    }
  }
  return next;
}

// Where the bytes [begin, end) of the chunk go when one cursor needs them all, in pieces long enough that
// reading straight into place beats a copy; else nothing. `cursor` is then that cursor, `after` what it
// becomes.
struct Placement {
  std::vector<iovec> parts;
  SharedRuns::Cursor* cursor = nullptr;
  std::optional<SharedRuns::Cursor> after;
};

void Place(std::vector<GatherTarget>* targets, int64_t element_bytes, int64_t begin, int64_t end,
           Placement* placement) {
  constexpr int64_t kMinPartBytes = 1024, kMaxParts = 1024;  // the latter is the system's limit (IOV_MAX)
  placement->parts.clear();
  placement->cursor = nullptr;
  char* data = nullptr;
  for (GatherTarget& target : *targets) {
    for (SharedRuns::Cursor& cursor : target.cursors) {
      if (cursor.done() || cursor.run().source * element_bytes >= end) continue;
      if (placement->cursor != nullptr) return placement->parts.clear();
      placement->cursor = &cursor;
      data = target.data;
    }
  }
  if (placement->cursor == nullptr) return;
  placement->after = *placement->cursor;
  SharedRuns::Cursor& cursor = *placement->after;
  for (int64_t position = begin; position < end;) {
    if (cursor.done() || cursor.run().source * element_bytes != position) return placement->parts.clear();
    const int64_t count = std::min(cursor.run().count, (end - position) / element_bytes);
    placement->parts.push_back(
        {data + cursor.run().target * element_bytes, static_cast<size_t>(count * element_bytes)});
    const int64_t parts = static_cast<int64_t>(placement->parts.size());
    position += count * element_bytes;
    const bool too_small = parts > 2 && (position - begin) / parts < kMinPartBytes;
    if (parts > kMaxParts || too_small) return placement->parts.clear();
    cursor.Consume(count);
  }
}

void CopyRuns(std::vector<GatherTarget>* targets, int64_t element_bytes, const char* block, int64_t begin,
              int64_t end) {
  for (GatherTarget& target : *targets) {
    for (SharedRuns::Cursor& cursor : target.cursors) {
      while (!cursor.done() && cursor.run().source * element_bytes < end) {
        const SharedRuns::Run& run = cursor.run();
        const int64_t count = std::min(run.count, end / element_bytes - run.source);
        memcpy(target.data + run.target * element_bytes, block + (run.source * element_bytes - begin),
               static_cast<size_t>(count * element_bytes));
        cursor.Consume(count);
      }
    }
  }
}

// Reads into the parts, a little at a time, so that the sum finds the bytes still in the processor's cache.
absl::Status ReadAndSum(const ReadableFile& file, int64_t offset, const std::vector<iovec>& parts,
                        uint32_t* crc) {
  constexpr size_t kStepBytes = 128 << 10;
  std::vector<iovec> step;
  size_t step_bytes = 0;
  const auto flush = [&]() -> absl::Status {
    TANREN_RETURN_IF_ERROR(file.ReadAt(offset, absl::MakeConstSpan(step)));
    for (const iovec& part : step) *crc = Crc32c(part.iov_base, static_cast<int64_t>(part.iov_len), *crc);
    offset += static_cast<int64_t>(step_bytes);
    step.clear();
    step_bytes = 0;
    return absl::OkStatus();
  };
  for (const iovec& part : parts) {
    for (size_t begin = 0; begin < part.iov_len;) {
      const size_t count = std::min(part.iov_len - begin, kStepBytes - step_bytes);
      step.push_back({static_cast<char*>(part.iov_base) + begin, count});
      begin += count;
      step_bytes += count;
      if (step_bytes == kStepBytes) TANREN_RETURN_IF_ERROR(flush());
    }
  }
  return step.empty() ? absl::OkStatus() : flush();
}

}  // namespace

absl::Status CheckBlock(const ReadableFile& file, const ChunkInfo& chunk, int64_t block, int64_t block_bytes,
                        int64_t bytes, uint32_t crc32c) {
  const uint32_t expected = chunk.block_crc32c[static_cast<size_t>(block)];
  if (crc32c == expected) return absl::OkStatus();
  const int64_t begin = chunk.file_offset + block * block_bytes;
  return absl::DataLossError(
      absl::StrFormat("%s: bytes %d to %d (%s) are damaged: CRC32C %08x, written as %08x", file.path(), begin,
                      begin + bytes, chunk.key, crc32c, expected));
}

ChunkGatherer::ChunkGatherer(const Manifest& manifest)
    : manifest_(manifest), scratch_(static_cast<size_t>(manifest.block_bytes)) {}

absl::Status ChunkGatherer::Gather(const ReadableFile& file, const ChunkInfo& chunk,
                                   std::vector<GatherTarget>* targets) {
  const int64_t element_bytes = SizeOf(manifest_.tensors[chunk.tensor].dtype);
  const int64_t chunk_bytes = manifest_.ChunkBytes(chunk);
  const int64_t block_bytes = manifest_.block_bytes;
  Placement placement;
  for (;;) {
    const int64_t next = NextByte(*targets, element_bytes, chunk_bytes);
    if (next >= chunk_bytes) return absl::OkStatus();
    const int64_t block = next / block_bytes;
    const int64_t begin = block * block_bytes, end = std::min(begin + block_bytes, chunk_bytes);
    Place(targets, element_bytes, begin, end, &placement);
    if (placement.parts.empty())
      placement.parts.push_back({scratch_.data(), static_cast<size_t>(end - begin)});
    uint32_t crc = 0;
    TANREN_RETURN_IF_ERROR(ReadAndSum(file, chunk.file_offset + begin, placement.parts, &crc));
    TANREN_RETURN_IF_ERROR(CheckBlock(file, chunk, block, block_bytes, end - begin, crc));
    if (placement.parts[0].iov_base == scratch_.data()) {
      CopyRuns(targets, element_bytes, scratch_.data(), begin, end);
    } else {
      *placement.cursor = *std::move(placement.after);
    }
  }
}

}  // namespace tanren
